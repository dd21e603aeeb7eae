"""A run that is over goes on: phases after its last one, for more epochs or for a larger budget.

What is done stays as it was, and nothing can be put between. So more epochs are laid out as a job of their own, and
what a budget has more is spent in the proportions of the last round of phases; each such round has a rate cycle of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence

from raymix.plan import Added, Asked, Decision, Extension, Plan, added_epochs, changed
from raymix.policy.costs import Outlook, per_step
from raymix.policy.fit import fit


def extended(outlook: Outlook) -> Decision | None:
    """What follows the last phase, where the job asks for more than its plan was laid out for."""
    plan, history = outlook.plan, outlook.history
    if outlook.left is not None and outlook.left < min(outlook.price.values()):
        return None
    asked = Asked.of(plan.spec)
    phases, reason = added_epochs(plan), _epochs_reason(*asked.epochs_beyond(plan.laid_out_for))
    fills = not phases
    if fills:
        if not _has_more_to_spend(outlook):
            return None
        phases, reason = _round_again(outlook), "extended: the budget is larger"
    steps = tuple(phase.steps for phase in plan.phases)
    extension = Extension(asked=asked, phases=phases, fills=fills)
    made = Decision(
        step=history.next_step, steps=(*steps, *(added.steps for added in phases)), reason=reason, extension=extension
    )
    fitted = lengths(Outlook(changed(plan, made), history))
    made = made if fitted is None else made.model_copy(update={"steps": fitted.steps})
    return made if sum(made.steps) > made.step else None


def lengths(outlook: Outlook) -> Decision | None:
    """The phases that an extension added, put right by what steps cost."""
    plan, history, rest = outlook.plan, outlook.history, outlook.left
    extension, budget = plan.extension, plan.spec.budget
    assert extension is not None
    if rest is None or budget is None or (budget.on_exhausted == "stop" and not extension.fills):
        return None
    before = len(plan.phases) - len(extension.phases)
    asked = zip(extension.phases, plan.last_round, strict=True)
    wants = [added.steps * per_step(phase, outlook.price, 0) for added, phase in asked]
    if extension.fills:
        whole = rest + sum(outlook.spent[before:])
        wants = [whole * want / sum(wants) for want in wants]
    reason = history.why("the extension by measured step times")
    wants = [*outlook.spent[:before], *wants]
    return fit(outlook, wants, reason, force=history.plans_anew, stretch=extension.fills)


def is_cut(plan: Plan, decisions: Sequence[Decision]) -> bool:
    """Whether it is a budget that says how long a plan is."""
    if plan.spec.budget is None:
        return False
    if added_epochs(plan):  # none of them fits
        return True
    if not decisions:
        return False
    extension = plan.extension
    if extension is None or extension.fills:
        return True
    return [phase.steps for phase in plan.last_round] != [added.steps for added in extension.phases]


def _has_more_to_spend(outlook: Outlook) -> bool:
    """Whether the run ended with its budget, and is resumed with a larger one. A plan that has just ended is whole."""
    plan, history = outlook.plan, outlook.history
    resumed = bool(history.attempts) and history.attempts[-1].reports == len(history.reports)
    larger = Asked.of(plan.spec).has_more_budget_than(plan.laid_out_for)
    return resumed and larger and is_cut(plan, history.decisions)


def _round_again(outlook: Outlook) -> tuple[Added, ...]:
    """The last round of phases, as long as the budget holds."""
    phases = [phase for phase in outlook.plan.last_round if phase.steps]
    cost = sum(phase.steps * per_step(phase, outlook.price, 0) for phase in phases)
    factor = max(0.0, outlook.left or 0.0) / cost
    return tuple(
        Added(kind=phase.kind, steps=max(1, round(factor * phase.steps)), weight=phase.weight) for phase in phases
    )


def _epochs_reason(ssl: float, sl: float) -> str:
    told = [f"{epochs:g} {side}" for epochs, side in ((ssl, "SSL"), (sl, "SL")) if epochs]
    return f"extended: {' and '.join(told)} epochs more"
