"""What each policy wants each phase to cost, and the decisions that follow while a run goes on.

A policy looks at what is known and answers with a Decision, or None where the present plan is good enough.
"""

from __future__ import annotations

from collections.abc import Callable

from raymix.plan import Decision, Plan, resolve
from raymix.policy.adaptive import adaptive
from raymix.policy.costs import costs, left, per_step, spent
from raymix.policy.fit import fit
from raymix.report.history import History
from raymix.spec import BudgetedSchedule, PhasesSchedule

Decide = Callable[[Plan, History], Decision | None]


def fixed(plan: Plan, history: History) -> Decision | None:
    """The epochs asked for; where a budget does not hold them, SSL ends early and the SL phase stays whole."""
    budget, rest = plan.spec.budget, left(plan, history)
    if budget is None or budget.on_exhausted == "stop" or rest is None:
        return None
    price, at = costs(plan, history), history.next_step
    ahead = []  # what was asked for and is not done, also where an earlier decision left it out
    for phase, asked in zip(plan.phases, resolve(plan.spec, plan.facts).phases, strict=True):
        done = min(max(at - phase.start, 0), phase.steps)
        over = phase.steps and phase.start + phase.steps <= at
        ahead.append(0.0 if over else (asked.steps - done) * per_step(phase, price, done))
    if sum(ahead) <= rest and not history.decisions:
        return None
    tail = sum(cost for phase, cost in zip(plan.phases, ahead, strict=True) if phase.kind == "sl")
    others = sum(ahead) - tail
    kept = min(1.0, max(0.0, rest - tail) / others) if others else 1.0
    wants = [
        spent(plan, history, index) + cost * (1.0 if phase.kind == "sl" else kept)
        for index, (phase, cost) in enumerate(zip(plan.phases, ahead, strict=True))
    ]
    reason = "the budget holds fewer epochs than were asked for: SSL ends earlier"
    return fit(plan, history, wants, reason, stretch=False)


def budgeted(plan: Plan, history: History) -> Decision | None:
    """The whole budget, by shares or in the proportions of the epochs asked for."""
    rest = left(plan, history)
    if rest is None:
        return None
    schedule = plan.spec.schedule
    assert isinstance(schedule, BudgetedSchedule)
    whole = rest + sum(spent(plan, history, index) for index in range(len(plan.phases)))
    price = costs(plan, history)
    if schedule.shares is not None:
        parts = [getattr(schedule.shares, phase.kind) for phase in plan.phases]
    else:
        asked = resolve(plan.spec, plan.facts).phases
        parts = [phase.steps * per_step(phase, price, 0) for phase in asked]
    wants = [whole * part / sum(parts) for part in parts]
    return fit(plan, history, wants, history.why("epochs by measured step times"), force=history.plans_anew)


def phases(plan: Plan, history: History) -> Decision | None:
    """A list of phases: epochs and steps as they are, time and percentages by what steps take."""
    schedule, rest = plan.spec.schedule, left(plan, history)
    assert isinstance(schedule, PhasesSchedule)
    units = {phase.duration.unit for phase in schedule.phases}
    stops = plan.spec.budget is not None and plan.spec.budget.on_exhausted == "stop"
    if units <= {"epochs", "steps"} and (rest is None or stops):
        return None
    price = costs(plan, history)
    asked = resolve(plan.spec, plan.facts).phases
    wants: list[float | None] = []
    for phase, listed in zip(asked, schedule.phases, strict=True):
        by_unit = {
            "epochs": phase.steps * per_step(phase, price, 0),
            "steps": phase.steps * per_step(phase, price, 0),
            "seconds": listed.duration.amount,
        }
        wants.append(by_unit.get(listed.duration.unit))
    shares = [phase.duration.amount for phase in schedule.phases]
    fixed_part = sum(want for want in wants if want is not None)
    of_shares = sum(
        share for share, phase in zip(shares, schedule.phases, strict=True) if phase.duration.unit == "share"
    )
    if rest is None:
        whole = fixed_part / (1 - of_shares)
    else:
        whole = rest + sum(spent(plan, history, index) for index in range(len(plan.phases)))
    over = max(0.0, whole * (1 - of_shares) - fixed_part)
    for index, listed in enumerate(schedule.phases):
        if listed.duration.unit == "share":
            wants[index] = shares[index] * whole
        elif listed.duration.unit == "rest":
            wants[index] = over
    reason, stretch = history.why("lengths by measured step times"), "rest" in units
    return fit(plan, history, [want or 0.0 for want in wants], reason, force=history.plans_anew, stretch=stretch)


DECIDE: dict[str, Decide] = {"fixed": fixed, "budgeted": budgeted, "phases": phases, "adaptive": adaptive}
