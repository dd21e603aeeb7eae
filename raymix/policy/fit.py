"""From what each phase is to cost to how many steps it has: the arithmetic of every budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raymix.plan import Decision
from raymix.policy.costs import Outlook, per_step

TOLERANCE = 0.002  # of the allowance: a plan that ends this near to it stays as it is
LAST = 0.05  # of the allowance: when less is left, a plan is put right by a step


def fit(
    outlook: Outlook, wants: Sequence[float], reason: str, force: bool = False, stretch: bool = True
) -> Decision | None:
    """The decision that spends what is left in the proportions of what each phase still wants.

    Args:
        wants: What each phase is to cost in all, in the currency of the budget.
        force: Also where the present plan ends near enough to the allowance.
        stretch: Phases may get more than they want, where the budget has more; less they get in any case.
    """
    plan, at = outlook.plan, outlook.history.next_step
    if at >= plan.num_steps > 0:
        return None
    units = [per_step(phase, outlook.price, done) for phase, done in zip(plan.phases, outlook.done, strict=True)]
    needs = [
        0.0 if outlook.is_over(phase) else max(0.0, want - spent)
        for phase, want, spent in zip(plan.phases, wants, outlook.spent, strict=True)
    ]
    rest = outlook.left
    if rest is None or (not stretch and rest > sum(needs)):
        rest = sum(needs)
    more = _steps(needs, units, max(0.0, rest))
    steps = tuple(done + count for done, count in zip(outlook.done, more, strict=True))
    if steps == tuple(phase.steps for phase in plan.phases) or not (force or _misses(outlook, units, rest)):
        return None
    if sum(steps) == at and at:  # the run is over, and the plan says so
        reason = f"{reason}; nothing more fits"
    return Decision(step=at, steps=steps, reason=reason)


def _steps(needs: list[float], units: list[float], rest: float) -> list[int]:
    """Steps that spend `rest` in proportion to the needs; the last phase takes what rounding leaves."""
    factor = rest / sum(needs) if sum(needs) else 0.0
    last = max((index for index, need in enumerate(needs) if need), default=len(needs) - 1)
    steps = []
    for index, need in enumerate(needs):
        count = math.floor(rest / units[index] + 1e-9) if index == last else round(factor * need / units[index])
        steps.append(max(0, count))
        rest -= steps[-1] * units[index]
    return steps


def _misses(outlook: Outlook, units: list[float], rest: float) -> bool:
    """Whether the present plan misses what is left by more than it may."""
    ahead = (phase.steps - done for phase, done in zip(outlook.plan.phases, outlook.done, strict=True))
    present = sum(count * unit for count, unit in zip(ahead, units, strict=True))
    allowance, largest = outlook.allowance or rest, max(units)
    allowed = largest if rest < LAST * allowance else max(largest, TOLERANCE * allowance)
    return abs(present - rest) > allowed
