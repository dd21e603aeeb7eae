"""What will be done: JobSpec + Facts -> Plan, and the pure functions of a plan (rate, weight, stream positions).

Epochs of a source with N rows become round(epochs * N / batch) steps (DESIGN: nothing is dropped, no ragged batch).
Learning rate and weight are functions of the global step alone, so cutting a phase into segments changes neither.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate, groupby
from typing import Literal

from pydantic import Field

from raymix.spec import JobError, JobSpec, Section

Kind = Literal["ssl", "mix", "sl", "sl_drop"]
Stream = Literal["all", "labelled", "unlabelled"]
PhaseKind = Literal["ssl", "mix", "sl"]

STREAM_OF: dict[Kind, Stream] = {"ssl": "all", "mix": "all", "sl": "labelled", "sl_drop": "labelled"}
SHARDS = 48  # residues of a position that always stay on one rank where images are streamed


class Facts(Section):
    """What is known of the data and the machines before anything runs: rows, labels, workers."""

    num_train: int = Field(ge=0, description="training rows, labelled or not, without select and val")
    num_labelled: int = Field(ge=0, description="those of them that carry a label")
    num_select: int = Field(ge=0)
    num_val: int = Field(ge=0)
    class_names: tuple[str, ...]
    run: int = Field(0, ge=0, description="0: images are kept; else they are streamed, so many neighbours at a time")

    @property
    def num_classes(self) -> int:
        """Classes of the labelled rows."""
        return len(self.class_names)


class Phase(Section):
    """A stretch of the schedule: `turns` lists its step kinds, in order, with their numbers of steps."""

    kind: PhaseKind
    epochs: float
    start: int = Field(description="global step at which it begins")
    steps: int
    turns: tuple[tuple[Kind, int], ...]

    # `alternate` may have a turn a step, so turns are looked up by bisection
    @cached_property
    def turn_ends(self) -> tuple[int, ...]:
        """Global step after each turn."""
        return tuple(accumulate((steps for _, steps in self.turns), initial=self.start))[1:]

    @cached_property
    def labelled_ends(self) -> tuple[int, ...]:
        """Steps of the phase on the labelled stream, up to the end of each turn."""
        return tuple(accumulate(steps if STREAM_OF[kind] == "labelled" else 0 for kind, steps in self.turns))

    def labelled_steps(self, steps: int) -> int:
        """How many of its first `steps` steps read the labelled stream; the others read all rows."""
        turn = bisect_right(self.turn_ends, self.start + steps)
        whole = self.labelled_ends[turn - 1] if turn else 0
        if turn == len(self.turns) or STREAM_OF[self.turns[turn][0]] != "labelled":
            return whole
        return whole + self.start + steps - (self.turn_ends[turn - 1] if turn else self.start)


class Segment(Section):
    """The next few steps, as the policy names them: about two seconds of one phase."""

    phase: int = Field(description="index of the phase")
    kind: PhaseKind
    start: int = Field(description="global step at which it begins")
    steps: int = Field(ge=1)
    pattern: tuple[tuple[Kind, int], ...] = Field(description="step kinds in order with their numbers of steps")
    progress: tuple[float, float] = Field(description="share of the run done, before and after")
    lr: tuple[float, float] = Field(description="of its first and last step")
    weight: tuple[float, float] = Field(description="w of its first and last step")
    evaluate: bool = Field(description="select rows are evaluated after it")


class Plan(Section):
    """The whole run, frozen: what was asked, what is known, and the phases that follow from both."""

    spec: JobSpec
    facts: Facts
    phases: tuple[Phase, ...]

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return sum(phase.steps for phase in self.phases)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Step kinds that the plan uses, in order of first use."""
        return tuple(dict.fromkeys(kind for phase in self.phases for kind, steps in phase.turns if steps))

    def phase_at(self, step: int) -> int:
        """Index of the phase that holds a global step."""
        return next(i for i, phase in enumerate(self.phases) if step < phase.start + phase.steps)


def resolve(spec: JobSpec, facts: Facts) -> Plan:
    """The plan that follows from a job and the facts; arithmetic only.

    Raises:
        JobError: the data cannot carry the job; the message names the field.
    """
    _check_rows(spec, facts)
    _check_labelled_share(spec, facts)
    _check_streaming(spec, facts)
    phases: list[Phase] = []
    start = 0
    for kind, epochs, planned in _turns(spec, facts):
        taken = groupby((turn for turn in planned if turn[1]), key=lambda turn: turn[0])
        turns = tuple((name, sum(steps for _, steps in group)) for name, group in taken)
        if turns:
            total = sum(steps for _, steps in turns)
            phases.append(Phase(kind=kind, epochs=epochs, start=start, steps=total, turns=turns))
            start += total
    plan = Plan(spec=spec, facts=facts, phases=tuple(phases))
    _check_sides(plan)
    return plan


def _turns(spec: JobSpec, facts: Facts) -> Iterator[tuple[PhaseKind, float, tuple[tuple[Kind, int], ...]]]:
    """Kind, epochs and turns of the three phases, as they come of the epochs asked for; steps may be 0."""
    schedule = spec.schedule
    mix = schedule.mix_ratio * min(schedule.ssl_epochs, schedule.sl_epochs)
    ssl_epochs, sl_epochs = schedule.ssl_epochs - mix, schedule.sl_epochs - mix

    def steps(epochs: float, rows: int) -> int:
        return round(epochs * rows / spec.batch)

    yield "ssl", ssl_epochs, (("ssl", steps(ssl_epochs, facts.num_train)),)
    mixed = steps(mix, facts.num_train)
    if schedule.interleave == "alternate":
        yield "mix", mix, _alternate(mixed, steps(mix, facts.num_labelled), schedule.alternate_steps, mix)
    else:
        yield "mix", mix, (("mix", mixed),)
    dropped = steps(schedule.sl_drop * sl_epochs, facts.num_labelled)
    yield "sl", sl_epochs, (("sl_drop", dropped), ("sl", steps(sl_epochs, facts.num_labelled) - dropped))


def _check_rows(spec: JobSpec, facts: Facts) -> None:
    batch = spec.batch
    if facts.num_classes < 2:
        raise JobError("data.train", f"{facts.num_classes} class(es) found", "a classifier needs two or more")
    if spec.schedule.sl_epochs and not facts.num_labelled:
        raise JobError("data.label_fraction", "no labelled rows are left to train on", "raise it, or lower data.select")
    if batch > facts.num_train:
        raise JobError(
            "optim.batch", f"{batch} is larger than the {facts.num_train} training rows", "take a smaller batch"
        )


def _check_labelled_share(spec: JobSpec, facts: Facts) -> None:
    share, batch = spec.data.labelled_share, spec.batch
    if share is None:
        return
    if not 0 < facts.num_labelled < facts.num_train:
        which = "unlabelled" if facts.num_labelled else "labelled"
        raise JobError("data.labelled_share", f"there are no {which} training rows", "leave it out")
    if not 0 < round(share * batch) < batch:
        problem = f"{share:g} of a batch of {batch} leaves no row of one side"
        raise JobError("data.labelled_share", problem, "change it, or take a larger optim.batch")


def _check_streaming(spec: JobSpec, facts: Facts) -> None:
    """Every rank reads its own residues of 48, and so many of each stream in every batch."""
    share, workers = spec.data.labelled_share, spec.cluster.num_replicas
    if not facts.run:
        return
    if facts.run > 1 and SHARDS % workers:
        nearest = min((n for n in range(1, SHARDS + 1) if not SHARDS % n), key=lambda n: (abs(n - workers), n))
        problem = f"images are streamed in runs of {facts.run}, and {workers} does not divide {SHARDS}"
        raise JobError("cluster.workers", problem, f"the nearest that does: {nearest}")
    if share is not None and round(share * spec.batch) % workers:
        labelled, batch = round(share * spec.batch), spec.batch
        nearest = max(workers, round(labelled / workers) * workers)
        problem = f"{labelled} labelled rows a batch are not divisible by {workers} workers, and images are streamed"
        raise JobError("data.labelled_share", problem, f"the nearest that is: {nearest / batch:g}")


def _check_sides(plan: Plan) -> None:
    """A side that was asked for has a step at least; rounding may leave a phase without one, but not a whole side."""
    schedule, batch = plan.spec.schedule, plan.spec.batch
    sides: list[tuple[str, float, str, int, set[Kind]]] = [
        ("schedule.ssl_epochs", schedule.ssl_epochs, "training", plan.facts.num_train, {"ssl", "mix"}),
        ("schedule.sl_epochs", schedule.sl_epochs, "labelled", plan.facts.num_labelled, {"sl", "sl_drop", "mix"}),
    ]
    for field, epochs, which, rows, kinds in sides:
        if epochs and not kinds.intersection(plan.kinds):
            problem = f"{epochs:g} epochs of {rows} {which} rows do not fill one batch of {batch}"
            raise JobError(field, problem, f"ask for at least {math.ceil(batch / rows)}, or a smaller optim.batch")


def _alternate(ssl: int, sl: int, turn: int | None, epochs: float) -> tuple[tuple[Kind, int], ...]:
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


# ---- pure functions of a plan and a step ------------------------------------------------------------------------


def rate(plan: Plan, step: int) -> float:
    """Learning rate of a global step: linear warm-up, then cosine to 0, over the run or its phase (`optim.restart`)."""
    optim = plan.spec.optim
    start, steps = 0, plan.num_steps
    if optim.restart == "phase":
        phase = plan.phases[plan.phase_at(step)]
        start, steps = phase.start, phase.steps
    progress = (step - start + 0.5) / steps
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (progress - optim.warmup) / (1 - optim.warmup)))


def weight(plan: Plan, step: int) -> float:
    """w of the SSL side at a global step: the curve over the mix phase, 1 in ssl, 0 in sl."""
    phase = plan.phases[plan.phase_at(step)]
    if phase.kind != "mix":
        return 1.0 if phase.kind == "ssl" else 0.0
    curve = plan.spec.schedule.weight
    progress = (step - phase.start + 0.5) / phase.steps
    if curve.curve == "cosine":
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    return curve.start if curve.curve == "constant" else curve.start + (curve.end - curve.start) * progress


def runs(plan: Plan, start: int, end: int) -> Iterator[tuple[Kind, int]]:
    """Step kinds of the global steps from `start` up to `end`, which lie in one phase, with their numbers of steps."""
    phase = plan.phases[plan.phase_at(start)]
    assert end <= phase.start + phase.steps, "a segment never crosses a phase"
    turn = bisect_right(phase.turn_ends, start)
    while start < end:
        stop = min(end, phase.turn_ends[turn])
        yield phase.turns[turn][0], stop - start
        start, turn = stop, turn + 1


def pattern(plan: Plan, start: int, steps: int) -> tuple[tuple[Kind, int], ...]:
    """Step kinds of the global steps [start, start + steps), which lie in one phase."""
    return tuple(runs(plan, start, start + steps))


def rows_per_step(plan: Plan, kind: Kind) -> dict[Stream, int]:
    """Rows of each stream that a step of a kind takes; they stand in the batch in this order."""
    batch, share = plan.spec.batch, plan.spec.data.labelled_share
    if kind == "mix" and share is not None:
        labelled = round(share * batch)
        return {"labelled": labelled, "unlabelled": batch - labelled}
    return {STREAM_OF[kind]: batch}


def positions(plan: Plan, step: int) -> dict[Stream, int]:
    """Rows of each stream that the steps before a global step have consumed."""
    consumed: dict[Stream, int] = {"all": 0, "labelled": 0, "unlabelled": 0}
    for phase in plan.phases:
        done = min(max(step - phase.start, 0), phase.steps)
        on_labelled = phase.labelled_steps(done)
        other: Kind = "mix" if phase.turns[0][0] == "mix" else "ssl"  # what its other steps are; none in an SL phase
        for stream, rows in rows_per_step(plan, other).items():
            consumed[stream] += (done - on_labelled) * rows
        consumed["labelled"] += on_labelled * plan.spec.batch
    return consumed


def segment(plan: Plan, start: int, steps: int, evaluate: bool) -> Segment:
    """The segment of `steps` steps at global step `start`, which lie in one phase."""
    index, last, total = plan.phase_at(start), start + steps - 1, plan.num_steps
    return Segment(
        phase=index,
        kind=plan.phases[index].kind,
        start=start,
        steps=steps,
        pattern=pattern(plan, start, steps),
        progress=(start / total, (start + steps) / total),
        lr=(rate(plan, start), rate(plan, last)),
        weight=(weight(plan, start), weight(plan, last)),
        evaluate=evaluate,
    )
