"""What each policy wants each phase to cost, and the decisions that follow while a run goes on.

A policy looks at what is known and answers with a Decision, or None where the present plan is good enough.
"""

from __future__ import annotations

from collections.abc import Callable

from raymix.plan import Decision, resolve
from raymix.policy.adaptive import adaptive
from raymix.policy.costs import Outlook, per_step
from raymix.policy.fit import fit
from raymix.spec import BudgetedSchedule, PhasesSchedule

Decide = Callable[[Outlook], Decision | None]


def fixed(outlook: Outlook) -> Decision | None:
    """The epochs asked for; where a budget does not hold them, SSL ends early and the SL phase stays whole."""
    plan, rest = outlook.plan, outlook.left
    budget = plan.spec.budget
    if budget is None or budget.on_exhausted == "stop" or rest is None:
        return None
    ahead = []  # what was asked for and is not done, also where an earlier decision left it out
    for phase, asked, done in zip(plan.phases, resolve(plan.spec, plan.facts).phases, outlook.done, strict=True):
        steps = 0 if outlook.is_over(phase) else asked.steps - done
        ahead.append(steps * per_step(phase, outlook.price, done))
    if sum(ahead) <= rest and not outlook.history.decisions:
        return None
    tail = sum(cost for phase, cost in zip(plan.phases, ahead, strict=True) if phase.kind == "sl")
    others = sum(ahead) - tail
    kept = min(1.0, max(0.0, rest - tail) / others) if others else 1.0
    wants = [
        spent + cost * (1.0 if phase.kind == "sl" else kept)
        for phase, spent, cost in zip(plan.phases, outlook.spent, ahead, strict=True)
    ]
    return fit(outlook, wants, "the budget holds fewer epochs than were asked for: SSL ends earlier", stretch=False)


def budgeted(outlook: Outlook) -> Decision | None:
    """The whole budget, by shares or in the proportions of the epochs asked for."""
    plan, history, rest = outlook.plan, outlook.history, outlook.left
    if rest is None:
        return None
    schedule = plan.spec.schedule
    assert isinstance(schedule, BudgetedSchedule)
    if schedule.shares is not None:
        parts = [getattr(schedule.shares, phase.kind) for phase in plan.phases]
    else:
        asked = resolve(plan.spec, plan.facts).phases
        parts = [phase.steps * per_step(phase, outlook.price, 0) for phase in asked]
    whole = rest + sum(outlook.spent)
    wants = [whole * part / sum(parts) for part in parts]
    return fit(outlook, wants, history.why("epochs by measured step times"), force=history.plans_anew)


def phases(outlook: Outlook) -> Decision | None:
    """A list of phases: epochs and steps as they are, time and percentages by what steps take."""
    plan, history, rest = outlook.plan, outlook.history, outlook.left
    schedule = plan.spec.schedule
    assert isinstance(schedule, PhasesSchedule)
    units = {listed.duration.unit for listed in schedule.phases}
    stops = plan.spec.budget is not None and plan.spec.budget.on_exhausted == "stop"
    if units <= {"epochs", "steps"} and (rest is None or stops):
        return None
    lengths = [listed.duration for listed in schedule.phases]
    known = [
        phase.steps * per_step(phase, outlook.price, 0) if length.unit in ("epochs", "steps") else length.amount
        for phase, length in zip(resolve(plan.spec, plan.facts).phases, lengths, strict=True)
    ]
    of_time = sum(cost for cost, length in zip(known, lengths, strict=True) if length.unit not in ("share", "rest"))
    of_shares = sum(length.amount for length in lengths if length.unit == "share")
    whole = of_time / (1 - of_shares) if rest is None else rest + sum(outlook.spent)
    by_share = {"share": whole, "rest": 0.0}
    wants = [cost * by_share.get(length.unit, 1.0) for cost, length in zip(known, lengths, strict=True)]
    if "rest" in units:
        wants[[length.unit for length in lengths].index("rest")] = max(0.0, whole - sum(wants))
    reason = history.why("lengths by measured step times")
    return fit(outlook, wants, reason, force=history.plans_anew, stretch="rest" in units)


DECIDE: dict[str, Decide] = {"fixed": fixed, "budgeted": budgeted, "phases": phases, "adaptive": adaptive}
