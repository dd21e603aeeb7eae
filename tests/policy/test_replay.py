"""A repeated run names what was named, whatever steps cost now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulated import SECONDS, Run, rates_of

from raymix.plan import Plan, Replay

POLICIES: dict[str, dict[str, Any]] = {
    "fixed": {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.5},
    "budgeted": {"policy": "budgeted", "shares": {"ssl": 0.3, "mix": 0.3, "sl": 0.4}},
    "adaptive": {"policy": "adaptive"},
}


@pytest.mark.parametrize("name", POLICIES)
def test_segments_and_decisions_are_those_of_the_run(plan_of: Callable[..., Plan], name: str) -> None:
    budget = {} if name == "fixed" else {"budget": {"training": 60.0}}
    plan = plan_of(2000, schedule=POLICIES[name], **budget)
    allowance = 60.0 if budget else None
    first = Run(plan, rates_of(), allowance, lambda kind, at: SECONDS[kind] * (1.5 if 20 < at < 40 else 1))
    segments = tuple((s.start + s.steps, s.evaluate, s.trial) for s in (r.segment for r in first.history.reports))
    assert first.end is not None
    told = Replay(segments=segments, decisions=first.history.decisions, ended=first.end)
    again = Run(plan.model_copy(update={"replay": told}), rates_of(ssl=9), 1.0, lambda kind, at: 7 * SECONDS[kind])
    assert [r.segment for r in again.history.reports] == [r.segment for r in first.history.reports]
    assert (again.history.decisions, again.end) == (first.history.decisions, first.end)
    assert bool(first.history.decisions) == bool(budget)
