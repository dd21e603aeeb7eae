"""From what each phase is to cost to how many steps it has: the arithmetic of every budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from raymix.plan import Decision, Plan
from raymix.policy.costs import costs, left, per_step, spent
from raymix.report.history import History

TOLERANCE = 0.002  # of the allowance: a plan that ends this near to it stays as it is
LAST = 0.05  # of the allowance: when less is left, a plan is put right by a step


def fit(
    plan: Plan, history: History, wants: Sequence[float], reason: str, force: bool = False, stretch: bool = True
) -> Decision | None:
    """The decision that spends what is left in the proportions of what each phase still wants.

    Args:
        wants: What each phase is to cost in all, in the currency of the budget.
        force: Also where the present plan ends near enough to the allowance.
        stretch: Phases may get more than they want, where the budget has more; less they get in any case.
    """
    at = history.next_step
    if at >= plan.num_steps > 0:
        return None
    price, done = costs(plan, history), _done(plan, at)
    units = [per_step(phase, price, so_far) for phase, so_far in zip(plan.phases, done, strict=True)]
    over = {index for index, phase in enumerate(plan.phases) if phase.start + phase.steps <= at and phase.steps}
    needs = [0.0 if i in over else max(0.0, want - spent(plan, history, i)) for i, want in enumerate(wants)]
    rest = left(plan, history)
    if rest is None or (not stretch and rest > sum(needs)):
        rest = sum(needs)
    steps, rest_of = list(done), max(0.0, rest)
    factor = rest_of / sum(needs) if sum(needs) else 0.0
    last = max((i for i, need in enumerate(needs) if need), default=len(steps) - 1)
    for index, need in enumerate(needs):
        # the last takes what rounding left
        count = math.floor(rest_of / units[index] + 1e-9) if index == last else round(factor * need / units[index])
        steps[index] += max(0, count)
        rest_of -= max(0, count) * units[index]
    return _worth(plan, history, tuple(steps), done, units, rest, reason, force)


def _worth(
    plan: Plan,
    history: History,
    steps: tuple[int, ...],
    done: list[int],
    units: list[float],
    rest: float,
    reason: str,
    force: bool,
) -> Decision | None:
    """The decision, where the present plan misses the allowance by more than it may."""
    present = sum((p.steps - so_far) * unit for p, so_far, unit in zip(plan.phases, done, units, strict=True))
    allowance = (history.attempts[-1].allowance if history.attempts else None) or rest
    largest = max(units)
    allowed = largest if rest < LAST * allowance else max(largest, TOLERANCE * allowance)
    at = history.next_step
    if steps == tuple(phase.steps for phase in plan.phases) or (not force and abs(present - rest) <= allowed):
        return None
    if sum(steps) == at and at:  # nothing more fits: the run is over, and the plan says so
        reason = f"{reason}; nothing more fits"
    return Decision(step=at, steps=steps, reason=reason)


def _done(plan: Plan, at: int) -> list[int]:
    """Steps of each phase before a global step."""
    return [min(max(at - phase.start, 0), phase.steps) for phase in plan.phases]
