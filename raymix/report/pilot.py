"""What a comparison found: `pilot.json`. The statistics are in `raymix.report.compare`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.report.figure import Interval as Interval
from raymix.report.judging import Judged, judged_as
from raymix.report.money import Roi
from raymix.report.requests import Request
from raymix.report.run import Status, unit_on
from raymix.spec import Metric, Section


class PilotRun(Section):
    """One arm, one seed, one length."""

    seed: int
    length: float = Field(description="step-seconds planned, as a multiple of T")
    top1: float = Field(description="percent of the val rows")
    correct: str = Field(description="a bit for each val row, as hex")
    counts: str = Field("", description="what each val row counts, as hex; empty: 1 where it is right, else 0")
    worker_seconds: float = Field(
        description="clock A: steps and the wait for data, times workers; of a packed run as planned"
    )
    billed_worker_seconds: float = Field(
        description="clock B: every second that the workers were held for this run; of a GPU that is shared its share"
    )
    cost: float | None = Field(description="of the billed worker-seconds; null: price not set")
    planned_seconds: float = Field(description="step-seconds of the frozen plan")
    step_seconds: float = Field(description="step-seconds it took")
    ssl_epochs: float
    sl_epochs: float
    steps: int = Field(description="optimizer updates")
    images: int = Field(description="images through the steps")
    labelled: int = Field(description="images through the classifier's loss")
    labelled_tokens: int | None = Field(
        None, description="patches of labelled images through the classifier, as planned; null: not counted"
    )
    flops: float | None = Field(None, description="of all its steps, over all workers; null: not counted")
    report: str = Field(description="its report.json, relative to the pilot's folder")
    packed: bool = Field(False, description="it trained beside other runs, so the seconds it took are not comparable")


class FailedRun(Section):
    """One arm, one seed, one length, which came to no end."""

    name: str
    arm: str
    seed: int
    length: float
    attempts: int = Field(description="of the last command")
    why: str


class Verdict(Section):
    """The answer in words, and the figures behind it."""

    text: str
    decided: bool = Field(description="false: too few seeds to decide anything")
    clock: Literal["A"] = "A"
    winner: str | None = Field(description="highest mean top-1 at equal step-seconds; null: nothing was compared")
    rival: str | None = Field(
        description="best of the arms other than mix (without mix: the second best); null: there is none"
    )
    top1_gain: Interval | None = Field(
        description="points, mix (without mix: the winner) minus rival, at equal step-seconds"
    )
    speedup: Interval | None = Field(
        description="rival's step-seconds at T over mix's to its accuracy; low 0: not always reached; null: not told"
    )
    detectable: float | None = Field(
        None, description="smallest difference, in points, that the measured spread lets tell; null: fewer than 2 seeds"
    )


class PilotReport(Section):
    """A pilot, whole."""

    name: str
    status: Status
    preset: Literal["quick", "full"]
    device: str
    workers: int
    price_per_worker_hour: float | None
    unit_seconds: float = Field(description="T: measured step-seconds of ssl_sl at the asked epochs")
    lengths: tuple[float, ...] = Field(description="multiples of T at which arms are compared")
    seeds: tuple[int, ...] = Field(description="all of them; an arm has those of its runs")
    num_val: int
    metric: Metric = Field("top1", description="by which the figures named top1 are reckoned")
    val_classes: str = Field("", description="as `classes` of a run's final result")
    num_labelled: int | None = Field(
        None, description="training rows (images, or tiles) with a label; null: not written down"
    )
    arms: dict[str, tuple[PilotRun, ...]]
    verdict: Verdict
    tried: int = Field(description="configurations tried, of the arm with the most; 1: none was tuned")
    tried_of: dict[str, int] = Field({}, description="the same of each arm; without entries all are alike")
    detectable: float = Field(
        description="smallest difference, in points, that this many val rows and seeds, of the pair with the fewest, "
        "were expected to tell before the runs, at 20 % top-1; `verdict.detectable` is the one by the measured spread"
    )
    step_seconds: dict[str, float] = Field(description="measured alone, before the runs, by step kind")
    wall_seconds: float = Field(description="from the command's start to the report, earlier attempts included")
    held_worker_seconds: float | None = Field(
        None,
        description="that workers were held in all, counting runs side by side each and a GPU once; "
        "null: wall_seconds times workers",
    )
    failed: tuple[FailedRun, ...] = Field((), description="runs that failed for good; --resume tries them again")
    own_step_seconds: dict[str, dict[str, float]] = Field({}, description="the same, of arms whose steps are others")
    defined: dict[str, str] = Field({}, description="arms of the user's own, in words")
    environment: dict[str, str]
    note: str = Field("", description="a sentence on what the figures can say, shown beside them")
    requests: tuple[Request, ...] = Field((), description="what was asked when it began, and at each extension")
    merged: tuple[str, ...] = Field((), description="folder names of runs that another copy of this pilot made")
    roi: Roi | None = Field(None, description="the return on investment; null: not reckoned")

    @property
    def judged(self) -> Judged:
        """The val rows, and what each counts."""
        return judged_as(self.metric, self.val_classes, self.num_val)

    @property
    def held(self) -> float:
        """Worker-seconds that workers were held in all."""
        return self.wall_seconds * self.workers if self.held_worker_seconds is None else self.held_worker_seconds

    @property
    def packed(self) -> bool:
        """Some of its runs trained side by side."""
        return any(run.packed for runs in self.arms.values() for run in runs)

    @property
    def unit(self) -> str:
        """What a worker-second is called."""
        return unit_on(self.device)

    def _repr_html_(self) -> str:
        from raymix.report.html import notebook_html  # only a notebook asks for HTML

        return notebook_html(self)
