"""One run in an open session: its folder, its sinks, its books and its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from raymix.books import Books, Clock
from raymix.bucket import saved_for
from raymix.data.alike import near_duplicates
from raymix.environment import write_environment
from raymix.job import Job
from raymix.plan import Plan
from raymix.policy import planned
from raymix.report import known, words
from raymix.report.beside import Foretold, samples_of, write_foretold, write_samples
from raymix.report.check import near_table
from raymix.report.folder import LEDGER_FILE, RUN_FILE, write_text
from raymix.report.forecast import Forecast, allowance, forecast
from raymix.report.history import History
from raymix.report.run import NearRows, RunReport
from raymix.runfolder import NEAR_FILE
from raymix.runreport import bill_of, failed_report, report_of
from raymix.session import RunFailed, Session
from raymix.spec import JobError, Mae
from raymix.starting import begin
from raymix.train.task import Outcome, Task
from raymix.watch import Sink, Sinks
from raymix.watch.jsonl import JsonlSink
from raymix.watch.services import service_sinks
from raymix.watch.tensorboard import TensorBoardSink


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
    exports = session.exports(lambda: bill_of(job, books))
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
                failed = failed_report(job, session, books)
                if unwritten := _finish(job, failed, sink, None):
                    tell(unwritten)
                raise
            books.settle(outcome)
            report = report_of(job, session, outcome, books)
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


def _samples_note(job: Job) -> str:
    """What a reader must know to judge the sample pictures."""
    objective, part = job.plan.spec.objective, "val" if len(job.splits.val) else "select"
    which = "Rows" if job.plan.facts.tiles == 1 else "A tile each of images"
    note = f"{which} of {part}, spread over all of them; none was trained on."
    if isinstance(objective, Mae) and objective.norm_pixels:
        note += " Of a hidden patch the shape is drawn; its brightness and contrast are those of the image."
    return note
