"""The pilot: the arms of one comparison, by the rules of DESIGN section 3, in one session.

Step times are measured once, alone; T, the step-seconds of `ssl_sl` at the asked epochs, is resolved to epochs once for
each arm and length; then the plans are frozen and every seed runs them. Arms share rows, splits, seeds, augmentation,
workers and decoded images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from raymix.arms import arm_spec, arms_of, scaled
from raymix.books import Clock
from raymix.conduct import Job, train_one
from raymix.data.rows import Ids, Rows
from raymix.data.splits import facts
from raymix.freeze import Compared, Frozen, frozen_of
from raymix.outcome import finished, pilot_run, report_of
from raymix.plan import resolve
from raymix.recommend import RECOMMENDED_FILE, advice, recommended
from raymix.report.facts import foretold_line
from raymix.report.folder import PILOT_FILE, read_pilot, write_text
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.reckon import priced_anew, searches_of, with_roi, write_pilot
from raymix.report.run import Status
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import check, opened, readable, rows_of
from raymix.session import Session
from raymix.spec import ARMS, JobError, JobSpec
from raymix.watch import Sink


def pilot(
    spec: JobSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> PilotReport:
    """Compares the job's arms at equal step-seconds; the folder holds report and runs when this returns.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: a run failed for good; those before it are kept, and `resume` goes on after them.
        Interrupted: a signal ended it; `resume` goes on.
    """
    clock = Clock()
    whole, before = compared(spec, storage_of(spec) / spec.name, resume, overwrite, allow_import)
    if before is not None and before.status == "done":
        return write_pilot(whole.folder.path, priced_anew(before, spec))
    first, num_runs = whole.checked[spec.seed], whole.num_runs
    with opened(first, rows_in(whole), verbose=verbose, quiet=quiet, num_runs=num_runs) as (session, sink, signals):
        sink.note(f"pilot: {foretold_line(len(whole.checked), first.plan.facts.num_val)}")
        report = compare(whole, session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"finished runs are kept; --resume goes on from {whole.folder.path}", report)
    return report


# ---- before anything starts -----------------------------------------------------------------------------------------


def compared(
    spec: JobSpec, path: Path, resume: bool, overwrite: bool, allow_import: tuple[str, ...], rows: Rows | None = None
) -> tuple[Compared, PilotReport | None]:
    """A comparison in the folder `path`, checked, and the report that an earlier attempt left there.

    `rows`: those of `spec.data`, where they have been listed.

    Raises:
        JobError: the job is wrong, or the folder cannot be used; nothing was started or written.
    """
    searches_of(spec.report)  # one that is not there is found before anything starts
    quick = spec.pilot.preset == "quick"
    seeds = range(spec.seed, spec.seed + (1 if quick else spec.pilot.seeds))
    checked = {seed: check(spec.model_copy(update={"seed": seed}), allow_import, rows) for seed in seeds}
    first = checked[spec.seed]
    arms = {arm: arm_spec(spec, arm) for arm in arms_of(spec, first.drops)}
    for name, arm in arms.items():  # an arm that the data or the backbone cannot carry is found before anything starts
        if name not in ARMS:
            check(arm, allow_import, first.rows)
        else:
            resolve(arm, first.plan.facts)
    if spec.optim.batch == "auto":
        problem = "auto would be another batch on another machine, and a pilot goes on where it was begun"
        raise JobError("optim.batch", problem, "name a batch, as in optim.batch=256")
    if not first.plan.facts.num_val:
        raise JobError("data.holdout", "leaves no val rows to compare on", "raise it, or give a data.val")
    folder = RunFolder(spec, path, resume, overwrite)
    before = read_pilot(folder.path) if folder.resumed and (folder.path / PILOT_FILE).is_file() else None
    earlier = before.wall_seconds if before else 0.0
    whole = Compared(spec, folder, checked, arms, (1.0,) if quick else spec.pilot.lengths, allow_import, earlier)
    return whole, before


def rows_in(whole: Compared) -> Ids:
    """The rows that the runs of a comparison use, sorted."""
    return rows_of(*(one.splits for one in whole.checked.values()))


# ---- one comparison -------------------------------------------------------------------------------------------------


def compare(whole: Compared, session: Session, sink: Sink, clock: Clock) -> PilotReport:
    """Runs a comparison in an open session; its folder holds report and runs when this returns.

    Raises:
        RunFailed: a run failed for good.
    """
    first = whole.checked[whole.spec.seed]
    known = facts(first.rows, readable(first.splits, session), session.run)
    frozen = frozen_of(whole, known, session, sink)
    done: dict[str, list[PilotRun]] = {arm: [] for arm in whole.arms}
    status: Status = "done"
    for arm, seed, length, asked in _runs(whole, frozen):
        rates = frozen.rates_of(arm)
        checked = whole.checked[seed]
        splits = readable(checked.splits, session)
        plan = resolve(asked, facts(checked.rows, splits, session.run))
        path = whole.folder.path / "runs" / asked.name
        report = finished(path)
        if report is None:
            own = RunFolder(asked, path, resume=True)
            job = Job(own, checked.rows, splits, plan, rates, whole.allow_import, alone=False)
            report = train_one(job, session, sink, Clock())
        if report.status != "done":
            status = report.status
            break
        done[arm].append(pilot_run(report, plan, length, rates, path.relative_to(whole.folder.path)))
    result = report_of(whole, frozen, known, session, done, status, clock)
    labels = {"train": known.num_labelled, "select": known.num_select, "val": known.num_val}
    result = write_pilot(whole.folder.path, with_roi(result, whole.spec.report, labels))
    if status == "done":
        _recommend(whole, frozen, result, sink)
    return result


def _recommend(whole: Compared, frozen: Frozen, report: PilotReport, sink: Sink) -> None:
    """Writes the job that the pilot advises for all the data."""
    if (given := advice(report)) is None:
        return
    path, first = whole.folder.path / RECOMMENDED_FILE, whole.checked[whole.spec.seed]
    arm = scaled(whole.arms[given.arm], frozen.factor(given.arm, 1.0))
    write_text(path, recommended(report, given, arm, first.rows, frozen.rates_of(given.arm), path, whole.allow_import))
    sink.note(f"advised: {given.arm}, as a job for all the data: {path}")


def _runs(whole: Compared, frozen: Frozen) -> Iterator[tuple[str, int, float, JobSpec]]:
    """All runs of a seed before the next seed, so that a pilot that is cut short still has paired ones."""
    for seed in whole.checked:
        for length in sorted(whole.lengths, key=lambda length: length != 1.0):  # the primary comparison first
            for arm, spec in whole.arms.items():
                name = f"{arm}-seed{seed}-T{length:.2f}"
                asked = scaled(spec, frozen.factor(arm, length))
                yield arm, seed, length, asked.model_copy(update={"name": name, "seed": seed})
