"""What will be done: JobSpec + Facts -> Plan, and the pure functions of a plan (rate, weight, stream positions).

Epochs of a source with N rows become round(epochs * N / batch) steps (DESIGN: nothing is dropped, no ragged batch).
Learning rate and weight are functions of the global step alone, so cutting a phase into segments changes neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from raymix.spec import JobError, JobSpec, Section

Kind = Literal["ssl", "mix", "sl", "sl_drop"]
Stream = Literal["all", "labelled"]
PhaseKind = Literal["ssl", "mix", "sl"]

STREAM_OF: dict[Kind, Stream] = {"ssl": "all", "mix": "all", "sl": "labelled", "sl_drop": "labelled"}


class Facts(Section):
    """What is known of the data and the machines before anything runs: rows, labels, workers."""

    num_train: int = Field(ge=0, description="training rows, labelled or not, without select and val")
    num_labelled: int = Field(ge=0, description="those of them that carry a label")
    num_select: int = Field(ge=0)
    num_val: int = Field(ge=0)
    class_names: tuple[str, ...]

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
    schedule, batch = spec.schedule, spec.optim.batch
    mix = schedule.mix_ratio * min(schedule.ssl_epochs, schedule.sl_epochs)

    def steps(epochs: float, rows: int) -> int:
        return round(epochs * rows / batch)

    ssl_epochs, sl_epochs = schedule.ssl_epochs - mix, schedule.sl_epochs - mix
    dropped = steps(schedule.sl_drop * sl_epochs, facts.num_labelled)
    whole = steps(sl_epochs, facts.num_labelled) - dropped
    mixed = steps(mix, facts.num_train)
    mix_turns: tuple[tuple[Kind, int], ...] = (("mix", mixed),)
    if schedule.interleave == "alternate":
        mix_turns = _alternate(mixed, steps(mix, facts.num_labelled), schedule.alternate_steps, mix)
    wanted: list[tuple[PhaseKind, float, tuple[tuple[Kind, int], ...]]] = [
        ("ssl", ssl_epochs, (("ssl", steps(ssl_epochs, facts.num_train)),)),
        ("mix", mix, mix_turns),
        ("sl", sl_epochs, (("sl_drop", dropped), ("sl", whole))),
    ]
    phases: list[Phase] = []
    start = 0
    for kind, epochs, turns in wanted:
        turns = tuple((name, n) for name, n in turns if n)
        total = sum(n for _, n in turns)
        if total:
            phases.append(Phase(kind=kind, epochs=epochs, start=start, steps=total, turns=turns))
            start += total
    if not phases:
        raise JobError("schedule.sl_epochs", "the epochs asked for do not fill one batch", "ask for more, or a smaller batch")
    return Plan(spec=spec, facts=facts, phases=tuple(phases))


def _check_rows(spec: JobSpec, facts: Facts) -> None:
    batch = spec.optim.batch
    if facts.num_classes < 2:
        raise JobError("data.train", f"{facts.num_classes} class(es) found", "a classifier needs two or more")
    if spec.schedule.sl_epochs and not facts.num_labelled:
        raise JobError("data.label_fraction", "no labelled rows are left to train on", "raise it, or lower data.select")
    if batch > facts.num_train:
        raise JobError("optim.batch", f"{batch} is larger than the {facts.num_train} training rows", "take a smaller batch")


def _alternate(ssl: int, sl: int, turn: int | None, epochs: float) -> tuple[tuple[Kind, int], ...]:
    """SSL and SL steps in turns: whole epochs, or `turn` SSL steps each with their share of the SL steps."""
    num_turns = max(1, math.ceil(epochs) if turn is None else math.ceil(ssl / turn))
    turns: list[tuple[Kind, int]] = []
    for i in range(num_turns):
        turns.append(("ssl", round((i + 1) * ssl / num_turns) - round(i * ssl / num_turns)))
        turns.append(("sl", round((i + 1) * sl / num_turns) - round(i * sl / num_turns)))
    return tuple(turns)


# ---- pure functions of a plan and a step ------------------------------------------------------------------------


def rate(plan: Plan, step: int) -> float:
    """Learning rate of a global step: linear warm-up, then cosine to 0, over the run or (`restart: phase`) its phase."""
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


def pattern(plan: Plan, start: int, steps: int) -> tuple[tuple[Kind, int], ...]:
    """Step kinds of the global steps [start, start + steps), which lie in one phase."""
    phase = plan.phases[plan.phase_at(start)]
    end, here = start + steps, phase.start
    found: list[tuple[Kind, int]] = []
    for kind, count in phase.turns:
        overlap = min(end, here + count) - max(start, here)
        if overlap > 0:
            found.append((kind, overlap))
        here += count
    return tuple(found)


def positions(plan: Plan, step: int) -> dict[Stream, int]:
    """Rows of each stream that the steps before a global step have consumed."""
    consumed: dict[Stream, int] = {"all": 0, "labelled": 0}
    for phase in plan.phases:
        steps = min(phase.steps, step - phase.start)
        for kind, count in pattern(plan, phase.start, steps) if steps > 0 else ():
            consumed[STREAM_OF[kind]] += count * plan.spec.optim.batch
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


def kinds_of(parts: tuple[tuple[Kind, int], ...]) -> Iterator[Kind]:
    """The kind of each step of a pattern, one by one."""
    for kind, count in parts:
        for _ in range(count):
            yield kind
