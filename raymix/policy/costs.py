"""What steps cost and what is left of a budget, from what was measured so far. In seconds, or in FLOPs."""

from __future__ import annotations

from raymix.plan import Kind, Phase, Plan, Segment
from raymix.report.history import History, SegmentReport

RECENT = 8  # reports of a kind that its present cost is taken from


def in_flops(plan: Plan) -> bool:
    """Whether the budget counts operations instead of time."""
    return plan.spec.budget is not None and plan.spec.budget.currency == "flops"


def known(history: History) -> tuple[SegmentReport, ...]:
    """The reports that a decision may look at.

    The segment just before is left out even where it is reported: most often it still runs when the next one is named,
    and a worker group that asks again after a restart should get the answer that was given then.
    """
    return history.reports if history.pending else history.reports[:-1]


def costs(plan: Plan, history: History) -> dict[Kind, float]:
    """One step of each kind: as measured before the first step, corrected by what the last segments took.

    Seconds hold their share of whatever stands between the steps: evaluations, checkpoints, trials.
    """
    if in_flops(plan):
        return dict(history.rates.step_flops)
    base = history.rates.step_seconds
    reports = this_attempt(history)
    everywhere = _factor(reports[-RECENT:], base)
    found: dict[Kind, float] = {}
    for kind, seconds in base.items():
        mine = [report for report in reports if any(name == kind for name, _ in report.segment.pattern)]
        found[kind] = seconds * (_factor(mine[-RECENT:], base) if mine else everywhere)
    steps = sum(report.seconds for report in reports)
    overhead = max(1.0, reports[-1].elapsed / steps) if steps else 1.0
    return {kind: seconds * overhead for kind, seconds in found.items()}


def this_attempt(history: History) -> tuple[SegmentReport, ...]:
    """Its reports so far."""
    return history.reports[history.attempts[-1].reports if history.attempts else 0 :]


def left(plan: Plan, history: History) -> float | None:
    """What the budget has left after the segment that runs now; None: there is none."""
    if not history.attempts or history.attempts[-1].allowance is None:
        return None
    price = costs(plan, history)
    reports = this_attempt(history)
    if in_flops(plan):
        gone = sum(cost_of(report.segment, price) for report in reports)
    else:
        gone = reports[-1].elapsed if reports else 0.0
    return history.attempts[-1].allowance - gone - (cost_of(history.pending, price) if history.pending else 0.0)


def cost_of(segment: Segment, price: dict[Kind, float]) -> float:
    """A segment's steps at a price."""
    return sum(price[kind] * steps for kind, steps in segment.pattern)


def spent(plan: Plan, history: History, index: int) -> float:
    """What a phase has cost so far, the segment that runs now included."""
    price = costs(plan, history)
    mine = [report for report in history.reports if report.segment.phase == index]
    if in_flops(plan):
        total = sum(cost_of(report.segment, price) for report in mine)
    else:
        total = sum(report.cost_seconds for report in mine)
    pending = history.pending
    return total + (cost_of(pending, price) if pending and pending.phase == index else 0.0)


def per_step(phase: Phase, price: dict[Kind, float], done: int) -> float:
    """The mean cost of the steps that a phase has after its first `done` ones; of all, where there are none."""
    turns, before = [], 0
    for kind, steps in phase.turns:
        here = max(0, min(steps, before + steps - done))
        turns.append((kind, here))
        before += steps
    counted = turns if any(steps for _, steps in turns) else list(phase.turns)
    total = sum(steps for _, steps in counted)
    return sum(price[kind] * steps for kind, steps in counted) / total if total else price[phase.kind]


def _factor(reports: tuple[SegmentReport, ...] | list[SegmentReport], base: dict[Kind, float]) -> float:
    """What segments took over what was measured before the first step."""
    expected = sum(cost_of(report.segment, base) for report in reports)
    return sum(report.seconds for report in reports) / expected if expected else 1.0
