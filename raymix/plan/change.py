"""A plan that is changed while it is carried out: what is done stays, what is left is laid out anew."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from raymix.plan.curves import cycle
from raymix.plan.turns import Turns, asked, epochs_of, merged, more
from raymix.plan.types import Added, Anchor, Asked, Decision, Kind, Phase, Plan


def changed(plan: Plan, decision: Decision) -> Plan:
    """The plan after a decision.

    Rate and weight go on from where they are: their curves are anchored at the decision's step. An extension begins a
    new cycle there: the rate rises from where it is, and falls over what is added.
    """
    added = decision.extension.phases if decision.extension else ()
    assert len(decision.steps) == len(plan.phases) + len(added)
    phases: list[Phase] = []
    start = 0
    for phase, steps in zip(plan.phases, decision.steps, strict=False):
        done = min(max(decision.step - phase.start, 0), phase.steps)
        assert steps >= done, "what is done cannot be undone"
        phases.append(_changed(plan, phase, start, done, steps))
        start += steps
    for extra, steps in zip(added, decision.steps[len(plan.phases) :], strict=True):
        phases.append(_phase(plan, extra, start, steps))
        start += steps
    at = min(decision.step, start)
    anchor = plan.anchor
    if decision.extension:
        anchor = Anchor(step=at, rate=cycle(plan, at - 1) / plan.spec.optim.lr)
    elif at:
        progress = plan.anchor.progress_at(at, plan.num_steps)
        anchor = plan.anchor.model_copy(update={"step": at, "progress": progress})
    extension = decision.extension or plan.extension
    return plan.model_copy(update={"phases": tuple(phases), "anchor": anchor, "extension": extension})


def followed(plan: Plan, decisions: Iterable[Decision], roll_backs: Iterable[int] = ()) -> Plan:
    """The plan as a run's decisions have left it, and steps to which it went back."""
    found = reduce(changed, decisions, plan)
    return found.model_copy(update={"roll_backs": (*plan.roll_backs, *roll_backs)})


def added_epochs(plan: Plan) -> tuple[Added, ...]:
    """Phases of the epochs that its job asks for beyond those that a plan holds, laid out as a job of their own."""
    ssl, sl = Asked.of(plan.spec).epochs_beyond(plan.laid_out_for)
    if not ssl + sl:
        return ()
    schedule = plan.spec.schedule.model_copy(update={"ssl_epochs": ssl, "sl_epochs": sl})
    found = asked(plan.spec.model_copy(update={"schedule": schedule}), plan.facts)
    numbers = ((phase.kind, sum(steps for _, steps in phase.turns)) for phase in found)
    return tuple(Added(kind=kind, steps=steps) for kind, steps in numbers if steps)


def kinds_to_come(plan: Plan) -> tuple[Kind, ...]:
    """Step kinds that a plan uses, and those of the epochs that will be added to it."""
    added = (_phase(plan, extra, 0, extra.steps) for extra in added_epochs(plan))
    return tuple(dict.fromkeys((*plan.kinds, *(kind for phase in added for kind, _ in phase.turns))))


def _phase(plan: Plan, added: Added, start: int, steps: int) -> Phase:
    turns = merged(more(plan.spec, plan.facts, added.kind, (), steps))
    epochs = epochs_of(plan.spec, plan.facts, added.kind, turns)
    return Phase(kind=added.kind, epochs=epochs, start=start, steps=steps, turns=turns, weight=added.weight)


def _changed(plan: Plan, phase: Phase, start: int, done: int, steps: int) -> Phase:
    spec, facts = plan.spec, plan.facts
    if steps == phase.steps:
        return phase.model_copy(update={"start": start})
    before = _first(phase.turns, done)
    turns = merged((*before, *more(spec, facts, phase.kind, before, steps - done)))
    anchor = phase.anchor
    if done:
        anchor = Anchor(step=done, progress=anchor.progress_at(done, phase.steps))
    return Phase(
        kind=phase.kind,
        epochs=epochs_of(spec, facts, phase.kind, turns),
        start=start,
        steps=steps,
        turns=turns,
        anchor=anchor,
        weight=phase.weight,
    )


def _first(turns: Turns, steps: int) -> Turns:
    """The turns that the first `steps` steps are of; the last one may be cut."""
    taken = []
    for kind, count in turns:
        if steps <= 0:
            break
        taken.append((kind, min(count, steps)))
        steps -= count
    return tuple(taken)
