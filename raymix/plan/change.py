"""A plan that is changed while it is carried out: what is done stays, what is left is laid out anew."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from raymix.plan.turns import Turns, epochs_of, merged, more
from raymix.plan.types import Anchor, Decision, Phase, Plan


def changed(plan: Plan, decision: Decision) -> Plan:
    """The plan after a decision.

    Rate and weight go on from where they are: their curves are anchored at the decision's step.
    """
    phases: list[Phase] = []
    start = 0
    for phase, steps in zip(plan.phases, decision.steps, strict=True):
        done = min(max(decision.step - phase.start, 0), phase.steps)
        assert steps >= done, "what is done cannot be undone"
        phases.append(_changed(plan, phase, start, done, steps))
        start += steps
    at = min(decision.step, start)
    anchor = plan.anchor if not at else Anchor(step=at, progress=plan.anchor.progress_at(at, plan.num_steps))
    return plan.model_copy(update={"phases": tuple(phases), "anchor": anchor})


def followed(plan: Plan, decisions: Iterable[Decision]) -> Plan:
    """The plan as a run's decisions have left it."""
    return reduce(changed, decisions, plan)


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
