"""The pilot: the arms of one comparison, by the rules of DESIGN section 3, in one session or several side by side.

Step times are measured once, alone; T, the step-seconds of `ssl_sl` at the asked epochs, is resolved to epochs once for
each arm and length; then the plans are frozen and every seed runs them. Arms share rows, splits, seeds, augmentation,
workers and decoded images.
"""

from __future__ import annotations

from pathlib import Path

from raymix.arms import arm_spec, arms_of, scaled
from raymix.books import Clock
from raymix.data.rows import Ids, Rows
from raymix.data.splits import facts
from raymix.errands import Crew, Deck, Errand, crew_of, errands, folder_of, plan_of
from raymix.freeze import Compared, Frozen, finished, frozen_of, read_frozen
from raymix.merge import merge, mergeable
from raymix.outcome import failed_run, pilot_run, report_of
from raymix.plan import check_fixed, resolve
from raymix.recommend import RECOMMENDED_FILE, advice, recommended
from raymix.report.facts import foretold_line
from raymix.report.folder import PILOT_FILE, read_pilot, write_text
from raymix.report.pilot import FailedRun, PilotReport, PilotRun
from raymix.report.reckon import searches_of, told_anew, with_roi, write_pilot
from raymix.report.run import RunReport, Status
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import check, opened, readable, rows_of
from raymix.session import Failure, RunFailed
from raymix.spec import ARMS, PRETRAINED, JobError, JobSpec
from raymix.starting import check_apart, with_searches
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
        RunFailed: runs failed for good; the report holds the others, and `resume` tries those again.
        Interrupted: a signal ended it; `resume` goes on.
    """
    clock = Clock()
    whole, before = compared(spec, storage_of(spec) / spec.name, resume, overwrite, allow_import)
    brought = mergeable(whole)
    if before is not None and before.status == "done" and not whole.left():
        report = write_pilot(whole.folder.path, told_anew(before, whole.reported))
        whole.folder.publish()
        return report
    start = crew_of(whole, len([name for name in whole.left() if name not in brought]))
    first, ids, num_runs = whole.checked[spec.seed], rows_in(whole), whole.num_runs
    opening = opened(first, ids, whole.folder.held, verbose=verbose, quiet=quiet, num_runs=num_runs, start=start)
    with opening as (crew, sink, signals):
        merge(whole, brought)
        foretold = foretold_line(spec.pilot.pairs(tuple(whole.arms)), spec, first.plan.facts)
        sink.note(f"pilot: {foretold}")
        report = compare(whole, crew, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"finished runs are kept; --resume goes on from {whole.folder.shown}", report)
    if report.failed:
        what = f"{len(report.failed)} of {num_runs} runs failed for good, {report.failed[0].name} first"
        raise RunFailed(f"{what}: {report.failed[0].why}; the others are kept, and --resume tries again", report)
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
    check_fixed(spec, "a pilot")
    check_apart(spec, path)
    reported = with_searches(spec)
    searches_of(reported.report)  # one that is not there is found before anything starts
    quick = spec.pilot.preset == "quick"
    seeds = range(spec.seed, spec.seed + max(spec.pilot.seeds_of(arm) for arm in spec.pilot.compared))
    first = check(spec, allow_import, rows)
    others = {seed: check(spec.model_copy(update={"seed": seed}), allow_import, first.rows) for seed in seeds[1:]}
    checked = {spec.seed: first, **others}
    arms = {arm: arm_spec(spec, arm) for arm in arms_of(spec, first.drops)}
    for name, arm in arms.items():  # an arm that the data or the backbone cannot carry is found before anything starts
        if name not in ARMS:
            _check_arm(name, arm, first.rows, allow_import)
        else:
            resolve(arm, first.plan.facts)
    if spec.optim.batch == "auto":
        problem = "auto would be another batch on another machine, and a pilot goes on where it was begun"
        raise JobError("optim.batch", problem, "name a batch, as in optim.batch=256")
    if not first.plan.facts.num_val:
        raise JobError("data.holdout", "leaves no val rows to compare on", "raise it, or give a data.val")
    folder = RunFolder(spec, path, resume, overwrite)
    before = read_pilot(folder.path) if folder.resumed and (folder.path / PILOT_FILE).is_file() else None
    earlier = (before.wall_seconds, before.held) if before else (0.0, 0.0)
    lengths = (1.0,) if quick else spec.pilot.lengths
    whole = Compared(spec, folder, checked, arms, lengths, allow_import, *earlier, reported)
    read_frozen(whole)  # an arm that is not what it was is found before anything starts
    return whole, before


def _check_arm(name: str, arm: JobSpec, rows: Rows, allow_import: tuple[str, ...]) -> None:
    """Raises JobError where an arm cannot be trained; of given weights, the field is the pilot's."""
    try:
        check(arm, allow_import, rows)
    except JobError as error:
        if name != PRETRAINED or error.field != "backbone.weights":
            raise
        raise JobError("pilot.weights", error.problem, error.hint) from None


def rows_in(whole: Compared) -> Ids:
    """The rows that the runs of a comparison use, sorted."""
    return rows_of(*(one.splits for one in whole.checked.values()))


# ---- one comparison -------------------------------------------------------------------------------------------------


def compare(whole: Compared, crew: Crew, sink: Sink, clock: Clock) -> PilotReport:
    """Has a crew run a comparison; its folder holds report and runs when this returns, those that failed named."""
    session, first = crew.session, whole.checked[whole.spec.seed]
    splits = readable(first.splits, session)
    known = facts(first.rows, splits, session.run)
    frozen = frozen_of(whole, known, session, sink)
    all_runs = list(errands(whole, frozen))
    reports, failed, status = _executed(whole, all_runs, crew, sink)
    done: dict[str, list[PilotRun]] = {arm: [] for arm in whole.arms}
    for one in all_runs:  # whichever finished first
        if one.name in reports:
            plan, _ = plan_of(whole, one, session)
            path = folder_of(whole, one.name).relative_to(whole.folder.path)
            done[one.arm].append(pilot_run(reports[one.name], plan, one.length, one.rates, path))
    result = report_of(whole, frozen, splits, session, done, status, clock, failed, crew.held_workers)
    labels = {"train": known.num_labelled // known.tiles, "select": known.num_select, "val": known.num_val}
    result = write_pilot(whole.folder.path, with_roi(result, whole.reported.report, labels))
    if status == "done":
        _recommend(whole, frozen, result, sink)
    return result


def _executed(
    whole: Compared, all_runs: list[Errand], crew: Crew, sink: Sink
) -> tuple[dict[str, RunReport], tuple[FailedRun, ...], Status]:
    """By name the reports of runs that are done, those that failed for good, and what became of the whole."""
    reports = {one.name: done for one in all_runs if (done := finished(folder_of(whole, one.name)))}
    deck = Deck([one for one in all_runs if one.name not in reports], whole.spec.pilot.retries)
    failed: dict[str, FailedRun] = {}
    cut_short = False
    for errand, result in crew.deal(deck, sink):
        if isinstance(result, Failure):
            again = deck.again(errand, result)
            what = "is tried again, from its last checkpoint" if again else "failed for good, the others go on"
            sink.note(f"{errand.name} {what}: {result.why}")
            if not again:
                failed[errand.name] = failed_run(errand, deck.attempts[errand.name], result)
        elif result.status == "done":
            reports[errand.name] = result
        else:
            cut_short = True
    status: Status = "interrupted" if cut_short or len(deck) else "failed" if failed else "done"
    return reports, tuple(failed[one.name] for one in all_runs if one.name in failed), status


def _recommend(whole: Compared, frozen: Frozen, report: PilotReport, sink: Sink) -> None:
    """Writes the job that the pilot advises for all the data."""
    if (given := advice(report)) is None:
        return
    path, first = whole.folder.path / RECOMMENDED_FILE, whole.checked[whole.spec.seed]
    arm = scaled(whole.arms[given.arm], frozen.factor(given.arm, 1.0))
    write_text(path, recommended(report, given, arm, first.rows, frozen.rates_of(given.arm), path, whole.allow_import))
    sink.note(f"advised: {given.arm}, as a job for all the data: {path}")
