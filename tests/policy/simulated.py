"""A run whose steps take what a function says, whatever was measured before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raymix.plan import Plan, changed, followed
from raymix.policy import name_next
from raymix.report.history import History, Rates, SegmentReport

SECONDS = {"ssl": 0.04, "mix": 0.05, "sl": 0.06, "sl_drop": 0.045}


def rates_of(**seconds: float) -> Rates:
    flops = {kind: 1e9 * cost for kind, cost in SECONDS.items()}
    return Rates.model_validate({"step_seconds": {**SECONDS, **seconds}, "step_flops": flops})


class Run:
    """A run whose steps take what `seconds_of` says, whatever was measured before."""

    def __init__(
        self,
        plan: Plan,
        rates: Rates,
        allowance: float | None,
        noise: Callable[[str, float], float],
        before: History | None = None,
    ) -> None:
        """`before`: what the run that is resumed ended with; `plan` is as it began."""
        self.begun, self.seconds, self.end = plan, 0.0, None
        self.history = (before or History(rates=rates)).begin(allowance)
        self.plan = plan = followed(plan, self.history.decisions)
        self.by_kind = dict.fromkeys(("ssl", "mix", "sl"), 0.0)
        pending = name_next(plan, self.history)
        while True:
            if pending.decision is not None:
                self.plan = changed(self.plan, pending.decision)
                self.history = self.history.decide(pending.decision)
            if pending.segment is None:
                self.end = pending.end
                return
            running = pending.segment
            # asked one segment ahead, as workers do
            pending = name_next(self.plan, self.history.expect(running))
            took = sum(noise(kind, self.seconds) * steps for kind, steps in running.pattern)
            self.seconds += took
            self.by_kind[running.kind] += took
            self.history = self.history.add(report_of(running, took, self.seconds))


def report_of(segment: Any, seconds: float, elapsed: float, **told: Any) -> SegmentReport:
    return SegmentReport(
        segment=segment, seconds=seconds, data_seconds=0, images=0, labelled=0, ssl_loss=None, sl_loss=None,
        elapsed=elapsed, **told,
    )  # fmt: skip
