"""One job from its spec to its report: check, open a session, train, report. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from raymix.conduct import Clock, Job, train_one
from raymix.data.formats import index_data
from raymix.data.rows import Ids, Rows
from raymix.data.splits import Splits, facts, split
from raymix.plan import Plan, resolve
from raymix.report.folder import RUN_FILE, read_run
from raymix.report.run import RunReport
from raymix.runfolder import Before, RunFolder, in_ray_job, storage_of
from raymix.session import Needs, RunFailed, Session, open_session
from raymix.signals import Interrupted, Signals
from raymix.spec import JobError, JobSpec, Vit
from raymix.watch import Sink
from raymix.watch.console import ConsoleSink

__all__ = ["Interrupted", "RunFailed", "check", "plan", "run"]


@dataclass(frozen=True, eq=False)
class Checked:
    """A job and its data, found fit for each other."""

    spec: JobSpec
    rows: Rows
    splits: Splits
    plan: Plan
    drops: bool = True  # the backbone can leave patches out


def check(spec: JobSpec, allow_import: tuple[str, ...] = ()) -> Checked:
    """Lists the data, cuts the splits and resolves the plan; reads no image and starts nothing.

    A backbone of a library or of the user's own is made without weights; raymix's own needs no torch for that.

    Raises:
        JobError: the backbone does not fit the job, or the data cannot carry it.
    """
    drops = True
    if not isinstance(spec.backbone, Vit):
        from raymix.method import fit

        drops = fit.check(spec, allow_import)
    rows = index_data(spec.data)
    splits = split(rows, spec.data, spec.seed)
    return Checked(spec, rows, splits, resolve(spec, facts(rows, splits)), drops)


def plan(spec: JobSpec, allow_import: tuple[str, ...] = ()) -> Plan:
    """What a job would do; starts nothing.

    Raises:
        JobError: the job or its data is wrong.
    """
    return check(spec, allow_import).plan


def run(
    spec: JobSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> RunReport:
    """Trains one backbone as the job says; its folder holds the report when this returns.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: training failed for good.
        Interrupted: a signal ended it; a checkpoint was saved.
    """
    clock = Clock()
    checked = check(spec, allow_import)
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite)
    if folder.resumed and (folder.path / RUN_FILE).is_file() and (done := read_run(folder.path)).status == "done":
        return done
    before, ids = folder.before(checked.rows), rows_of(checked.splits)
    with opened(checked, ids, verbose=verbose, quiet=quiet, before=before) as (session, sink, signals):
        splits = readable(checked.splits, session)
        now = facts(checked.rows, splits, session.run)
        made = folder.stored_plan(now) or resolve(spec, now)
        report = train_one(Job(folder, checked.rows, splits, made, allow_import=allow_import), session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"checkpoint saved; --resume goes on from {folder.path}", report)
    return report


def readable(splits: Splits, session: Session) -> Splits:
    """The splits without the rows that the session could not read."""
    return splits.without(np.array(list(session.skipped), dtype=np.int64))


def rows_of(*splits: Splits) -> Ids:
    """The rows that some splits use, sorted."""
    return np.unique(np.concatenate([part for s in splits for part in (s.train, s.select, s.val)]))


@contextmanager
def opened(
    checked: Checked, ids: Ids, *, verbose: bool, quiet: bool, num_runs: int = 1, before: Before | None = None
) -> Iterator[tuple[Session, Sink, Signals]]:
    """A session that holds the rows `ids`, the console, and signals turned into `session.stop`."""
    from raymix.data.reading import sample_frame

    _check_machine(checked.spec)
    frame = sample_frame(checked.rows, checked.spec.data, ids)
    sink, signals = ConsoleSink(quiet=quiet, num_runs=num_runs), Signals()
    try:
        with signals:
            session = open_session(Needs(checked.spec, checked.rows, ids, frame, verbose, before), sink)
            try:
                signals.stop_gently(session, sink)
                yield session, sink, signals
            finally:
                session.close()
    finally:
        sink.close()


def _check_machine(spec: JobSpec) -> None:
    """Refuses what this machine cannot give, before anything is started.

    Raises:
        JobError: GPUs are asked for and there are too few; a cluster elsewhere is asked when it is reached.
    """
    cluster = spec.cluster
    if not cluster.gpus_per_worker or cluster.address or in_ray_job():
        return
    import torch

    wanted, there = cluster.gpus_per_worker * cluster.workers, torch.cuda.device_count()
    if wanted > there:
        problem = f"{wanted:g} GPU(s) asked for in all, this machine has {there}"
        raise JobError("cluster.gpus_per_worker", problem, "set it to 0 to train on CPUs, or name a cluster.address")
