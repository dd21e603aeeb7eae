"""Where a run stands, as people are told: its step, the time left, the figures that are known."""

from __future__ import annotations

from dataclasses import dataclass, field

from raymix.plan import Decision, Plan, changed, pattern
from raymix.report import words
from raymix.report.history import History, SegmentReport


@dataclass
class Progress:
    """Where a run stands."""

    name: str
    plan: Plan
    history: History
    last: SegmentReport | None = None
    select_top1: float | None = None
    _reason: str = ""
    _seconds: float = field(default=0.0)
    _expected: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.step = self.history.done_steps
        for report in self.history.reports:
            self.select_top1 = self.select_top1 if report.select_top1 is None else report.select_top1

    def decide(self, decision: Decision) -> bool:
        """The plan is changed; whether for another reason than the last time, which need not be told again."""
        self.plan = changed(self.plan, decision)
        before, self._reason = self._reason, decision.reason
        return before != decision.reason

    def add(self, report: SegmentReport) -> None:
        """One more segment is done."""
        self.last, self.step = report, report.segment.start + report.segment.steps
        if report.select_top1 is not None:
            self.select_top1 = report.select_top1
        rates = self.history.rates.step_seconds
        self._seconds += report.seconds
        self._expected += sum(rates.get(kind, 0.0) * steps for kind, steps in report.segment.pattern)

    @property
    def share(self) -> float:
        """Of the steps, those done; a budget may leave a plan none."""
        return self.step / max(1, self.plan.num_steps)

    @property
    def length(self) -> str:
        """All steps, and those of each phase."""
        phases = ", ".join(f"{phase.kind} {words.count(phase.steps)}" for phase in self.plan.phases)
        return f"{words.count(self.plan.num_steps)} steps ({phases})"

    @property
    def phase(self) -> str:
        """Kind of the phase that the next step belongs to; of the last phase at the end."""
        return self.plan.phases[self.plan.phase_at(min(self.step, self.plan.num_steps - 1))].kind

    def remaining_seconds(self) -> float | None:
        """Seconds of the steps to come, by the rates of their kinds, scaled by how those have held so far."""
        rates = self.history.rates.step_seconds
        left = 0.0
        for phase in self.plan.phases:
            start = max(self.step, phase.start)
            steps = phase.start + phase.steps - start
            for kind, count in pattern(self.plan, start, steps) if steps > 0 else ():
                if kind not in rates:
                    return None
                left += rates[kind] * count
        return left * (self._seconds / self._expected if self._expected else 1.0)

    def figures(self) -> list[str]:
        """Loss, speed, top-1 on select: those that are known."""
        found = []
        if self.last is not None:
            losses = (("ssl loss", self.last.ssl_loss), ("sl loss", self.last.sl_loss))
            found += [f"{name} {value:.3f}" for name, value in losses if value is not None]
            if self.last.seconds:
                found.append(f"{words.count(self.last.images / self.last.seconds)} img/s")
        if self.select_top1 is not None:
            found.append(f"select {words.percent(self.select_top1)}")
        return found
