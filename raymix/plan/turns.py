"""From what a schedule asks for to its phases: turns of step kinds with their numbers of steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import NamedTuple

from raymix.plan.types import Facts, Kind, PhaseKind
from raymix.spec import MIX_KINDS, AdaptiveSchedule, JobError, JobSpec, Mae, PhasesSchedule, Weight

Turns = tuple[tuple[Kind, int], ...]
_NOMINAL_EPOCHS = 200.0  # of a run whose length only its budget says, until the steps' costs are known


class Asked(NamedTuple):
    """A phase as it is asked for; steps may be 0."""

    kind: PhaseKind
    epochs: float
    turns: Turns
    weight: Weight | None = None


def asked(spec: JobSpec, facts: Facts) -> Iterator[Asked]:
    """The phases of a schedule. Where a budget or a clock decides, a first guess that `raymix.policy` puts right."""
    schedule = spec.schedule
    if isinstance(schedule, PhasesSchedule):
        yield from _listed(spec, schedule, facts)
    elif isinstance(schedule, AdaptiveSchedule):
        yield from _shared(spec, facts, {"ssl": 0.3, "mix": 0.7 - schedule.tail, "sl": schedule.tail})
    elif schedule.policy == "budgeted" and schedule.shares is not None:
        shares = schedule.shares
        yield from _shared(spec, facts, {"ssl": shares.ssl, "mix": shares.mix, "sl": shares.sl})
    else:
        yield from _merged(spec, facts)


def more(spec: JobSpec, facts: Facts, kind: PhaseKind, before: Turns, steps: int) -> Turns:
    """The turns of `steps` further steps of a phase, of which the turns `before` are done."""
    schedule = spec.schedule
    if steps <= 0:
        return ()
    if kind == "mix" and schedule.interleave == "alternate":
        ssl = round(steps * facts.num_train / (facts.num_train + facts.num_labelled))
        return alternate(ssl, steps - ssl, schedule.alternate_steps, ssl * spec.batch / facts.num_train)
    if kind == "sl" and schedule.sl_drop:
        done, dropped = (sum(n for name, n in before if name == of) for of in ("sl", "sl_drop"))
        more_dropped = min(steps, max(0, round(schedule.sl_drop * (done + dropped + steps)) - dropped))
        return (("sl_drop", more_dropped), ("sl", steps - more_dropped))
    return _in_parts(spec, before, steps) if kind == "mix" else ((kind, steps),)


def _in_parts(spec: JobSpec, before: Turns, steps: int) -> Turns:
    """Mix steps after those done: one kind, or one for each of the equal parts whose mask ratios a job lists."""
    num = len(spec.objective.mix_ratios) if isinstance(spec.objective, Mae) else 1
    done = sum(count for _, count in before)
    ends = [max(done, round((done + steps) * (part + 1) / num)) for part in range(num)]
    return tuple((MIX_KINDS[part], end - start) for part, (start, end) in enumerate(pairwise([done, *ends])))


def merged(turns: Iterable[tuple[Kind, int]]) -> Turns:
    """The same turns without empty ones; those of one kind that follow each other are one."""
    taken = groupby((turn for turn in turns if turn[1]), key=lambda turn: turn[0])
    return tuple((name, sum(steps for _, steps in group)) for name, group in taken)


def epochs_of(spec: JobSpec, facts: Facts, kind: PhaseKind, turns: Turns) -> float:
    """Passes over the phase's source: all images, in sl phases the labelled ones."""
    if kind == "sl":
        return sum(steps for _, steps in turns) * spec.batch / max(1, facts.num_labelled)
    return sum(steps for name, steps in turns if name == "ssl" or name in MIX_KINDS) * spec.batch / facts.num_train


def alternate(ssl: int, sl: int, turn: int | None, epochs: float) -> tuple[tuple[Kind, int], ...]:
    """SSL and SL steps in turns: whole epochs of both, or `turn` SSL steps and their share of the SL steps.

    The last turn may be shorter; with few labels a turn's share may be no step at all.
    """
    if turn is None:
        ends = [round(ssl * min(i + 1, epochs) / epochs) for i in range(math.ceil(epochs))]
    else:
        ends = [min((i + 1) * turn, ssl) for i in range(math.ceil(ssl / turn))]
    turns: list[tuple[Kind, int]] = []
    for start, end in zip([0, *ends], ends, strict=False):
        turns.append(("ssl", end - start))
        turns.append(("sl", round(sl * end / ssl) - round(sl * start / ssl) if ssl else 0))
    return tuple(turns)


def _steps(spec: JobSpec, epochs: float, rows: int) -> int:
    return round(epochs * rows / spec.batch)


def _merged(spec: JobSpec, facts: Facts) -> Iterator[Asked]:
    """ssl_epochs and sl_epochs, of which mix_ratio is merged."""
    schedule = spec.schedule
    assert schedule.policy in ("fixed", "budgeted")
    mix = schedule.mix_ratio * min(schedule.ssl_epochs, schedule.sl_epochs)
    ssl_epochs, sl_epochs = schedule.ssl_epochs - mix, schedule.sl_epochs - mix
    yield Asked("ssl", ssl_epochs, (("ssl", _steps(spec, ssl_epochs, facts.num_train)),))
    mixed = _steps(spec, mix, facts.num_train)
    if schedule.interleave == "alternate":
        labelled = _steps(spec, mix, facts.num_labelled)
        yield Asked("mix", mix, alternate(mixed, labelled, schedule.alternate_steps, mix))
    else:
        yield Asked("mix", mix, _in_parts(spec, (), mixed))
    dropped = _steps(spec, schedule.sl_drop * sl_epochs, facts.num_labelled)
    steps = _steps(spec, sl_epochs, facts.num_labelled)
    yield Asked("sl", sl_epochs, (("sl_drop", dropped), ("sl", steps - dropped)))


def _shared(spec: JobSpec, facts: Facts, shares: dict[PhaseKind, float]) -> Iterator[Asked]:
    """A guess at phases that take shares of a budget."""
    for kind, share in shares.items():
        epochs = share * _NOMINAL_EPOCHS
        rows = facts.num_labelled if kind == "sl" else facts.num_train
        steps = max(1, _steps(spec, epochs, rows)) if share else 0
        yield Asked(kind, epochs, more(spec, facts, kind, (), steps))


def _listed(spec: JobSpec, schedule: PhasesSchedule, facts: Facts) -> Iterator[Asked]:
    """The phases of a list; what is not in epochs or steps is a guess where a clock decides, else follows from them."""
    rows = [facts.num_labelled if phase.kind == "sl" else facts.num_train for phase in schedule.phases]
    known = {
        index: max(1, _steps(spec, phase.duration.amount, rows[index]))
        if phase.duration.unit == "epochs"
        else round(phase.duration.amount)
        for index, phase in enumerate(schedule.phases)
        if phase.duration.unit in ("epochs", "steps")
    }
    shares = sum(phase.duration.amount for phase in schedule.phases if phase.duration.unit == "share")
    if shares and spec.budget is None and not known:
        raise JobError("schedule.phases", "percentages of a run that has no length", "set a budget, or give epochs")
    total = sum(known.values()) / (1 - shares) if known and shares < 1 else _NOMINAL_EPOCHS * rows[0] / spec.batch
    for index, phase in enumerate(schedule.phases):
        share = phase.duration.amount if phase.duration.unit == "share" else 0.1
        steps = known.get(index) or max(1, round(share * total))
        turns = more(spec, facts, phase.kind, (), steps)
        yield Asked(phase.kind, epochs_of(spec, facts, phase.kind, turns), turns, phase.weight)
