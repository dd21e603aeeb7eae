"""What one run did: `report.json`. Built from Plan and History; reads no clock and no file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from raymix.plan import Asked, Decision, Facts, PhaseKind, Plan, Stream
from raymix.report.history import History, Rates, RollBack, SegmentReport
from raymix.report.judging import Judged, judged_as
from raymix.report.ledger import Account, Ledger, Spent
from raymix.report.ledger import cost_of as cost_of
from raymix.report.start import Start
from raymix.spec import Channels, Currency, Goal, Metric, Section, Weights

Status = Literal["done", "interrupted", "failed"]


def unit_on(device: str) -> str:
    """What a worker-second is called: GPU-seconds on GPUs (DESIGN section 3, rule 9)."""
    return "GPU-seconds" if device.startswith("cuda") else "worker-seconds"


class Final(Section):
    """The last checkpoint on val, which is read once, at the end."""

    top1: float = Field(description="percent of the val rows, by the metric")
    num_val: int
    correct: str = Field(
        description="a bit for each val row in order of row id, as hex; for paired intervals over images"
    )
    counts: str = Field(
        "", description="what each val row counts by the metric, as hex of 32 bits; empty: 1 where it is right, else 0"
    )
    select_top1: float | None = Field(None, description="percent of the select rows, at the last evaluation")
    weights: Weights = Field("raw", description="whose accuracy `top1` is, as evaluate.weights says beforehand")
    metric: Metric = Field("top1", description="by which the figures named top1 are reckoned")
    classes: str = Field(
        "", description="class of each val row, as hex of 16 bits; empty: by top1 all rows count alike"
    )
    cost: float | None = Field(None, description="per val image, by report.costs; null: another metric judges")
    by_weights: dict[Weights, float] = Field({}, description="top-1 of the raw weights and, if kept, of averaged ones")
    by_class: tuple[tuple[int, int], ...] = Field(
        (), description="of each class, in order of class_names: val rows, and how many of them are right"
    )

    @property
    def judged(self) -> Judged:
        """The val rows, and what each counts."""
        return judged_as(self.metric, self.classes, self.num_val)


class PhaseReport(Section):
    """One phase of the schedule as it was run."""

    kind: PhaseKind
    epochs: float = Field(description="as planned; passes over the source")
    steps: int
    images: int
    labelled: int = Field(description="images that fed the supervised loss")
    seconds: float = Field(description="steps and the wait for data")
    predicted_seconds: float | None = Field(None, description="its steps at the rates measured before the first one")
    worker_seconds: float
    cost: float | None = Field(description="null: price not set")
    ssl_loss: float | None
    sl_loss: float | None


class SourceRows(Section):
    """The training rows of one source."""

    rows: int
    seen: int = Field(description="rows consumed by training: images, or tiles of them")
    shared: int = Field(0, description="rows left out because another source has them")


class GroupRows(Section):
    """How many groups (data.group) each part has; none is in two of them."""

    train: int
    select: int
    val: int
    left_out: int = Field(description="rows of groups of select and val that are in no part: without a label, unused")
    select_lacks: tuple[str, ...] = Field((), description="classes without a row in select: too few groups hold them")
    val_lacks: tuple[str, ...] = Field((), description="the same of val")


class NearRows(Section):
    """Rows that look like a training image (data.near_duplicates); `near_duplicates.tsv` names them."""

    distance: int = Field(description="most bits in which two perceptual hashes of 63 differ")
    select: int
    val: int
    without: int = Field(description="rows that were not looked at: too little contrast for a hash")


class RowsReport(Section):
    """Every image accounted for."""

    train: int
    labelled: int
    unlabelled: int
    select: int
    val: int
    skipped: dict[str, int] = Field(description="unreadable images: cause -> count")
    tiles: int = Field(1, description="that each image is cut into; training consumes those (data.tile)")
    seen: dict[Stream, int] = Field(description="images consumed by training, or tiles of them, by stream")
    sources: dict[str, SourceRows] = Field({}, description="training rows by source: train, unlabelled")
    groups: GroupRows | None = Field(None, description="null: no data.group was asked for")
    near: NearRows | None = Field(None, description="null: not looked for, or images were streamed")


class ImagesReport(Section):
    """How the decoded images were held."""

    kept: str = Field(description="device, host, or stream: read anew every epoch")
    size: int = Field(description="pixels a side")
    channels: Channels
    bytes: int = Field(description="of all images, decoded")


class Totals(Section):
    """What the run cost, over all attempts. Worker-seconds count every second the workers were held (clock B).

    Steps, wait, evaluation and checkpoints are those that training went on from; the ledger has what was lost.
    """

    wall_seconds: float = Field(description="from the command's start to the report")
    worker_seconds: float
    cost: float | None = Field(description="null: price not set")
    step_seconds: float = Field(description="steps alone")
    data_seconds: float = Field(description="steps waiting for data")
    evaluate_seconds: float = Field(description="select rows while training, and val at the end")
    checkpoint_seconds: float
    startup_seconds: float = Field(description="from the command's start to the first step")
    startup: dict[str, float] = Field(
        {}, description="of these: ray, workers (from the asking until they have the images), images, prepare"
    )
    gpu_bytes: int | None = Field(None, description="most memory that a worker held on its GPU; null: on CPUs")

    @property
    def trained_seconds(self) -> float:
        """Clock A of one worker: steps and their wait for data."""
        return self.step_seconds + self.data_seconds


class Point(Section):
    """One point of the training curves."""

    step: int
    kind: PhaseKind
    seconds: float
    worker_seconds: float | None = Field(None, description="null: `seconds` times workers")
    lr: float
    weight: float
    ssl_loss: float | None
    sl_loss: float | None
    train_top1: float | None
    select_top1: float | None
    select_ema_top1: float | None = None
    trial: int = Field(0, description="steps of a trial after it")
    trial_half_top1: float | None = Field(None, description="in the middle of that trial; null: there was none")
    trial_top1: float | None = Field(None, description="the same at its end")


class BudgetReport(Section):
    """A budget in its own currency: seconds, hours, money or FLOPs."""

    currency: Currency
    asked: float
    spent: float


class GroupReport(Section):
    """One worker group of a run whose number of workers may change."""

    workers: int
    since: float = Field(description="seconds of the run's wall time, over all attempts, at which it was asked for")
    until: float = Field(description="the same at its end")


class RunReport(Section):
    """A run, whole: what `raymix run` returns and `report.json` holds."""

    name: str
    status: Status
    seed: int
    device: str
    workers: int = Field(description="processes that train; the most that there may be, where `groups` has their sizes")
    price_per_worker_hour: float | None
    final: Final | None
    phases: tuple[PhaseReport, ...]
    rows: RowsReport
    images: ImagesReport | None = None
    totals: Totals
    ledger: Ledger | None = Field(None, description="every second of every worker; null: of an older raymix")
    ended: Literal["complete", "budget", "goal", "patience"] | None = Field(
        None, description="why the run is over; null: it was interrupted or failed"
    )
    decisions: tuple[Decision, ...] = Field((), description="changes of the plan on the way, with their reasons")
    planned: tuple[PhaseKind, ...] = Field((), description="kinds of the plan's phases, as `decisions` counts them")
    asked: Asked | None = Field(None, description="epochs and budget; null: of an older raymix")
    budget: BudgetReport | None = None
    goal: Goal | None = None
    step_seconds: dict[str, float] = Field(description="measured in prepare, by step kind")
    curve: tuple[Point, ...]
    class_names: tuple[str, ...]
    attempts: int = Field(1, description="worker groups it took, restarts and resumes included")
    groups: tuple[GroupReport, ...] = Field((), description="of an elastic run, in order; empty: workers were fixed")
    packed: float | None = Field(
        None,
        description="it trained beside other runs, and its seconds are not comparable: share of its GPUs that it had, "
        "1 on CPUs; null: it trained alone, in all attempts that came to a report",
    )
    start: Start | None = Field(None, description="what it took over from earlier runs; null: nothing")
    skipped: int = Field(0, description="steps that were left out since loss or gradient was not finite")
    roll_backs: tuple[RollBack, ...] = Field(
        (), description="where the run went back to, and why; each halved its rate"
    )
    environment: dict[str, str]
    note: str = Field("", description="a sentence on what the figures can say, shown beside them")

    @property
    def unit(self) -> str:
        """What a worker-second is called."""
        return unit_on(self.device)

    def held_at(self, point: Point) -> float:
        """Worker-seconds of training up to a point of the curve."""
        return point.seconds * self.workers if point.worker_seconds is None else point.worker_seconds

    def _repr_html_(self) -> str:
        from raymix.report.html import notebook_html  # only a notebook asks for HTML

        return notebook_html(self)


def totals(history: History, spent: Sequence[Spent], price: float | None) -> Totals:
    """What all attempts took together, the last one included; `price` is that of a worker-hour."""
    reports, held = history.reports, sum(attempt.worker_seconds for attempt in spent)
    data = sum(report.data_seconds for report in reports)
    startup: Counter[str] = Counter()
    for attempt in spent:
        startup.update(attempt.startup)
    return Totals(
        wall_seconds=sum(attempt.wall_seconds for attempt in spent),
        worker_seconds=held,
        cost=cost_of(held, price),
        step_seconds=sum(report.seconds for report in reports) - data,
        data_seconds=data,
        evaluate_seconds=sum(report.evaluate_seconds for report in reports) + _after(spent, "evaluation"),
        checkpoint_seconds=sum(report.checkpoint_seconds for report in reports) + _after(spent, "checkpoints"),
        startup_seconds=sum(attempt.start_seconds for attempt in spent),
        startup=dict(startup),
        gpu_bytes=max((report.gpu_bytes for report in reports if report.gpu_bytes), default=None),
    )


def groups_of(spent: Sequence[Spent]) -> tuple[GroupReport, ...]:
    """The worker groups of all attempts at an elastic run; of another, nothing."""
    found, before = [], 0.0
    for attempt in spent:
        end = before
        for part in attempt.parts:
            end += part.wall_seconds
            found.append(GroupReport(workers=part.workers, since=end - part.worker_seconds / part.workers, until=end))
        before += attempt.wall_seconds
    return tuple(found)


def _after(spent: Sequence[Spent], account: Account) -> float:
    """Seconds of an account after the last report of each attempt."""
    return sum(attempt.after.get(account, 0.0) for attempt in spent)


def phase_reports(plan: Plan, history: History) -> tuple[PhaseReport, ...]:
    """A line a phase, summed over its segments."""
    price, lines = plan.spec.cluster.price_per_worker_hour, []
    for index, phase in enumerate(plan.phases):
        if not phase.steps:  # a decision left it without a step
            continue
        reports = [report for report in history.reports if report.segment.phase == index]
        seconds = sum(report.seconds for report in reports)
        held = sum(
            (num or plan.spec.cluster.num_replicas) * report.seconds
            for num, mine in history.by_group()
            for report in mine
            if report.segment.phase == index
        )
        lines.append(
            PhaseReport(
                kind=phase.kind,
                epochs=phase.epochs,
                steps=sum(report.segment.steps for report in reports),
                images=sum(report.images for report in reports),
                labelled=sum(report.labelled for report in reports),
                seconds=seconds,
                predicted_seconds=_predicted(reports, history.rates),
                worker_seconds=held,
                cost=cost_of(held, price),
                ssl_loss=next((r.ssl_loss for r in reversed(reports) if r.ssl_loss is not None), None),
                sl_loss=next((r.sl_loss for r in reversed(reports) if r.sl_loss is not None), None),
            )
        )
    return tuple(lines)


def _predicted(reports: list[SegmentReport], rates: Rates) -> float | None:
    """The steps of some segments at given rates; None: one of their kinds was not measured."""
    turns = [turn for report in reports for turn in report.segment.pattern]
    if any(kind not in rates.step_seconds for kind, _ in turns):
        return None
    return sum(rates.step_seconds[kind] * steps for kind, steps in turns)


def rows_report(
    facts: Facts,
    skipped: dict[str, int],
    seen: dict[Stream, int],
    sources: dict[str, SourceRows],
    groups: GroupRows | None = None,
    near: NearRows | None = None,
) -> RowsReport:
    """The rows of a run: where they stand and how many were used."""
    return RowsReport(
        train=facts.num_train // facts.tiles,
        labelled=facts.num_labelled // facts.tiles,
        unlabelled=(facts.num_train - facts.num_labelled) // facts.tiles,
        select=facts.num_select,
        val=facts.num_val,
        tiles=facts.tiles,
        skipped=skipped,
        seen=seen,
        sources=sources,
        groups=groups,
        near=near,
    )


def curve(history: History) -> tuple[Point, ...]:
    """The training curves: a point a segment."""
    points, seconds, held = [], 0.0, 0.0
    groups = history.by_group()
    changed = len({num for num, _ in groups}) > 1
    for num, report in ((num, report) for num, reports in groups for report in reports):
        seconds, held = seconds + report.seconds, held + num * report.seconds
        segment = report.segment
        points.append(
            Point(
                step=segment.start + segment.steps,
                kind=segment.kind,
                seconds=seconds,
                worker_seconds=held if changed else None,
                lr=segment.lr[1],
                weight=segment.weight[1],
                ssl_loss=report.ssl_loss,
                sl_loss=report.sl_loss,
                train_top1=report.train_top1,
                select_top1=report.select_top1,
                select_ema_top1=report.select_ema_top1,
                trial=segment.trial,
                trial_half_top1=report.trial_half_top1,
                trial_top1=report.trial_top1,
            )
        )
    return tuple(points)
