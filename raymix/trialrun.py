"""One trial of a search, trained in its own process: a run that never sees val and tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from raymix.arms import arm_spec, seconds_of
from raymix.books import Clock
from raymix.bucket import BEAT_SECONDS, LEASE_SECONDS, is_bucket, shown
from raymix.conduct import train_one
from raymix.data.splits import facts
from raymix.job import Job
from raymix.jobfile import with_values
from raymix.plan import Plan, resolve
from raymix.report.folder import RUN_FILE, read_run
from raymix.report.history import History, SegmentReport, select_of
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder
from raymix.runner import Checked, check, opened, readable, rows_of
from raymix.search.trial import Trial, TrialStatus
from raymix.session import RunFailed, Session, open_session
from raymix.spec import JobError, JobSpec, Weights
from raymix.watch import Sinks

_LOOK_SECONDS = 2.0  # between two times that a folder in a bucket is asked for
Tell = Callable[[Trial | None], bool]
_STATUS: dict[str, TrialStatus] = {"done": "done", "interrupted": "interrupted", "failed": "failed"}


def trial_spec(spec: JobSpec, arm: str, values: dict[str, object]) -> JobSpec:
    """The job of a trial: the search's own with some values, as one of the arms where there are any.

    Raises:
        JobError: the job refuses the values.
    """
    made = with_values(spec, values)
    return arm_spec(made, arm) if arm else made


def hidden(checked: Checked) -> Checked:
    """The same job without its val rows."""
    splits = checked.splits.without_val()
    return replace(checked, splits=splits, plan=resolve(checked.spec, facts(checked.rows, splits)))


def train_trial(trial: Trial, folder: Path, tell: Tell, spec: JobSpec, allow_import: tuple[str, ...] = ()) -> Trial:
    """Trains a trial, from its checkpoint where it has one; one that is finished is only read.

    A setting that cannot be trained is no reason to end the search: it comes back as failed.
    """
    clock = Clock()
    asked = trial_spec(spec, trial.arm, trial.values)
    asked = asked.model_copy(update={"name": trial.name, "storage": shown(folder.parent)})
    report = read_run(folder) if (folder / RUN_FILE).is_file() else None
    error = ""
    if report is None or report.status != "done":
        try:
            report = _train(trial, folder, tell, asked, allow_import, clock)
        except _Ended:
            return trial.model_copy(update={"status": "interrupted"})
        except (JobError, RunFailed) as failure:
            error = str(failure)
            report = read_run(folder) if (folder / RUN_FILE).is_file() else None
    return _outcome(trial, report, asked.evaluate.weights, error)


def _train(
    trial: Trial, path: Path, tell: Tell, spec: JobSpec, allow_import: tuple[str, ...], clock: Clock
) -> RunReport:
    checked = hidden(check(spec, allow_import))
    folder = RunFolder(spec, path, resume=True)
    before = folder.before(checked.rows)
    ids = rows_of(checked.splits)
    opening = opened(
        checked, ids, partial(_held, folder, tell), start=open_session, verbose=False, quiet=True, before=before
    )
    with opening as (session, *_):
        splits = readable(checked.splits, session)
        now = facts(checked.rows, splits, session.run)
        plan = folder.stored_plan(now) or resolve(spec, now)
        job = Job(folder, checked.rows, splits, plan, allow_import=allow_import, remember=False)
        return train_one(job, session, _Teller(trial, session, spec, tell), clock)


class _Ended(Exception):  # noqa: N818 (it is what happened)
    """The trial is to end, and has not begun."""


@contextmanager
def _held(folder: RunFolder, tell: Tell, note: Callable[[str], None]) -> Iterator[None]:
    """As the folder's own; in a bucket, a process of this trial that was killed has it until its lease has run out.

    Raises:
        _Ended: while it waited, the search was stopped.
    """
    until = time.monotonic() + (LEASE_SECONDS + BEAT_SECONDS if is_bucket(folder.shown) else 0)
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(folder.held(note))
                break
            except JobError:
                if time.monotonic() > until:
                    raise
            if tell(None):
                raise _Ended
            time.sleep(_LOOK_SECONDS)
        yield


class _Teller(Sinks):
    """Tells the search of every evaluation, and ends the run when it is told to."""

    def __init__(self, trial: Trial, session: Session, spec: JobSpec, tell: Tell) -> None:
        super().__init__([])
        self._trial, self._session, self._tell = trial, session, tell
        self._weights, self._workers = spec.evaluate.weights, spec.cluster.num_replicas
        self._billed = trial.billed_worker_seconds  # by earlier attempts

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """It starts, or goes on after `history`."""
        seconds = sum(report.seconds for report in history.reports) * self._workers
        planned = seconds_of(plan, history.rates) * self._workers
        self._trial = self._trial.model_copy(update={"worker_seconds": seconds, "planned": planned})

    def segment(self, run: str, report: SegmentReport) -> None:
        """A segment is done, and perhaps the select rows were looked at."""
        top1 = select_of(report, self._weights)
        update = {
            "worker_seconds": self._trial.worker_seconds + report.seconds * self._workers,
            "billed_worker_seconds": self._billed + self._session.worker_seconds,
            **({} if top1 is None else {"select_top1": top1}),
        }
        self._trial = self._trial.model_copy(update=update)
        if self._tell(None if top1 is None else self._trial):
            self._session.stop()


def _outcome(trial: Trial, report: RunReport | None, weights: Weights, error: str) -> Trial:
    if report is None:
        return trial.model_copy(update={"status": "failed", "error": error})
    found = [select_of(point, weights) for point in report.curve]
    top1 = next((value for value in reversed(found) if value is not None), None)
    status = _STATUS[report.status] if not error else "failed"
    if status == "done" and top1 is None:
        status, error = "failed", "no step of it trained the classifier"
    return trial.model_copy(
        update={
            "status": status,
            "select_top1": top1,
            "worker_seconds": report.totals.trained_seconds * report.workers,
            "billed_worker_seconds": report.totals.worker_seconds,
            "num_select": report.rows.select,
            "device": report.device,
            "error": error,
        }
    )
