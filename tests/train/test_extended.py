"""A finished run that is extended: interrupted on the way and resumed, it ends as the unbroken one, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import Digits
from test_resume import hashes

from raymix.plan import Plan

DigitsOf = Callable[..., Digits]
SHORT, LONG = {"ssl_epochs": 1, "sl_epochs": 1}, {"ssl_epochs": 2, "sl_epochs": 2}


def longer(begun: Digits, asked: Digits) -> Digits:
    """A run that began as one job, resumed as another: its plan is read back as it was written."""
    plan = Plan.model_validate_json(begun.plan.model_dump_json())
    return replace(begun, plan=plan.model_copy(update={"spec": asked.plan.spec, "asked": plan.laid_out_for}))


@pytest.mark.parametrize("ema", [None, "5%"])
@pytest.mark.parametrize("restart", ["never", "phase"])
def test_an_extension_that_is_interrupted_is_the_unbroken_one(
    digits: DigitsOf, restart: str, ema: str | None, tmp_path: Path
) -> None:
    # whether select rows are evaluated goes by measured seconds
    sections: dict[str, Any] = {
        "optim": {"batch": 24, "lr": 2e-3, "restart": restart, "ema": ema},
        "evaluate": {"every": 0},
    }
    begun = digits(schedule=SHORT, **sections)
    more = longer(begun, digits(schedule=LONG, **sections))
    rates, ends = begun.rates(3), {}
    for name, stops in (("whole", []), ("parts", [1, 3])):
        first, _ = begun.run(tmp_path / name, rates=rates)
        assert first.ended == "complete"
        for stop in stops:
            part, _ = more.run(tmp_path / name, stop_after=stop)
            assert part.ended is None
        ends[name], _ = more.run(tmp_path / name)
    whole, parts = ends["whole"], ends["parts"]
    assert whole.ended == parts.ended == "complete"
    assert [r.segment for r in parts.history.reports] == [r.segment for r in whole.history.reports]
    assert [r.segment for r in first.history.reports] == [
        r.segment for r in parts.history.reports[: len(first.history.reports)]
    ]
    assert parts.history.decisions == whole.history.decisions
    assert parts.seen == whole.seen == {name: 2 * rows for name, rows in first.seen.items()}
    assert np.array_equal(parts.correct["raw"], whole.correct["raw"])
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_kinds_that_the_run_did_not_have_are_measured_then(digits: DigitsOf, tmp_path: Path) -> None:
    begun = digits(schedule={"ssl_epochs": 0, "sl_epochs": 1})
    more = longer(begun, digits(schedule={"ssl_epochs": 1, "sl_epochs": 2}))
    begun.run(tmp_path, rates=begun.rates(5))
    outcome, heard = more.run(tmp_path)
    assert outcome.ended == "complete"
    assert [report.segment.kind for report in heard.reports if report.segment.phase == 1]
    assert {report.segment.kind for report in heard.reports} == {"ssl", "mix", "sl"}
    assert set(outcome.history.rates.step_seconds) == {"ssl", "mix", "sl"}
    assert [decision.reason for decision in heard.decisions] == ["extended: 1 SSL and 1 SL epochs more"]
