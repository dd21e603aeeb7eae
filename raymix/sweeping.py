"""A sweep: pilots over shares of the images and of the labels, one after another in one session.

Each cell of the grid is a pilot with a folder of its own, its own T and frozen plans; the workers and the decoded
images, those that any cell uses, serve all of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from raymix.books import Clock
from raymix.errands import alone
from raymix.freeze import Compared
from raymix.pilot import compare, compared
from raymix.plan import check_fixed
from raymix.report.folder import SWEEP_FILE, read_sweep, write_text
from raymix.report.ledger import cost_of
from raymix.report.pilot import PilotReport
from raymix.report.reckon import told_anew, write_pilot
from raymix.report.run import Status
from raymix.report.sweep import Cell, SweepReport
from raymix.report.swept import Swept, decides, filled, lines_of
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import opened, rows_of
from raymix.runreport import environment, note_on
from raymix.session import RunFailed, Session, open_session
from raymix.spec import SWEEP_AXES, JobError, JobSpec, Sweep, SweepAxis, share_text
from raymix.watch import Sink

CELLS_FOLDER = "cells"
Shares = dict[SweepAxis, float]


@dataclass(frozen=True, eq=False)
class _Cell:
    """A pilot of the grid, and what is known of it."""

    whole: Compared
    report: PilotReport | None
    done: bool  # no run is left, of those that the job asks for now


@dataclass(frozen=True, eq=False)
class _Spent:
    """What the commands of a sweep have taken so far, and where."""

    wall_seconds: float
    worker_seconds: float
    device: str
    environment: dict[str, str]


def sweep(
    spec: JobSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> SweepReport:
    """A pilot at each share of images and labels; the folder holds the report and a folder for each when this returns.

    Raises:
        JobError: the job, or a cell of the grid, is wrong; nothing was started or written.
        RunFailed: runs failed for good; the report holds the others, and `resume` tries those again.
        Interrupted: a signal ended it; `resume` goes on.
    """
    clock = Clock()
    asked = _asked(spec)
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite)
    cells = _checked(spec, asked, folder, resume, overwrite, allow_import)
    before = read_sweep(folder.path) if folder.resumed and (folder.path / SWEEP_FILE).is_file() else None
    if before is not None and all(cell.done for cell in cells):
        spent = _Spent(before.wall_seconds, before.worker_seconds, before.device, before.environment)
        anew = [_told_anew(cell) for cell in cells]
        return _written(folder, _report(spec, asked, anew, folder, spent, "done"))
    first = cells[-1].whole.checked[spec.seed]  # the one with the most rows
    ids = rows_of(*(checked.splits for cell in cells for checked in cell.whole.checked.values()))
    num_runs = sum(cell.whole.num_runs for cell in cells if not cell.done)
    opening = opened(first, ids, folder.held, verbose=verbose, quiet=quiet, num_runs=num_runs, start=open_session)
    with opening as (session, sink, signals):
        folder.start(first.plan, session.frame.size)
        cells, status = _run(spec, asked, cells, folder, before, session, sink, clock)
        report = _report(spec, asked, cells, folder, _spent(before, session, clock), status)
        _written(folder, report)
    if status == "interrupted":
        raise signals.interrupted(f"finished cells and runs are kept; --resume goes on from {folder.shown}", report)
    if status == "failed":
        broken = ", ".join(cell.folder for cell in report.cells if cell.status == "failed")
        raise RunFailed(f"runs of {broken} failed for good; the others are kept, and --resume tries again", report)
    return report


# ---- before anything starts -----------------------------------------------------------------------------------------


def _asked(spec: JobSpec) -> Sweep:
    """The grid.

    Raises:
        JobError: there is none.
    """
    if spec.sweep is None:
        hint = "as in sweep: {data.label_fraction: [0.1, 0.25, 0.5, 1.0]}"
        raise JobError("sweep", "missing: it says at which shares of images and labels", hint)
    check_fixed(spec, "a sweep")
    if spec.pilot.concurrent != 1:
        problem = "the cells of a sweep share one session, which does one run after another"
        raise JobError("pilot.concurrent", problem, "leave it out; cluster.workers spreads each run")
    if spec.pilot.merge:
        raise JobError("pilot.merge", "is of one pilot, and a sweep has several", "merge with raymix pilot")
    return spec.sweep


def _checked(
    spec: JobSpec, asked: Sweep, folder: RunFolder, resume: bool, overwrite: bool, allow_import: tuple[str, ...]
) -> list[_Cell]:
    """Every cell, checked, from the smallest shares to the largest.

    Raises:
        JobError: a cell cannot be compared; the line names it.
    """
    cells, rows = list[_Cell](), None
    for shares in _grid(asked):
        name = "-".join(f"{axis.removeprefix('data.')}-{share_text(share)}" for axis, share in shares.items())
        one, path = _cell_spec(spec, shares, name), folder.path / CELLS_FOLDER / name
        try:
            whole, report = compared(one, path, resume, overwrite, allow_import, rows)
        except JobError as error:
            raise _explained(error, shares) from None
        rows = whole.checked[spec.seed].rows
        cells.append(_Cell(whole, report, report is not None and report.status == "done" and not whole.left()))
    return cells


def _grid(asked: Sweep) -> list[Shares]:
    """The shares of each cell, an axis that is not swept left out."""
    axes = [axis for axis in SWEEP_AXES if axis in asked]
    return [dict(zip(axes, shares, strict=True)) for shares in itertools.product(*(sorted(asked[a]) for a in axes))]


def _cell_spec(spec: JobSpec, shares: Shares, name: str) -> JobSpec:
    """The pilot of a cell."""
    update: dict[str, object] = {axis.removeprefix("data."): share for axis, share in shares.items()}
    if shares.get("data.label_fraction") == 1 and spec.data.unlabelled is None:
        update["labelled_share"] = None  # no row is without a label
    return spec.model_copy(update={"name": name, "sweep": None, "data": spec.data.model_copy(update=update)})


def _explained(error: JobError, shares: Shares) -> JobError:
    """The line that a cell is refused with: a share that leaves a class without a row is the sweep's own field."""
    if not error.field.startswith("data."):
        return error
    too_small = error.field in (*SWEEP_AXES, "data.select")
    axis = error.field if error.field in shares else next(reversed(shares)) if too_small else None
    at = " and ".join(f"{name} {share_text(share)}" for name, share in shares.items())
    return JobError(f"sweep.{axis}" if axis else error.field, f"{error.problem}, at {at}", error.hint)


# ---- one session ----------------------------------------------------------------------------------------------------


def _run(
    spec: JobSpec,
    asked: Sweep,
    cells: list[_Cell],
    folder: RunFolder,
    before: SweepReport | None,
    session: Session,
    sink: Sink,
    clock: Clock,
) -> tuple[list[_Cell], Status]:
    """Runs the cells that are left; `sweep.json` tells after each how far it has come."""
    cells = list(cells)
    for place, cell in enumerate(cells):
        if cell.done:
            continue
        sink.note(f"cell {place + 1} of {len(cells)}: {cell.whole.spec.name}")
        report = compare(cell.whole, alone(cell.whole, session), sink, Clock())
        cells[place] = replace(cell, report=report, done=report.status == "done")
        so_far = _report(spec, asked, cells, folder, _spent(before, session, clock), "interrupted", lines=False)
        write_text(folder.path / SWEEP_FILE, so_far.model_dump_json(indent=1))
        if report.status == "interrupted":
            return cells, "interrupted"
    return cells, "done" if all(cell.done for cell in cells) else "failed"


def _spent(before: SweepReport | None, session: Session, clock: Clock) -> _Spent:
    wall, held = (before.wall_seconds, before.worker_seconds) if before else (0.0, 0.0)
    return _Spent(wall + clock.seconds, held + session.worker_seconds, session.device, environment(session))


def _told_anew(cell: _Cell) -> _Cell:
    assert cell.report is not None
    whole = cell.whole
    return replace(cell, report=write_pilot(whole.folder.path, told_anew(cell.report, whole.reported)))


# ---- what it found --------------------------------------------------------------------------------------------------


def _report(
    spec: JobSpec,
    asked: Sweep,
    cells: list[_Cell],
    folder: RunFolder,
    spent: _Spent,
    status: Status,
    lines: bool = True,
) -> SweepReport:
    """`lines`: with crossovers and labels saved, which take seconds."""
    first, price = cells[-1].whole, spec.cluster.price_per_worker_hour
    swept = [_swept(cell, spec, folder) for cell in cells]
    return SweepReport(
        name=spec.name,
        status=status,
        preset=spec.pilot.preset,
        decided=decides(swept),
        device=spent.device,
        workers=spec.cluster.num_replicas,
        price_per_worker_hour=price,
        axes=asked,
        arms=tuple(first.arms),
        lengths=first.lengths,
        num_val=first.checked[spec.seed].plan.facts.num_val,
        cells=tuple(one.cell for one in swept),
        lines=lines_of(swept, first.lengths) if lines else (),
        wall_seconds=spent.wall_seconds,
        worker_seconds=spent.worker_seconds,
        cost=cost_of(spent.worker_seconds, price),
        environment=spent.environment,
        note=note_on(spec),
    )


def _swept(cell: _Cell, spec: JobSpec, folder: RunFolder) -> Swept:
    data, known = cell.whole.spec.data, cell.whole.checked[spec.seed].plan.facts
    bare = Cell(
        fraction=data.fraction,
        label_fraction=data.label_fraction,
        folder=cell.whole.folder.path.relative_to(folder.path).as_posix(),
        status=None,
        num_train=known.num_train // known.tiles,
        num_labelled=known.num_labelled // known.tiles,
        num_select=known.num_select,
    )
    return filled(bare, cell.report) if cell.report is not None else Swept(bare)


def _written(folder: RunFolder, report: SweepReport) -> SweepReport:
    """Writes sweep.json and the page."""
    from raymix.report.page_sweep import sweep_html  # `raymix validate` comes by here and has no use for pages

    write_text(folder.path / SWEEP_FILE, report.model_dump_json(indent=1))
    write_text(folder.path / "report.html", sweep_html(report))
    return report
