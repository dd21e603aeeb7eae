"""One job from its spec to its report: check, open a session, train, report. Imports neither torch nor ray."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from raymix.books import Clock
from raymix.bucket import Unsynced
from raymix.conduct import foreseen, train_one
from raymix.data.formats import index_data
from raymix.data.rows import Ids, Rows
from raymix.data.splits import Splits, facts, split
from raymix.job import Job
from raymix.lock import Hold
from raymix.plan import Asked, Plan, resolve
from raymix.report.folder import RUN_FILE, read_run
from raymix.report.forecast import Forecast
from raymix.report.run import BudgetReport, RunReport
from raymix.runfolder import Before, RunFolder, in_ray_job, storage_of
from raymix.session import Needs, RunFailed, Session, open_session
from raymix.signals import Interrupted, Signals, Stoppable
from raymix.spec import JobError, JobSpec, Vit
from raymix.starting import check_apart, kept_of, weights_of
from raymix.train.task import Task
from raymix.watch import Sink
from raymix.watch.console import ConsoleSink
from raymix.watch.services import check_services, load_services

LARGEST_SHARE = 0.05  # of the training rows that a batch on auto may take: twenty steps an epoch at least

Opened = TypeVar("Opened", bound="Closeable")

__all__ = ["Interrupted", "RunFailed", "check", "plan", "run"]


class Closeable(Stoppable, Protocol):
    """What holds workers until it is closed: a session, or several."""

    def close(self) -> None:
        """Gives everything back."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A job and its data, found fit for each other."""

    spec: JobSpec
    rows: Rows
    splits: Splits
    plan: Plan
    drops: bool = True  # the backbone can leave patches out


def check(
    spec: JobSpec, allow_import: tuple[str, ...] = (), rows: Rows | None = None, own: Path | None = None
) -> Checked:
    """Lists the data, cuts the splits and resolves the plan; starts nothing.

    A backbone of a library or of the user's own is made without weights; raymix's own needs no torch for that. No image
    is read but a few where the splits of an earlier run are kept. `rows`: those of `spec.data`, where they have been
    listed; `own`: the folder of a run of this job that goes on or is repeated, which holds what it took over.

    Raises:
        JobError: the backbone does not fit the job, the data cannot carry it, or what it takes over is not there.
    """
    drops = True
    if not isinstance(spec.backbone, Vit):
        from raymix.method import fit

        drops = fit.check(spec, allow_import)
    if rows is None:
        rows = index_data(spec.data)
    splits = split(rows, spec.data, spec.seed, kept_of(spec, rows, own))
    weights_of(spec, rows.class_names, allow_import, own)
    return Checked(spec, rows, splits, resolve(spec, facts(rows, splits)), drops)


def plan(spec: JobSpec, allow_import: tuple[str, ...] = ()) -> Plan:
    """What a job would do; starts nothing.

    Raises:
        JobError: the job or its data is wrong.
    """
    return check(spec, allow_import).plan


def forecasts(specs: Iterable[JobSpec], allow_import: tuple[str, ...] = ()) -> Iterator[tuple[Plan, Forecast]]:
    """What each job would do and cost; starts nothing. Data that is the same as the last job's is listed once.

    Raises:
        JobError: a job or its data is wrong.
    """
    last: Checked | None = None
    for spec in specs:
        last = check(spec, allow_import, last.rows if last and last.spec.data == spec.data else None)
        yield foreseen(last.plan)


def run(
    spec: JobSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
    profile: bool = False,
) -> RunReport:
    """Trains one backbone as the job says; its folder holds the report when this returns.

    `profile`: the folder also gets a trace of a few steps of each kind.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: training failed for good.
        Interrupted: a signal ended it; a checkpoint was saved.
    """
    clock = Clock()
    check_apart(spec, storage_of(spec) / spec.name)
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite, may_grow=True)
    checked = check(spec, allow_import, own=folder.path if folder.resumed else None)
    done = read_run(folder.path) if folder.resumed and (folder.path / RUN_FILE).is_file() else None
    if done is not None and done.status == "done":
        if not _goes_on(folder, done):
            return done
    elif folder.grown is not None:
        raise JobError(
            folder.grown, f"{folder.shown} is not done yet", "resume it with the job as it was, then extend it"
        )
    before, ids = folder.before(checked.rows), rows_of(checked.splits)
    opening = opened(checked, ids, folder.held, start=open_session, verbose=verbose, quiet=quiet, before=before)
    with opening as (session, sink, signals):
        splits = readable(checked.splits, session)
        now = facts(checked.rows, splits, session.run)
        made = folder.stored_plan(now) or _sized(resolve(spec, now), splits, allow_import, session, sink)
        job = Job(folder, checked.rows, splits, made, allow_import=allow_import, profile=profile)
        report = train_one(job, session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"checkpoint saved; --resume goes on from {folder.shown}", report)
    return report


def _goes_on(folder: RunFolder, done: RunReport) -> bool:
    """Whether a finished run goes on: its budget or goal ended it before its plan did, or it is to be extended.

    Raises:
        JobError: it cannot be extended so.
    """
    spec, now = folder.spec, Asked.of(folder.spec)
    ssl, sl = now.epochs_beyond(done.asked or Asked.of(folder.stored))
    grows = "schedule.ssl_epochs" if ssl else "schedule.sl_epochs" if sl else None
    if grows and done.ended in ("goal", "patience"):
        raise JobError(grows, f"the run was ended by its goal ({done.ended})", "change the goal, and let it end first")
    if ssl and not sl and now.sl_epochs:
        problem = "more SSL epochs alone would leave a classifier that does not fit the backbone any more"
        raise JobError("schedule.ssl_epochs", problem, "raise schedule.sl_epochs as well")
    if done.ended in ("goal", "patience"):
        return spec.goal != done.goal
    if done.ended != "budget" or done.budget is None:
        return grows is not None
    trained = sum(phase.steps for phase in done.phases)
    raised = _raises(spec, done.budget)
    if grows and not (raised and trained):
        raise JobError(grows, "the run has spent its budget", "raise the budget as well")
    if raised and spec.budget is None and any(decision.extension is None for decision in done.decisions):
        raise JobError("budget", "the run was planned to end with one", "name a larger one")
    return raised


def _raises(spec: JobSpec, before: BudgetReport) -> bool:
    """Whether a job allows more than a run has had.

    Raises:
        JobError: it allows less, or what cannot be compared.
    """
    if spec.budget is None:
        return True
    amount = getattr(spec.budget, before.currency)
    if amount is None:
        raise JobError("budget", f"that of the run is in {before.currency}", "name a larger one of the same currency")
    if amount < before.asked:
        problem = f"{amount:g} is less than the {before.asked:g} that the run has had"
        raise JobError(f"budget.{before.currency}", problem, "a larger one extends it")
    more: bool = amount > before.asked
    return more


def _sized(plan: Plan, splits: Splits, allow_import: tuple[str, ...], session: Session, sink: Sink) -> Plan:
    """The plan, with the batch that fits where the job has that on auto."""
    if plan.spec.optim.batch != "auto":
        return plan
    ceiling = max(plan.spec.batch, int(plan.facts.num_train * LARGEST_SHARE))
    sink.stage("finding the largest batch")
    task = Task(plan.spec.name, plan, splits, largest=ceiling, allow_import=allow_import)
    batch = session.execute(task, sink).batch
    sink.note(f"optim.batch: {batch} fits into the memory ({ceiling} would have been taken)")
    optim = plan.spec.optim.model_copy(update={"batch": batch})
    return resolve(plan.spec.model_copy(update={"optim": optim}), plan.facts)


def readable(splits: Splits, session: Session) -> Splits:
    """The splits without the rows that the session could not read."""
    return splits.without(np.array(list(session.skipped), dtype=np.int64))


def rows_of(*splits: Splits) -> Ids:
    """The rows that some splits use, sorted."""
    return np.unique(np.concatenate([part for s in splits for part in (s.train, s.select, s.val)]))


@contextmanager
def opened(
    checked: Checked,
    ids: Ids,
    hold: Hold,
    *,
    start: Callable[[Needs, Sink], Opened],
    verbose: bool,
    quiet: bool,
    num_runs: int = 1,
    before: Before | None = None,
) -> Iterator[tuple[Opened, Sink, Signals]]:
    """What `start` opens to hold the rows `ids`, the console, and signals turned into its `stop`; `hold`s a folder."""
    from raymix.data.reading import sample_frame

    _check_machine(checked.spec)
    load_services(checked.spec.watch)
    frame = sample_frame(checked.rows, checked.spec.data, ids)
    sink, signals = ConsoleSink(quiet=quiet, num_runs=num_runs), Signals()
    try:
        with hold(sink.note), signals:
            session = start(Needs(checked.spec, checked.rows, ids, frame, verbose, before), sink)
            try:
                signals.stop_gently(session, sink)
                yield session, sink, signals
            finally:
                session.close()
    except SystemError as error:  # a signal in the midst of C code that does not expect an exception
        if signals.received is None:
            raise
        raise signals.interrupted("nothing was trained yet", None) from error
    except Unsynced as error:
        raise RunFailed(str(error.strerror)) from error
    finally:
        sink.close()


def _check_machine(spec: JobSpec) -> None:
    """Refuses what this machine cannot give, before anything is started.

    Raises:
        JobError: the batch is to fill a GPU's memory, and none is asked for.
        JobError: a service that is to hear of the run cannot be told from here.
        JobError: GPUs are asked for and there are too few; a cluster elsewhere is asked when it is reached.
    """
    cluster = spec.cluster
    check_services(spec.watch)
    if spec.optim.batch == "auto" and not (cluster.gpus_per_worker if cluster.max_workers else _has_gpu()):
        problem = "auto fills a GPU's memory, and this job trains on CPUs"
        raise JobError("optim.batch", problem, "name a batch, as in optim.batch=256, or set cluster.gpus_per_worker=1")
    if not cluster.gpus_per_worker or cluster.address or in_ray_job():
        return
    wanted, there = cluster.gpus_per_worker * cluster.min_workers, _num_gpus()
    if wanted > there:
        problem = f"{wanted:g} GPU(s) asked for in all, this machine has {there}"
        raise JobError("cluster.gpus_per_worker", problem, "set it to 0 to train on CPUs, or name a cluster.address")


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _num_gpus() -> int:
    """GPUs of this machine; the driver's own tool says so without the seconds that torch takes to import."""
    if not os.environ.get("CUDA_VISIBLE_DEVICES") and (tool := shutil.which("nvidia-smi")):
        told = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60, check=False)
        if told.returncode == 0:
            return sum(line.startswith("GPU ") for line in told.stdout.splitlines())
    import torch

    return torch.cuda.device_count()
