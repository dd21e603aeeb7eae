"""A search: values of some fields of a job are tried, on Ray Tune, and the best by select rows becomes a job.

Finished trials are kept in the search's own folder, `trials/` and `search.jsonl`, so that whatever ends the command
costs none of them: `--resume` goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from raymix.arms import arm_spec
from raymix.books import Clock
from raymix.bucket import Unsynced, carry, is_bucket, shown, visited
from raymix.jobfile import RESOLVED_FILE, job_text
from raymix.plan import Facts, check_fixed, resolve
from raymix.report.folder import SEARCH_FILE, write_text
from raymix.report.known import installed
from raymix.report.ledger import cost_of
from raymix.report.run import Status
from raymix.report.search import SearchReport
from raymix.report.search_page import search_html, trial_line
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import check
from raymix.runreport import note_on
from raymix.search import choose
from raymix.search.board import Board
from raymix.search.earlier import earlier_trials, same_search
from raymix.search.journal import JOURNAL_FILE, Journal
from raymix.search.points import Space, check_installed
from raymix.search.trial import Trial
from raymix.session import RunFailed
from raymix.signals import Signals
from raymix.spec import JobError, JobSpec, Tune
from raymix.trialrun import hidden, train_trial, trial_spec
from raymix.watch import Sink
from raymix.watch.console import ConsoleSink
from raymix.watch.services import check_services

if TYPE_CHECKING:
    from raymix.on_ray.tune import Objective

TRIALS_FOLDER = "trials"


@dataclass(frozen=True, eq=False)
class _Search:
    """What stays the same over the trials of a search."""

    spec: JobSpec
    tune: Tune
    arms: dict[str, JobSpec]  # {'': ...}: the job as it is
    facts: Facts
    folder: RunFolder
    clock: Clock


def tune(
    spec: JobSpec,
    objective: Objective | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> SearchReport:
    """Searches as the job's `tune` section says; the folder holds trials, report and best job when this returns.

    `objective` takes the place of the training of a trial.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: no trial came to its end.
        Interrupted: a signal ended it; finished trials are kept, `resume` goes on.
    """
    objective = objective or partial(train_trial, spec=spec, allow_import=allow_import)
    clock = Clock()
    asked = _asked(spec)
    checked = hidden(check(spec, allow_import))
    if not checked.plan.facts.num_select:
        raise JobError("data.select", "leaves no select rows, on which a search chooses", "raise it")
    arms = {arm: arm_spec(spec, arm) if arm else spec for arm in asked.arms or ("",)}
    for arm in arms.values():
        resolve(arm, checked.plan.facts)
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite, apart=(TRIALS_FOLDER,))
    whole = _Search(spec, asked, arms, checked.plan.facts, folder, clock)
    if folder.resumed:
        same_search(folder.path, asked, folder.shown)
        journal, board = _board(whole)
        if board.over:
            report = _report(whole, journal, board, "done")
            folder.publish()
            return _with_best(report)
    with _opened(whole, verbose=verbose, quiet=quiet) as (concurrent, sink, signals):
        if not folder.resumed:
            folder.start(checked.plan, spec.data.largest_stored)
        journal, board = _board(whole)
        if not folder.resumed and asked.warm_start:
            for trial in earlier_trials(visited(shown(storage_of(spec)), (JOURNAL_FILE, RESOLVED_FILE)), spec):
                journal.write(trial, clock.seconds)
        _run(whole, board, objective, concurrent, sink, signals, verbose=verbose, quiet=quiet)
        status: Status = "interrupted" if board.stopping and board.ended is None else "done"
        report = _report(whole, journal, board, status)
    if status == "interrupted":
        raise signals.interrupted(f"finished trials are kept; --resume goes on from {folder.shown}", report)
    return _with_best(report)


def _with_best(report: SearchReport) -> SearchReport:
    """The report of a search that found something.

    Raises:
        RunFailed: no trial came to its end.
    """
    if report.best is None:
        errors = [trial.error for trial in report.trials if trial.error]
        raise RunFailed(f"{report.name}: no trial came to its end" + (f"; the first: {errors[0]}" if errors else ""))
    return report


def _asked(spec: JobSpec) -> Tune:
    """What is searched.

    Raises:
        JobError: nothing is, or the job cannot be chosen on.
    """
    if spec.tune is None:
        hint = "as in tune: {trials: 20, space: {schedule.mix_ratio: {uniform: [0, 1]}}}"
        raise JobError("tune", "missing: it says what is searched", hint)
    check_fixed(spec, "a search")
    if not spec.data.select:
        raise JobError(
            "data.select", "a search chooses on select rows, and the job keeps none", "as in data.select=0.1"
        )
    if spec.optim.batch == "auto":
        raise JobError(
            "optim.batch", "auto would be another batch in each trial", "name a batch, as in optim.batch=256"
        )
    check_installed(spec.tune)
    return spec.tune


def _board(whole: _Search) -> tuple[Journal, Board]:
    journal = Journal(whole.folder.path, after=partial(carry, whole.folder.path))
    before = journal.seconds
    spaces = {arm: _own_space(whole, arm) for arm in whole.arms}
    price = whole.spec.cluster.price_per_worker_hour
    board = Board(
        whole.tune, spaces, journal, partial(_takes, whole), lambda: before + whole.clock.seconds, price=price
    )
    return journal, board


def _own_space(whole: _Search, arm: str) -> Space:
    """The fields that make a difference to an arm: `sl` has no mix ratio to search."""
    if not arm:
        return whole.tune.space
    found = {}
    for path, axis in whole.tune.space.items():
        made: list[JobSpec | None] = []
        for value in axis.probes:
            try:
                made.append(trial_spec(whole.spec, arm, {path: value}))
            except JobError:  # only with values of other fields, which differ, too
                made.append(None)
        if any(one != made[0] for one in made):
            found[path] = axis
    return found


def _takes(whole: _Search, arm: str, values: dict[str, Any]) -> None:
    """Raises JobError where the job or its data refuses some values."""
    resolve(trial_spec(whole.spec, arm, values), whole.facts)


@contextmanager
def _opened(whole: _Search, *, verbose: bool, quiet: bool) -> Iterator[tuple[int, Sink, Signals]]:
    """Ray, with the trials that it holds at once; the console; and signals."""
    from raymix.on_ray.cluster import set_environment

    sink, signals = ConsoleSink(quiet=quiet), Signals()
    concurrent = whole.tune.concurrent
    check_services(whole.spec.watch)
    try:
        with whole.folder.held(sink.note), signals:
            sink.stage("starting Ray")
            set_environment()  # Ray Train reads it when it is imported
            from raymix.on_ray.together import close_ray
            from raymix.on_ray.tune import open_ray

            owned, number = open_ray(whole.spec.cluster, None if concurrent == "auto" else concurrent, verbose)
            try:
                yield number, sink, signals
            finally:
                close_ray(owned)
    except Unsynced as error:
        raise RunFailed(str(error.strerror)) from error
    finally:
        sink.close()


def _run(
    whole: _Search,
    board: Board,
    objective: Objective,
    concurrent: int,
    sink: Sink,
    signals: Signals,
    *,
    verbose: bool,
    quiet: bool,
) -> None:
    """Runs the trials that are left, with a line for each that is over."""
    from raymix.on_ray.tune import search

    asked, names = _num_asked(whole), whole.tune.axes

    def ended(trial: Trial) -> None:
        over = sum(trial.status in ("done", "stopped", "failed") for trial in board.trials)
        best = choose.best((*board.trials, *board.earlier))
        far = f"; {over} of {asked}" + (f", best {best.select_top1:.1f} %" if best and best.select_top1 else "")
        if not quiet:
            sink.note(trial_line(trial, names) + far)
        sink.stage("searching", over, asked)

    signals.stop_gently(board, sink)
    sink.stage("searching", len(choose.finished(board.trials)), asked)
    place = shown(whole.folder.path / TRIALS_FOLDER)
    search(board, objective, place, whole.spec, concurrent, ended, verbose)


def _num_asked(whole: _Search) -> int:
    return whole.tune.num_trials * len(whole.arms)


# ---- what came of it ------------------------------------------------------------------------------------------------


def _report(whole: _Search, journal: Journal, board: Board, status: Status) -> SearchReport:
    """The report, written with its page and the best jobs."""
    spec, trials, earlier = whole.spec, board.trials, board.earlier
    every = (*trials, *earlier)
    by_arm = {arm: choose.best(trial for trial in every if trial.arm == arm) for arm in whole.arms if arm}
    held = sum(trial.billed_worker_seconds for trial in trials)
    price = spec.cluster.price_per_worker_hour
    report = SearchReport(
        name=spec.name,
        status=status,
        ended=None if status == "interrupted" else board.ended or "complete",
        search=whole.tune.search,
        objectives=whole.tune.objectives,
        seed=whole.tune.seed,
        space=whole.tune.space,
        axes=whole.tune.axes,
        asked=_num_asked(whole),
        num_select=whole.facts.num_select,
        trials=trials,
        earlier=earlier,
        tried=choose.num_tried(every),
        best=choose.best(every),
        best_of_arm={arm: best for arm, best in by_arm.items() if best is not None},
        front=tuple(choose.front(every)),
        device=next((trial.device for trial in every if trial.device), "cpu"),
        workers=spec.cluster.num_replicas,
        price_per_worker_hour=price,
        wall_seconds=journal.seconds,
        worker_seconds=held,
        cost=cost_of(held, price),
        environment={name: installed(name) for name in ("raymix", "torch", "ray", "optuna", "numpy")},
        note=note_on(spec),
    )
    path = whole.folder.path
    write_text(path / SEARCH_FILE, report.model_dump_json(indent=1))
    if report.best is not None:
        write_text(path / "best.yaml", _job_of(whole, report, report.best, ""))
    for arm, best in report.best_of_arm.items():
        write_text(path / f"best-{arm}.yaml", _job_of(whole, report, best, f"-{arm}"))
    write_text(path / "report.html", search_html(report))  # last: its plots take seconds
    return report


def _job_of(whole: _Search, report: SearchReport, best: Trial, ending: str) -> str:
    """The job of a trial, to be run as it is; with another seed, as rule 3 of a fair comparison wants it."""
    spec = trial_spec(whole.spec, best.arm, best.values)
    name = f"{whole.spec.name[: 94 - len(ending)]}-best{ending}"
    spec = spec.model_copy(update={"name": name, "seed": whole.spec.seed + 1})
    file = f"best{ending}.yaml"
    place = shown(whole.folder.path / file)
    head = (
        f"# raymix run {f'{file}, which lies at {place}' if is_bucket(place) else place}\n"
        f"# the best of {report.tried} configurations that raymix tune tried, by {report.num_select} select rows: "
        f"{best.select_top1:.2f} %; val was not read\n"
        "# seed: one that the search did not see\n"
    )
    return head + job_text(spec)
