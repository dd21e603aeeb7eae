"""MixTraining in somebody else's training loop: what each of its steps is, without Ray and without torch.

    schedule = raymix.Schedule(num_images=50_000, num_labelled=5_000, batch=256, ssl_epochs=100, sl_epochs=100)
    loader = DataLoader(dataset, batch_sampler=schedule.batches(labels))
    for step, (x, y) in zip(schedule, loader):
        z = backbone(x)
        loss = step.loss(ssl=lambda: ssl_loss(z, x), sl=lambda: cross_entropy(head(z), y))
        for group in optimizer.param_groups:
            group["lr"] = step.lr
        ...

The plan, its rates and weights, the policies and the order of rows are those of `raymix run`.
"""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from raymix.data.order import Order
from raymix.data.rows import Ids
from raymix.jobfile import load_spec
from raymix.plan import (
    Facts,
    Kind,
    Plan,
    Segment,
    Stream,
    positions,
    rate,
    resolve,
    rows_per_step,
    runs,
    segment,
    weight,
)
from raymix.policy import SEGMENT_SECONDS, next_segment
from raymix.report.history import History, Rates, SegmentReport
from raymix.spec import MIX_KINDS, JobError, JobSpec


class Step(NamedTuple):
    """One optimizer step of a schedule."""

    number: int  # from 0 on
    kind: Kind
    lr: float
    weight: float  # w of the SSL loss: 1 in ssl steps, 0 in sl steps
    rows: Mapping[Stream, int]  # rows that it takes of all images, the labelled or the unlabelled ones
    restart: bool = False  # the optimizer's state is cleared before it (restart: phase)
    evaluate: bool = False  # the policy asks for the accuracy on select rows after it; `Schedule.report` takes it

    def loss(self, ssl: Any, sl: Any) -> Any:
        """w * ssl + (1 - w) * sl, of which only what the step's kind needs is looked at.

        Args:
            ssl, sl: The two losses, tensors or anything else that can be added, or functions without arguments that
                give them; a function that is not needed is not called.
        """
        if self.kind not in MIX_KINDS:
            return _value(ssl if self.kind == "ssl" else sl)
        return self.weight * _value(ssl) + (1 - self.weight) * _value(sl)


class Schedule:
    """The steps of MixTraining, one after another or by number.

    `schedule[number]` is a function of the number alone, so a run that was broken off goes on with `steps(number)`.
    Iterating asks the job's policy segment by segment, with what was measured so far: `history` holds the seconds
    between the steps and what was said to `report`.
    """

    def __init__(
        self,
        *,
        num_images: int,
        num_labelled: int,
        num_select: int = 0,
        batch: int = 256,
        lr: float = 1e-3,
        warmup: float = 0.05,
        decay: float | None = None,
        restart: Literal["never", "phase"] = "never",
        labelled_share: float | None = None,
        **schedule: Any,
    ) -> None:
        """The schedule that a job of these numbers would have.

        Args:
            num_images: Images to train on, labelled or not.
            num_labelled: Those of them that have a label.
            num_select: Labelled images beside them that policies may ask the accuracy on; 0: none are asked for.
            batch: Images a step, over all processes.
            lr: Largest learning rate.
            warmup: Share of a cycle in which the rate rises to it; after it, half a cosine to 0.
            decay: Share of a cycle, at its end, in which the rate falls; None: all that follows the warm-up.
            restart: never: one cycle over the run; phase: a cycle, and fresh optimizer state, for each phase.
            labelled_share: Share of labelled images in a mix batch; None: as many as there are among all.
            schedule: Fields of a job's section `schedule`, as `ssl_epochs`, `sl_epochs`, `mix_ratio`, `interleave`,
                `weight={"curve": "linear", "start": 1, "end": 0}`, `policy`; `raymix schema` lists them.

        Raises:
            JobError: an argument is wrong, or the images cannot carry the schedule; one line that names it.
        """
        facts = _facts(num_images, num_labelled, num_select)
        for field in ("shared_pass", "whole_rows"):
            if field in schedule:
                problem = "says how raymix's own steps share a pass of the backbone"
                raise JobError(field, problem, "leave it out, your loop decides")
        if not num_labelled and schedule.get("sl_epochs", 1):
            raise JobError("num_labelled", "0, and there are SL epochs", "set sl_epochs=0, or label some images")
        optim = {"batch": _whole("batch", batch, 2), "lr": lr, "warmup": warmup, "decay": decay, "restart": restart}
        try:
            self._begin(resolve(_spec(optim, labelled_share, schedule), facts))
        except JobError as error:
            raise _by_argument(error) from None

    @classmethod
    def from_plan(cls, plan: Plan) -> Schedule:
        """The schedule of a job: `raymix.Schedule.from_plan(raymix.plan("job.yaml"))`."""
        schedule = cls.__new__(cls)
        schedule._begin(plan)
        return schedule

    def _begin(self, plan: Plan) -> None:
        if plan.spec.budget is not None:
            raise JobError("budget", "is kept by raymix run, which knows what its steps cost", "leave it out")
        self.plan = plan
        self.history = self._skipped(0)
        self._told: dict[str, float] = {}
        self._restarts = {phase.start for phase in plan.phases} if plan.spec.optim.restart == "phase" else set()

    def __len__(self) -> int:
        """Optimizer steps of the run."""
        return self.plan.num_steps

    def __getitem__(self, number: int) -> Step:
        """The step of a number, negative ones from the end; without `evaluate`, which depends on the run's history.

        Raises:
            IndexError: there is no such step.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"step {number} of a schedule of {len(self)}")
        number %= len(self)
        [(kind, _)] = runs(self.plan, number, number + 1)
        return Step(
            number=number,
            kind=kind,
            lr=rate(self.plan, number),
            # steps that take turns are all SSL or all SL, whatever the curve says of their phase
            weight=weight(self.plan, number) if kind in MIX_KINDS else float(kind == "ssl"),
            rows=rows_per_step(self.plan, kind),
            restart=number in self._restarts,
        )

    def __iter__(self) -> Iterator[Step]:
        """All steps, from the first one on."""
        return self.steps()

    def steps(self, start: int = 0) -> Iterator[Step]:
        """The steps from number `start` on, as the policy names them; the time until the next one is asked is taken.

        On a GPU a step that is not waited for seems to take no time; over a segment of about two seconds it evens out.
        """
        self.history, self._told = self._skipped(start), {}
        while (named := next_segment(self.plan, self.history)) is not None:
            seconds: dict[Kind, float] = {}
            last = named.start + named.steps - 1
            for number in range(named.start, last + 1):
                step = self[number]._replace(evaluate=named.evaluate and number == last)
                before = time.perf_counter()
                yield step
                taken = time.perf_counter() - before
                seconds[step.kind] = seconds.get(step.kind, 0.0) + taken
            self._done(named, seconds, step.kind)

    def report(self, *, evaluate_seconds: float = 0.0, **measured: float) -> None:
        """What was measured in the step that runs, for policies that look at it.

        Args:
            evaluate_seconds: Of the time since the step began, what evaluation took.
            measured: `select_top1` (percent, after a step with `evaluate`), `ssl_loss`, `sl_loss`.
        """
        if unknown := measured.keys() - {"select_top1", "ssl_loss", "sl_loss"}:
            raise JobError(min(unknown), "is nothing that policies look at", "one of select_top1, ssl_loss, sl_loss")
        spent = self._told.get("evaluate_seconds", 0.0) + evaluate_seconds
        self._told |= {**measured, "evaluate_seconds": spent}

    def batches(self, labels: ArrayLike, *, seed: int = 0, start: int = 0, rank: int = 0, world: int = 1) -> Batches:
        """The images of each step, by place in the data set: a `batch_sampler` for torch's DataLoader.

        Every image comes once an epoch, and nothing is dropped: the epochs follow each other without a gap.

        Args:
            labels: int (num_images,), -1 where an image has no label.
            seed: Of the order.
            start: Step that the run goes on at.
            rank, world: This process among those that share every batch. Under DDP a step leaves out what its kind does
                not train (`find_unused_parameters=True`), and Lightning must keep the sampler
                (`use_distributed_sampler=False`).

        Raises:
            JobError: the labels are not those of the schedule, or `world` does not divide the batch.
        """
        known, facts = np.asarray(labels) >= 0, self.plan.facts
        if known.shape != (facts.num_train,) or np.count_nonzero(known) != facts.num_labelled:
            problem = f"shape {known.shape}, {np.count_nonzero(known)} of them not negative"
            raise JobError("labels", problem, f"the schedule is for {facts.num_train}, {facts.num_labelled} labelled")
        if self.plan.spec.batch % world:
            raise JobError("world", f"{world} does not divide a batch of {self.plan.spec.batch}")
        of: dict[Stream, Ids] = {
            "all": np.arange(len(known)),
            "labelled": np.flatnonzero(known),
            "unlabelled": np.flatnonzero(~known),
        }
        orders = {stream: Order(ids, seed, stream) for stream, ids in of.items()}
        return Batches(self, orders, start, rank, world)

    def _skipped(self, start: int) -> History:
        """A history whose next step is `start`, of steps that nobody measured."""
        # until a kind was measured: segments of two steps
        history = History(rates=Rates(step_seconds=dict.fromkeys(self.plan.kinds, SEGMENT_SECONDS / 2)))
        for phase in self.plan.phases:
            if steps := max(0, min(phase.steps, start - phase.start)):
                history = history.add(self._reported(segment(self.plan, phase.start, steps, evaluate=False), 0.0))
        return history

    def _done(self, named: Segment, seconds: dict[Kind, float], last: Kind) -> None:
        """Adds a segment to the history, and what its steps cost to the rates."""
        seconds[last] = max(0.0, seconds[last] - self._told.get("evaluate_seconds", 0.0))
        report = self._reported(named, sum(seconds.values()), **self._told)
        counts = {kind: sum(steps for name, steps in named.pattern if name == kind) for kind in seconds}
        measured = {kind: taken / counts[kind] for kind, taken in seconds.items()}
        rates = Rates(step_seconds={**self.history.rates.step_seconds, **measured})
        self.history = self.history.add(report).model_copy(update={"rates": rates})
        self._told = {}

    def _reported(self, named: Segment, seconds: float, **told: Any) -> SegmentReport:
        images, facts = named.steps * self.plan.spec.batch, self.plan.facts
        labelled = 0.0
        for kind, steps in named.pattern:
            if kind != "ssl":
                rows = rows_per_step(self.plan, kind)
                share = facts.num_labelled / facts.num_train
                labelled += steps * (rows.get("labelled", 0) + share * rows.get("all", 0))
        measured = {"ssl_loss": None, "sl_loss": None, **told}
        return SegmentReport(
            segment=named, seconds=seconds, data_seconds=0.0, images=images, labelled=round(labelled), **measured
        )


@dataclass(frozen=True)
class Batches:
    """The images of the steps of a schedule, a list of places a step. Nothing is drawn: it may be read ahead."""

    schedule: Schedule
    orders: Mapping[Stream, Order]
    start: int
    rank: int
    world: int

    def __len__(self) -> int:
        """Steps of the whole schedule, also where it goes on in the middle: Lightning counts what was done, too."""
        return len(self.schedule)

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start, len(self.schedule)):
            step, consumed = self.schedule[number], positions(self.schedule.plan, number)
            parts = [self.orders[stream].rows(consumed[stream], rows)[0] for stream, rows in step.rows.items()]
            yield np.concatenate(parts)[self.rank :: self.world].tolist()


def _value(part: Any) -> Any:
    return part() if callable(part) else part


# ---- from arguments to a plan -----------------------------------------------------------------------------------


def _spec(optim: Mapping[str, Any], labelled_share: float | None, schedule: Mapping[str, Any]) -> JobSpec:
    """A job of these sections; what it says of images and backbone is never looked at."""
    data = {"train": {"format": "digits"}, "labelled_share": labelled_share}
    return load_spec(
        {"name": "schedule", "data": data, "schedule": schedule, "optim": optim, "cluster": {"workers": 0}}
    )


def _facts(num_images: int, num_labelled: int, num_select: int) -> Facts:
    if _whole("num_labelled", num_labelled, 0) > _whole("num_images", num_images, 1):
        problem = f"{num_labelled} is more than the {num_images} images"
        raise JobError("num_labelled", problem, "num_images counts labelled and unlabelled ones")
    return Facts(
        num_train=_whole("num_images", num_images, 1),
        num_labelled=_whole("num_labelled", num_labelled, 0),
        num_select=_whole("num_select", num_select, 0),
        num_val=0,
        class_names=("any", "other"),  # the plan only asks that there are two
    )


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise JobError(name, f"must be a whole number, not {value!r}") from None
    if number < least:
        raise JobError(name, f"must be at least {least}, not {number}")
    return number


def _by_argument(error: JobError) -> JobError:
    """The same error in the words of `Schedule`: its arguments are fields of a job without their section."""
    return JobError(
        *(re.sub(r"\b(schedule|optim|data)\.", "", text) for text in (error.field, error.problem, error.hint))
    )
