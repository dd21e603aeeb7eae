"""What steps cost and what is left of a budget, from what was measured so far. In seconds, or in FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from raymix.plan import Kind, Phase, Plan, Segment
from raymix.report.history import History, SegmentReport

RECENT = 8  # reports of a kind that its present cost is taken from


def known(history: History) -> tuple[SegmentReport, ...]:
    """The reports that a decision may look at.

    The segment just before is left out even where it is reported: most often it still runs when the next one is named,
    and a worker group that asks again after a restart should get the answer that was given then.
    """
    return history.reports if history.pending else history.reports[:-1]


class Outlook:
    """A plan and what was measured of it: prices, what was spent, what is left. Worked out once a question."""

    def __init__(self, plan: Plan, history: History) -> None:
        self.plan, self.history = plan, history
        budget = plan.spec.budget
        self.in_flops = budget is not None and budget.currency == "flops"
        self.allowance = history.attempts[-1].allowance if history.attempts else None

    @cached_property
    def price(self) -> dict[Kind, float]:
        """One step of each kind: as measured before the first step, corrected by what the last segments took.

        Seconds hold their share of what stands between the steps: evaluations, checkpoints.
        """
        if self.in_flops:
            return dict(self.history.rates.step_flops)
        base, reports = self.history.rates.step_seconds, self._this_attempt
        everywhere = _factor(reports[-RECENT:], base)
        found = {}
        for kind, seconds in base.items():
            mine = _last_with(reports, kind)
            found[kind] = seconds * (_factor(mine, base) if mine else everywhere)
        steps = sum(report.seconds for report in reports)
        trials = sum(report.trial_seconds for report in reports)  # a few at the start, which do not go on
        overhead = max(1.0, (reports[-1].elapsed - trials) / steps) if steps else 1.0
        return {kind: seconds * overhead for kind, seconds in found.items()}

    @cached_property
    def left(self) -> float | None:
        """What the budget has left after the segment that runs now; None: there is none."""
        if self.allowance is None:
            return None
        if self.in_flops:
            return self.allowance - sum(self.spent)
        reports, pending = self._this_attempt, self.history.pending
        gone = reports[-1].elapsed if reports else 0.0
        return self.allowance - gone - (self.cost_of(pending) if pending else 0.0)

    @cached_property
    def spent(self) -> list[float]:
        """What each phase has cost so far, the segment that runs now included."""
        found = [0.0] * len(self.plan.phases)
        for report in self.history.reports:
            cost = self.cost_of(report.segment) if self.in_flops else report.cost_seconds
            found[report.segment.phase] += cost
        if pending := self.history.pending:
            found[pending.phase] += self.cost_of(pending)
        return found

    @cached_property
    def done(self) -> list[int]:
        """Steps of each phase before the next segment."""
        at = self.history.next_step
        return [min(max(at - phase.start, 0), phase.steps) for phase in self.plan.phases]

    def is_over(self, phase: Phase) -> bool:
        """Whether the next segment comes after a phase."""
        return bool(phase.steps) and phase.start + phase.steps <= self.history.next_step

    def cost_of(self, segment: Segment) -> float:
        """A segment's steps at today's price."""
        return at_price(segment, self.price)

    @property
    def _this_attempt(self) -> tuple[SegmentReport, ...]:
        attempts = self.history.attempts
        return self.history.reports[attempts[-1].reports if attempts else 0 :]


def at_price(segment: Segment, price: dict[Kind, float]) -> float:
    """A segment's steps at a price."""
    return sum(price[kind] * steps for kind, steps in segment.pattern)


def per_step(phase: Phase, price: dict[Kind, float], done: int) -> float:
    """The mean cost of the steps that a phase has after its first `done` ones; of all, where there are none."""
    ahead, before = [], 0
    for kind, steps in phase.turns:
        ahead.append((kind, max(0, min(steps, before + steps - done))))
        before += steps
    counted = ahead if before > done else phase.turns
    total = sum(steps for _, steps in counted)
    return sum(price[kind] * steps for kind, steps in counted) / total if total else price[phase.kind]


def _last_with(reports: Sequence[SegmentReport], kind: Kind) -> list[SegmentReport]:
    """The last reports of segments with steps of a kind."""
    found: list[SegmentReport] = []
    for report in reversed(reports):
        if any(name == kind for name, _ in report.segment.pattern):
            found.append(report)
            if len(found) == RECENT:
                break
    return found


def _factor(reports: Sequence[SegmentReport], base: dict[Kind, float]) -> float:
    """What segments took over what was measured before the first step."""
    expected = sum(at_price(report.segment, base) for report in reports)
    return sum(report.seconds for report in reports) / expected if expected else 1.0
