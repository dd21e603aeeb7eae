"""The values of a plan: facts, phases, segments, decisions, and the plan itself; all frozen."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from typing import Literal, Self

from pydantic import Field

from raymix.spec import MIX_KINDS, Budget, FixedSchedule, JobSpec, MixKind, Section, Weight

Kind = Literal["ssl", MixKind, "sl", "sl_drop"]
Stream = Literal["all", "labelled", "unlabelled"]
PhaseKind = Literal["ssl", "mix", "sl"]

STREAM_OF: dict[Kind, Stream] = {
    "ssl": "all",
    **dict.fromkeys(MIX_KINDS, "all"),
    "sl": "labelled",
    "sl_drop": "labelled",
}
SL_KINDS: tuple[Kind, ...] = ("sl", "sl_drop")  # of the SL phase
SHARDS = 48  # residues of a position that always stay on one rank where images are streamed


class Facts(Section):
    """What is known of the data and the machines before anything runs: rows, labels, workers."""

    num_train: int = Field(
        ge=0, description="training rows, labelled or not, without select and val: images, or all of their tiles"
    )
    num_labelled: int = Field(ge=0, description="those of them that carry a label")
    num_select: int = Field(ge=0, description="images, with and without tiles")
    num_val: int = Field(ge=0, description="images, with and without tiles")
    class_names: tuple[str, ...]
    class_rows: tuple[int, ...] = Field((), description="labelled training rows of each class; empty: not counted")
    tiles: int = Field(1, ge=1, description="rows that a training image is: its tiles, 1 without")
    run: int = Field(0, ge=0, description="0: images are kept; else they are streamed, so many neighbours at a time")

    @property
    def num_images(self) -> int:
        """Of all parts."""
        return self.num_train // self.tiles + self.num_select + self.num_val

    @property
    def num_classes(self) -> int:
        """Classes of the labelled rows."""
        return len(self.class_names)

    def changed(self, now: Facts) -> list[str]:
        """Fields that are not what they were; of an earlier raymix, which did not count rows by class, those not."""
        fields = [name for name in Facts.model_fields if name != "class_rows" or self.class_rows]
        return [name for name in fields if getattr(self, name) != getattr(now, name)]


class Anchor(Section):
    """Where progress was when what is left was last planned: from here on it rises evenly to 1.

    A change of plan changes the slope of rate and weight and never their present value.
    """

    step: int = Field(0, description="steps done, of the run or of the phase")
    progress: float = 0.0
    rate: float = Field(0.0, description="share of the largest rate at which the cycle began: warming up goes on there")

    def progress_at(self, done: float, steps: int) -> float:
        """Progress in [0, 1] after `done` of `steps` steps."""
        if steps == self.step:  # what was left was cut to nothing
            return self.progress
        return self.progress + (done - self.step) * (1 - self.progress) / (steps - self.step)


class Phase(Section):
    """A stretch of the schedule: `turns` lists its step kinds, in order, with their numbers of steps."""

    kind: PhaseKind
    epochs: float
    start: int = Field(description="global step at which it begins")
    steps: int
    turns: tuple[tuple[Kind, int], ...]
    anchor: Anchor = Anchor()
    weight: Weight | None = Field(None, description="curve of w over it; null: the job's")

    # `alternate` may have a turn a step, so turns are looked up by bisection. What is cached here must not depend on
    # `start`: a copy of a phase that begins elsewhere has the cache of the first.
    @cached_property
    def turn_ends(self) -> tuple[int, ...]:
        """Steps of the phase up to the end of each turn."""
        return tuple(accumulate(steps for _, steps in self.turns))

    @cached_property
    def labelled_ends(self) -> tuple[int, ...]:
        """Steps of the phase on the labelled stream, up to the end of each turn."""
        return tuple(accumulate(steps if STREAM_OF[kind] == "labelled" else 0 for kind, steps in self.turns))

    def labelled_steps(self, steps: int) -> int:
        """How many of its first `steps` steps read the labelled stream; the others read all rows."""
        turn = bisect_right(self.turn_ends, steps)
        whole = self.labelled_ends[turn - 1] if turn else 0
        if turn == len(self.turns) or STREAM_OF[self.turns[turn][0]] != "labelled":
            return whole
        return whole + steps - (self.turn_ends[turn - 1] if turn else 0)


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
    trial: int = Field(0, ge=0, description="steps of a supervised trial after it, which is then undone")


class Asked(Section):
    """How much a job asks for. A run that is over can be given more of it, and of nothing else."""

    ssl_epochs: float = Field(0.0, description="0 where it is not epochs that are asked for, but a budget")
    sl_epochs: float = 0.0
    budget: Budget | None = None

    @classmethod
    def of(cls, spec: JobSpec) -> Self:
        """That of a job."""
        schedule = spec.schedule
        if not isinstance(schedule, FixedSchedule):
            return cls(budget=spec.budget)
        return cls(ssl_epochs=schedule.ssl_epochs, sl_epochs=schedule.sl_epochs, budget=spec.budget)

    def epochs_beyond(self, before: Asked) -> tuple[float, float]:
        """SSL and SL epochs that this has more than another."""
        return max(0.0, self.ssl_epochs - before.ssl_epochs), max(0.0, self.sl_epochs - before.sl_epochs)

    def has_more_budget_than(self, before: Asked) -> bool:
        """Whether both have a budget of the same currency, and this one's is larger."""
        mine, other = self.budget, before.budget
        if mine is None or other is None or mine.currency != other.currency:
            return False
        more: bool = getattr(mine, mine.currency) > getattr(other, other.currency)
        return more


class Added(Section):
    """A phase that an extension adds."""

    kind: PhaseKind
    steps: int = Field(description="as asked; a budget may hold fewer")
    weight: Weight | None = None


class Extension(Section):
    """What a run that was over goes on with: phases after its last one, with a rate cycle of their own."""

    asked: Asked = Field(description="in all, from then on")
    phases: tuple[Added, ...]
    fills: bool = Field(description="they spend what the budget has, in the proportions of their steps")


class Decision(Section):
    """A change of the plan while it is carried out. What is done stays as it was."""

    step: int = Field(description="global step from which on it holds")
    steps: tuple[int, ...] = Field(description="steps of each phase, those done and those added included")
    reason: str
    extension: Extension | None = Field(None, description="a run that was over goes on")


class Replay(Section):
    """What a run that is repeated did, in place of what a policy would decide by the seconds that steps take now."""

    segments: tuple[tuple[int, bool, int], ...] = Field(
        description="of each the global step after it, whether select rows were evaluated, steps of a trial after it"
    )
    decisions: tuple[Decision, ...]
    ended: Literal["complete", "budget", "goal", "patience"]


class Plan(Section):
    """The whole run, frozen: what was asked, what is known, and the phases that follow from both."""

    spec: JobSpec
    facts: Facts
    phases: tuple[Phase, ...]
    anchor: Anchor = Anchor()
    tail: float | None = Field(
        None, description="share of a rate cycle, at its end, in which it falls; null: all that follows warming up"
    )
    asked: Asked | None = Field(None, description="for which it was laid out; null: for what its job asks")
    extension: Extension | None = Field(None, description="the last one")
    replay: Replay | None = Field(None, description="of the run that it repeats; null: its policy decides")
    roll_backs: tuple[int, ...] = Field(
        (), description="steps to which the run went back; each halves the rate from it on"
    )

    @property
    def laid_out_for(self) -> Asked:
        """How much its phases hold; its job may ask for more by now."""
        return self.extension.asked if self.extension else self.asked or Asked.of(self.spec)

    @property
    def last_round(self) -> tuple[Phase, ...]:
        """The phases that the last extension added; all, where there was none."""
        return self.phases[-len(self.extension.phases) :] if self.extension else self.phases

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the run."""
        return sum(phase.steps for phase in self.phases)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Step kinds that the plan uses, in order of first use."""
        return tuple(dict.fromkeys(kind for phase in self.phases for kind, steps in phase.turns if steps))

    @property
    def may_change(self) -> bool:
        """Whether decisions may change it while it is carried out."""
        grown = self.laid_out_for != Asked.of(self.spec)
        return self.spec.schedule.policy != "fixed" or self.spec.budget is not None or grown

    @property
    def shrinks_at(self) -> int | None:
        """Global step before which parts of the backbone are masked (`shrink`); None: never."""
        if self.spec.shrink is None:
            return None
        phase = next((phase for phase in self.phases if phase.kind == "sl"), None)
        return None if phase is None else phase.start + round(self.spec.shrink.after * phase.steps)

    def phase_at(self, step: int) -> int:
        """Index of the phase that holds a global step."""
        return next(i for i, phase in enumerate(self.phases) if step < phase.start + phase.steps)
