"""What has been done so far: measured rates, then a report a segment. Policies read it, checkpoints carry it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from raymix.plan import Decision, Kind, Segment
from raymix.spec import Section, Weights

if TYPE_CHECKING:
    from raymix.report.run import Point


class Rates(Section):
    """What the steps cost on the workers of a run: measured in `prepare`, or known or estimated before."""

    step_seconds: dict[Kind, float] = Field(description="one optimizer step of each kind")
    step_flops: dict[Kind, float] = Field({}, description="floating-point operations of one step, over all workers")
    row_seconds: float = Field(0.0, description="evaluation of one row, by all workers together")
    checkpoint_seconds: float = Field(0.0, description="one checkpoint")
    prepare_seconds: float = 0.0
    workers: int = Field(0, description="processes that they were measured on")
    device: str = ""
    source: Literal["measured", "cache", "estimate"] = "measured"


class SegmentReport(Section):
    """One segment, done. Losses and counts are over all workers; seconds are the workers' mean."""

    segment: Segment
    seconds: float = Field(description="steps and the wait for data")
    data_seconds: float = Field(description="of these, the wait for data")
    images: int = Field(description="images that went through the backbone's steps")
    labelled: int = Field(description="of these, those that fed the supervised loss")
    ssl_loss: float | None = Field(description="mean over the steps that have one")
    sl_loss: float | None = Field(description="mean over the steps that have one")
    train_top1: float | None = Field(None, description="percent of augmented labelled images that get their own label")
    select_top1: float | None = Field(None, description="on the select rows, after the segment, by the job's metric")
    select_ema_top1: float | None = Field(None, description="the same of the averaged weights")
    evaluate_seconds: float = 0.0
    trial_half_top1: float | None = Field(None, description="on the select rows, in the middle of a supervised trial")
    trial_top1: float | None = Field(None, description="the same at its end; then it is undone")
    trial_seconds: float = 0.0
    checkpoint_seconds: float = Field(0.0, description="checkpoints since the report before it")
    gpu_bytes: int | None = Field(None, description="most memory that a worker has held on its GPU so far")
    skipped: int = Field(0, description="of its steps, those left out since loss or gradient was not finite")
    elapsed: float = Field(0.0, description="seconds from the attempt's first step to the end of all this")

    @property
    def cost_seconds(self) -> float:
        """Steps, evaluation and trial."""
        return self.seconds + self.evaluate_seconds + self.trial_seconds


def select_of(judged: SegmentReport | Point, weights: Weights) -> float | None:
    """Percent of the select rows that the weights by which a run is judged get right; None: they were not asked."""
    return judged.select_top1 if weights == "raw" else judged.select_ema_top1


class Attempt(Section):
    """One going at a run: from its start, or a resumption, to wherever it came."""

    reports: int = Field(description="reports that there were before it")
    decisions: int = Field(0, description="decisions that there were before it")
    news: str = Field("", description="what is not as it was in the attempt before: workers, device")
    allowance: float | None = Field(
        None, description="what its steps may cost, in seconds, or in FLOPs where the budget is; null: anything"
    )
    workers: int = Field(0, description="processes that train; 0: not known")
    began_at: float = Field(0.0, description="time.time() just before its first step")


class RollBack(Section):
    """A run went back, since a loss or gradient was not finite; from there on its rate is half of what it was."""

    step: int = Field(
        description="steps done where it goes on: those of a checkpoint, or none; or of a later roll-back"
    )
    reason: str = Field(description="what was found, and in which steps")


class History(Section):
    """Rates, the reports so far, and the segment that was named but is not reported yet."""

    rates: Rates
    reports: tuple[SegmentReport, ...] = ()
    pending: Segment | None = None
    decisions: tuple[Decision, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    roll_backs: tuple[RollBack, ...] = ()

    @property
    def skipped(self) -> int:
        """Steps left out since loss or gradient was not finite."""
        return sum(report.skipped for report in self.reports)

    @property
    def next_step(self) -> int:
        """Global step after the last segment that was named."""
        last = self.pending or (self.reports[-1].segment if self.reports else None)
        return last.start + last.steps if last else 0

    @property
    def done_steps(self) -> int:
        """Global steps that are done and reported."""
        return self.reports[-1].segment.start + self.reports[-1].segment.steps if self.reports else 0

    @property
    def training_seconds(self) -> float:
        """From the first step to the end of the last report, over all attempts; what a failure lost is not in it."""
        ends = [attempt.reports for attempt in self.attempts[1:]] + [len(self.reports)]
        return sum(self.reports[end - 1].elapsed for end in dict.fromkeys(ends) if end)

    def by_group(self) -> list[tuple[int, tuple[SegmentReport, ...]]]:
        """The workers of each group, 0 where they are not known, and the reports that training went on from."""
        groups = [(attempt.reports, attempt.workers) for attempt in self.attempts] or [(0, 0)]
        ends = [*(start for start, _ in groups[1:]), len(self.reports)]
        return [(num, self.reports[start:end]) for (start, num), end in zip(groups, ends, strict=True)]

    def add(self, report: SegmentReport) -> History:
        """This history and one more report; what was pending is now done."""
        return self._with(reports=(*self.reports, report), pending=None)

    def reported(self, done: int, news: Iterable[SegmentReport]) -> History:
        """The first `done` reports, and these."""
        return self._with(reports=(*self.reports[:done], *news), pending=None)

    def expect(self, segment: Segment | None) -> History:
        """This history and the segment that runs now."""
        return self._with(pending=segment)

    def decide(self, decision: Decision | None) -> History:
        """This history and one more change of plan; None: none."""
        return self if decision is None else self._with(decisions=(*self.decisions, decision))

    def rolled_back(self, kept: History, reason: str) -> History:
        """`kept`, what a checkpoint holds, of a run that had come to this history and goes on from there.

        What was halved further on is halved from there on, too.
        """
        step = kept.done_steps
        before = (one.model_copy(update={"step": min(one.step, step)}) for one in self.roll_backs)
        return kept._with(roll_backs=(*before, RollBack(step=step, reason=reason)))

    def begin(
        self, allowance: float | None, rates: Rates | None = None, news: str = "", began_at: float = 0.0
    ) -> History:
        """This history and a new attempt, which may spend so much; with `rates` of its own where there are `news`."""
        rates = rates or self.rates
        attempt = Attempt(
            reports=len(self.reports),
            decisions=len(self.decisions),
            news=news,
            allowance=allowance,
            workers=rates.workers,
            began_at=began_at,
        )
        return self._with(attempts=(*self.attempts, attempt), rates=rates)

    @property
    def plans_anew(self) -> bool:
        """Whether what is left must be planned now: at the run's start, or on other machines. Not after a restart."""
        if not self.attempts or len(self.decisions) > self.attempts[-1].decisions:
            return False
        return len(self.attempts) == 1 or bool(self.attempts[-1].news)

    def why(self, first: str) -> str:
        """The reason of a decision that follows from what steps cost."""
        if self.plans_anew:
            return f"{self.attempts[-1].news}: {first}" if self.attempts[-1].news else first
        return "the steps take another time than was measured"

    def _with(self, **changes: Any) -> History:
        # made in every segment: what is there has been validated
        fields = {name: getattr(self, name) for name in History.model_fields}
        return History.model_construct(**{**fields, **changes})
