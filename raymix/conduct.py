"""One run in an open session: its folder, its sinks, its books and its report."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raymix.books import Books, Clock
from raymix.bucket import saved_for
from raymix.data.alike import near_duplicates
from raymix.data.order import orders
from raymix.data.rows import Rows
from raymix.data.splits import Splits, group_rows
from raymix.environment import write_environment
from raymix.plan import Asked, Plan, followed, positions
from raymix.policy import planned
from raymix.report import known, words
from raymix.report.beside import Foretold, samples_of, write_foretold, write_samples
from raymix.report.check import near_table
from raymix.report.folder import LEDGER_FILE, RUN_FILE, write_text
from raymix.report.forecast import Forecast, allowance, forecast
from raymix.report.history import History, Rates, select_of
from raymix.report.intervals import pack_correct
from raymix.report.judging import judged, pack_classes, pack_counts
from raymix.report.ledger import cost_of, ledger
from raymix.report.notes import not_finite_note
from raymix.report.run import (
    BudgetReport,
    Final,
    ImagesReport,
    NearRows,
    RunReport,
    SourceRows,
    Status,
    curve,
    groups_of,
    phase_reports,
    rows_report,
    totals,
)
from raymix.report.scoring import cost_per_row
from raymix.report.start import Start
from raymix.runfolder import NEAR_FILE, Attempt, RunFolder
from raymix.session import Bill, RunFailed, Session
from raymix.spec import JobError, JobSpec, Mae
from raymix.starting import begin
from raymix.train.task import Outcome, Task
from raymix.watch import Sink, Sinks
from raymix.watch.jsonl import JsonlSink
from raymix.watch.services import service_sinks
from raymix.watch.tensorboard import TensorBoardSink


@dataclass(frozen=True, eq=False)
class Job:
    """A run that is about to be trained."""

    folder: RunFolder
    rows: Rows
    splits: Splits
    plan: Plan
    rates: Rates | None = None  # None: measured before the first step
    allow_import: tuple[str, ...] = ()  # as the command was told
    profile: bool = False  # a trace of each step kind is left in the folder
    alone: bool = True  # the command serves this run only, so its start-up is billed to it
    remember: bool = True  # what its steps cost is kept for `raymix plan`
    packed: float | None = None  # as `RunReport` has it
    near: NearRows | None = None  # as `RowsReport` has it; found out before the first step
    again: Path | None = None  # the run that it repeats
    start: Start | None = None  # what it took over; found when it begins


def train_one(job: Job, session: Session, shown: Sink, clock: Clock) -> RunReport:
    """Trains one run and writes its folder, whatever comes of it.

    Raises:
        RunFailed: training failed for good; `report.json` says so.
        RunFailed: the folder could not be written at the start or the end; what came of the run is the exception's.
    """
    folder = job.folder
    workers, tell = job.plan.spec.cluster.num_replicas, shown.note
    try:
        folder.start(job.plan, session.frame.size, job.rows, session.skipped)
        job = _compared(job, session, shown)
        write_environment(folder.path, job.rows, session, workers, len(folder.attempts()) + 1)
        job = _begun(job, tell)
        _foretell(job)
        folder.publish()
    except OSError as error:
        raise RunFailed(f"{folder.shown} cannot be written: {error.strerror or error}; nothing was trained") from error
    books = Books(folder, session, clock, job.alone, workers, tell)
    metrics = JsonlSink(folder.path / "metrics.jsonl", tell=tell)
    services = service_sinks(job.plan.spec.watch, folder.path, job.plan, tell)
    exports = session.exports(lambda: _bill(job, books))
    own = Sinks([books, metrics, TensorBoardSink(folder.path, tell), *exports, *services])
    sink = Sinks([own, shown])
    name = folder.path.name
    task = Task(
        name,
        job.plan,
        job.splits,
        job.rates,
        str(folder.checkpoints),
        bucket=saved_for(folder.checkpoints),
        allow_import=job.allow_import,
        profile=str(folder.path / "profile") if job.profile else None,
        weights=job.start.weights if job.start is not None else None,
        held_limit=_held_limit(job),
        deadline=_deadline(job, session, clock),
    )
    with closing(own):  # the console goes on: a pilot has more runs
        with books:
            try:
                outcome = session.execute(task, sink)
            except RunFailed:
                failed = _build(job, session, books, "failed", None, books.history, None)
                if unwritten := _finish(job, failed, sink, None):
                    tell(unwritten)
                raise
            books.settle(outcome)
            report = _report(job, session, outcome, books)
        if unwritten := _finish(job, report, sink, outcome):
            raise RunFailed(f"{name}: training is {report.status}, but {unwritten}; --resume writes it again", report)
    _remember(job, session, report, outcome.history)
    return report


def _compared(job: Job, session: Session, shown: Sink) -> Job:
    """With what came of the search for near-duplicates, which its folder lists.

    Raises:
        OSError: the list cannot be written.
    """
    distance = job.plan.spec.data.near_duplicates
    if distance is None or session.hashes is None:
        return job
    found = near_duplicates(job.rows, job.splits, session.hashes, distance)
    if found.images:
        write_text(job.folder.path / NEAR_FILE, near_table(found.images))
    if job.alone:
        shown.note(f"near-duplicates: {words.near(found.val, found.select, found.without)}")
    return replace(job, near=NearRows(**found.model_dump(exclude={"images"})))


def _begun(job: Job, tell: Callable[[str], None]) -> Job:
    """The run with what it takes over from earlier ones.

    Raises:
        RunFailed: that is gone, or has changed, since the job was checked.
    """
    try:
        start = begin(job.folder.path, job.plan.spec, job.rows, job.splits, job.allow_import, job.again, tell)
    except JobError as error:
        raise RunFailed(f"{job.folder.path.name}: {error}; nothing was trained") from error
    return replace(job, start=start)


def _deadline(job: Job, session: Session, clock: Clock) -> float | None:
    """time.time() at which a budget of time is spent, earlier attempts counted in; None: there is none."""
    budget = job.plan.spec.budget
    if budget is not None and budget.wall is not None:
        return clock.started_at + budget.wall - sum(attempt.wall_seconds for attempt in job.folder.attempts())
    limit = _held_limit(job)
    if limit is None:
        return None
    return time.time() + (limit - session.worker_seconds) / job.plan.spec.cluster.num_replicas


def _held_limit(job: Job) -> float | None:
    """Worker-seconds that this attempt may hold, where hours or money are the budget; None: any number."""
    budget, cluster = job.plan.spec.budget, job.plan.spec.cluster
    if budget is None or budget.currency not in ("worker_hours", "money"):
        return None
    hours = budget.worker_hours
    if hours is None:
        assert budget.money is not None
        assert cluster.price_per_worker_hour
        hours = budget.money / cluster.price_per_worker_hour
    return 3600 * hours - sum(attempt.worker_seconds for attempt in job.folder.attempts())


def foreseen(plan: Plan) -> tuple[Plan, Forecast]:
    """What a plan comes to and costs, as far as like runs or its FLOPs tell; planned into its budget if it has one."""
    entry, now = known.recall(plan), known.now()
    told = forecast(plan, entry, now)
    if told.rates is not None and plan.may_change:
        plan = planned(plan, told.rates, allowance(plan, told))
        told = forecast(plan, entry, now)
    return plan, told


def _foretell(job: Job) -> None:
    """Keeps what `raymix plan` would say of a run, so that its page can hold that against what came of it."""
    if job.alone:
        _, told = foreseen(job.plan)
        if told.costs is not None:
            write_foretold(job.folder.path, Foretold(costs=told.costs, source=told.source))


def _finish(job: Job, report: RunReport, sink: Sinks, outcome: Outcome | None) -> str | None:
    """Writes the report and tells the end. Returns why the report could not be written."""
    unwritten = None
    try:
        _write_report(job, report, outcome)
    except OSError as error:
        unwritten = f"the report could not be written to {job.folder.shown}: {error.strerror or error}"
    sink.end(job.folder.path.name, report)
    return unwritten


def _write_report(job: Job, report: RunReport, outcome: Outcome | None) -> None:
    from raymix.report.html import page

    path = job.folder.path
    write_text(path / RUN_FILE, report.model_dump_json(indent=1))
    if outcome is not None and outcome.samples is not None:
        found, names = outcome.samples, job.plan.facts.class_names
        write_samples(path, samples_of(found.labels, found.predicted, found.pictures, names, _samples_note(job)))
    write_text(path / "report.html", page(path, report))
    if report.ledger is not None:
        write_text(path / LEDGER_FILE, report.ledger.csv())
    job.folder.publish()


def _remember(job: Job, session: Session, report: RunReport, history: History) -> None:
    """Keeps what was measured for the next `raymix plan` of a like job; of a run that was resumed, nothing."""
    planned_for = all(group.workers == report.workers for group in report.groups)
    if job.remember and job.packed is None and report.attempts == 1 and history.reports and planned_for:
        seen = known.Seen.of(report, history.rates, job.alone)
        known.remember(job.plan, session.device, session.device_name, seen)


def _report(job: Job, session: Session, outcome: Outcome, books: Books) -> RunReport:
    status: Status = "done" if outcome.complete else "interrupted"
    final = None
    if outcome.correct:
        weights = job.plan.spec.evaluate.weights
        correct = outcome.correct[weights]
        selects = [select_of(report, weights) for report in outcome.history.reports]
        labels, metric = job.splits.labels[job.splits.val], job.plan.spec.metric
        val, counts = judged(metric, labels), outcome.counts or outcome.correct
        scores = {name: val.score(found) for name, found in counts.items()}
        final = Final(
            top1=scores[weights],
            metric=metric,
            classes=pack_classes(labels) if val.factors is not None else "",
            num_val=len(correct),
            correct=pack_correct(correct),
            counts=pack_counts(counts[weights]) if val.graded else "",
            select_top1=next((top1 for top1 in reversed(selects) if top1 is not None), None),
            weights=weights,
            cost=cost_per_row(scores[weights], labels, job.plan.spec, job.plan.facts.class_names),
            by_weights=scores,
            by_class=_by_class(job, correct),
        )
    return _build(job, session, books, status, final, outcome.history, outcome)


def _by_class(job: Job, correct: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Of each class its val rows, and how many of them are right."""
    labels, num = job.splits.labels[job.splits.val], job.plan.facts.num_classes
    counts = (np.bincount(of, minlength=num).tolist() for of in (labels, labels[correct]))
    return tuple(zip(*counts, strict=True))


def _build(
    job: Job,
    session: Session,
    books: Books,
    status: Status,
    final: Final | None,
    history: History,
    outcome: Outcome | None,
) -> RunReport:
    cluster, attempts = job.plan.spec.cluster, books.all()
    plan = followed(job.plan, history.decisions)
    skipped = Counter(session.skipped.values())
    return RunReport(
        name=job.folder.path.name,
        status=status,
        seed=job.plan.spec.seed,
        device=session.device,
        workers=cluster.num_replicas,
        price_per_worker_hour=cluster.price_per_worker_hour,
        final=final,
        phases=phase_reports(plan, history),
        ended=outcome.ended if outcome else None,
        decisions=history.decisions,
        planned=tuple(phase.kind for phase in plan.phases),
        asked=Asked.of(plan.spec),
        budget=_budget(plan, history, attempts),
        goal=plan.spec.goal,
        rows=rows_report(
            job.plan.facts,
            dict(skipped),
            positions(plan, history.done_steps),
            _sources(job, plan, history),
            group_rows(job.rows, job.splits),
            job.near,
        ),
        images=ImagesReport(
            kept=session.kept,
            size=session.frame.size,
            channels=session.frame.channels,
            bytes=_image_bytes(job, session),
        ),
        totals=totals(history, attempts, cluster.price_per_worker_hour),
        ledger=ledger(history, attempts, cluster.num_replicas, cluster.price_per_worker_hour),
        step_seconds=dict(history.rates.step_seconds),
        curve=curve(history),
        class_names=job.plan.facts.class_names,
        attempts=sum(attempt.groups for attempt in attempts),
        groups=groups_of(attempts),
        packed=job.packed,
        start=job.start if job.start != Start() else None,
        skipped=history.skipped,
        roll_backs=history.roll_backs,
        environment=environment(session),
        note=" ".join(filter(None, (note_on(job.plan.spec), not_finite_note(history)))),
    )


def _bill(job: Job, books: Books) -> Bill:
    """What the run has cost so far."""
    attempts, history, price = books.all(), books.history, job.plan.spec.cluster.price_per_worker_hour
    held = sum(attempt.worker_seconds for attempt in attempts)
    budget = _budget(job.plan, history, attempts)
    return Bill(held, cost_of(held, price), budget.spent / budget.asked if budget else None)


def _budget(plan: Plan, history: History, attempts: tuple[Attempt, ...]) -> BudgetReport | None:
    """What was asked to be spent, and what was."""
    budget = plan.spec.budget
    if budget is None:
        return None
    held = sum(attempt.worker_seconds for attempt in attempts)
    flops = history.rates.step_flops
    spent = {
        "wall": sum(attempt.wall_seconds for attempt in attempts),
        "training": history.training_seconds,
        "worker_hours": held / 3600,
        "money": cost_of(held, plan.spec.cluster.price_per_worker_hour) or 0.0,
        "flops": sum(flops.get(kind, 0.0) * n for r in history.reports for kind, n in r.segment.pattern),
    }[budget.currency]
    asked = getattr(budget, budget.currency)
    return BudgetReport(currency=budget.currency, asked=asked, spent=spent)


def note_on(spec: JobSpec) -> str:
    """What a reader must know of the data before believing a figure."""
    if spec.data.train.format == "digits":
        return "1,797 digits of 8x8 pixels: this shows the tool running and says nothing about other images."
    return ""


def _samples_note(job: Job) -> str:
    """What a reader must know to judge the sample pictures."""
    objective, part = job.plan.spec.objective, "val" if len(job.splits.val) else "select"
    which = "Rows" if job.plan.facts.tiles == 1 else "A tile each of images"
    note = f"{which} of {part}, spread over all of them; none was trained on."
    if isinstance(objective, Mae) and objective.norm_pixels:
        note += " Of a hidden patch the shape is drawn; its brightness and contrast are those of the image."
    return note


def environment(session: Session) -> dict[str, str]:
    """Versions and machine."""
    packages = ("raymix", "torch", "torchvision", "ray", "numpy")
    return {
        "device": session.device_name,
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: known.installed(name) for name in packages},
    }


def _image_bytes(job: Job, session: Session) -> int:
    """Bytes of the run's images, decoded."""
    return job.plan.facts.num_images * session.frame.nbytes


def _sources(job: Job, plan: Plan, history: History) -> dict[str, SourceRows]:
    """The images of data.train and, where there is one, of data.unlabelled: how many train, and how often."""
    second = (job.rows.source_of > 0) & ~job.rows.is_val
    tiles = np.repeat(second, plan.facts.tiles)
    found, consumed = orders(plan, job.splits), positions(plan, history.done_steps)
    seen = sum(order.count(consumed[stream], tiles) for stream, order in found.items()) if second.any() else 0
    rows = int(np.count_nonzero(second[job.splits.train]))
    sources = {"train": SourceRows(rows=len(job.splits.train) - rows, seen=sum(consumed.values()) - seen)}
    if job.plan.spec.data.unlabelled is not None:
        sources["unlabelled"] = SourceRows(rows=rows, seen=seen, shared=job.rows.num_shared)
    return sources
