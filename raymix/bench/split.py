"""`raymix bench split`: the adaptive split against a grid of hand-set ones, at equal training seconds.

Every row spends the same budget of training seconds (steps, waits for data, trials and evaluations on select rows), a
share of T: the step-seconds of SSL, then SL at the job's epochs. Runs that are finished are kept, so the command goes
on where it was cut off, with more seeds, or with what another machine of the same kind has left in the folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from raymix.arms import arm_spec, seconds_of
from raymix.books import Clock
from raymix.conduct import train_one
from raymix.data.splits import facts
from raymix.job import Job
from raymix.lock import held
from raymix.plan import resolve
from raymix.report.folder import RUN_FILE, read_run, write_text
from raymix.report.history import Rates
from raymix.report.intervals import interval_of, unpack_correct
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import check, opened, readable, rows_of
from raymix.session import Session, open_session
from raymix.spec import AdaptiveSchedule, Budget, BudgetedSchedule, FixedSchedule, JobError, JobSpec, Section
from raymix.train.task import Task
from raymix.watch import Sink

# SSL epochs, SL epochs (their proportion counts), mix_ratio
GRID: dict[str, tuple[float, float, float]] = {
    "rho 0": (50, 50, 0.0),
    "rho 0.25": (50, 50, 0.25),
    "rho 0.5": (50, 50, 0.5),
    "rho 0.75": (50, 50, 0.75),
    "rho 0.5, SSL:SL 30:70": (30, 70, 0.5),
    "rho 0.5, SSL:SL 70:30": (70, 30, 0.5),
}
ADAPTIVE = "adaptive"
KINDS = ("ssl", "mix", "sl")
_FROZEN = "frozen.json"


class Frozen(Section):
    """What was measured before the first run, and stays."""

    unit_seconds: float  # T
    rates: Rates


class Cell(NamedTuple):
    """One row at one length with one seed."""

    row: str
    length: float
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        plain = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in self.row)
        return f"{plain}-T{self.length:.2f}-seed{self.seed}"


def main(spec: JobSpec, rows: Sequence[str], lengths: Sequence[float], seeds: Sequence[int], as_json: bool) -> None:
    """Runs what is not there yet, and prints what is.

    Raises:
        JobError: the job has another policy or a budget, no select or val rows; or there is no such row.
    """
    unknown = [row for row in rows if row not in (*GRID, ADAPTIVE)]
    if unknown:
        raise JobError("--only", f"there is no row {unknown[0]}", f"one of {', '.join((*GRID, ADAPTIVE))}")
    cells = [Cell(row, length, seed) for seed in seeds for length in lengths for row in rows or (*GRID, ADAPTIVE)]
    _check(spec, cells)
    folder = storage_of(spec) / spec.name
    if any(not _is_done(folder, cell) for cell in cells):
        _run(spec, cells, folder)
    found = summary(folder)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        Console(highlight=False).print(_table(found))


def _check(spec: JobSpec, cells: Sequence[Cell]) -> None:
    if not isinstance(spec.schedule, FixedSchedule) or spec.budget is not None or spec.goal is not None:
        raise JobError("schedule", "the rows bring their own schedules and budgets", "take a job with policy: fixed")
    if not spec.data.select:
        raise JobError("data.select", "the adaptive split looks at select rows", "keep some, as in 0.1")
    for cell in cells:
        cell_spec(spec, cell, 1.0)  # what a row cannot be is found before anything starts


def cell_spec(spec: JobSpec, cell: Cell, unit: float) -> JobSpec:
    """The job of a row: the same but for the schedule and the budget.

    SSL, then SL without mixing has a cycle of its rate and a fresh optimizer state a phase, as DESIGN's `ssl_sl` has.
    """
    asked, optim = spec.schedule, spec.optim
    assert isinstance(asked, FixedSchedule)
    common = {"shared_pass": asked.shared_pass, "whole_rows": asked.whole_rows, "weight": asked.weight}
    schedule: AdaptiveSchedule | BudgetedSchedule
    if cell.row == ADAPTIVE:
        schedule = AdaptiveSchedule(policy="adaptive", **common)
    else:
        ssl, sl, rho = GRID[cell.row]
        schedule = BudgetedSchedule(policy="budgeted", ssl_epochs=ssl, sl_epochs=sl, mix_ratio=rho, **common)
        if not rho:
            optim = optim.model_copy(update={"restart": "phase"})
    budget = Budget(training=cell.length * unit)
    update = {"name": cell.name, "seed": cell.seed, "schedule": schedule, "budget": budget, "optim": optim}
    return JobSpec.model_validate({**dict(spec), **update})


def _is_done(folder: Path, cell: Cell) -> bool:
    path = folder / "runs" / cell.name
    return (path / RUN_FILE).is_file() and read_run(path).status == "done"


def _run(spec: JobSpec, cells: Sequence[Cell], folder: Path) -> None:
    """The runs that are missing, in one session."""
    by_seed = {cell.seed: check(spec.model_copy(update={"seed": cell.seed})) for cell in cells}
    first = by_seed[cells[0].seed]
    if not first.plan.facts.num_val:
        raise JobError("data.holdout", "leaves no val rows to compare on", "raise it, or give a data.val")
    ids = rows_of(*(one.splits for one in by_seed.values()))
    hold = partial(held, folder)
    opening = opened(first, ids, hold, start=open_session, verbose=False, quiet=False, num_runs=len(cells))
    with opening as (session, sink, signals):
        frozen = _frozen(spec, first, folder, session, sink)
        for cell in cells:
            if _is_done(folder, cell):
                continue
            checked = by_seed[cell.seed]
            splits, asked = readable(checked.splits, session), cell_spec(spec, cell, frozen.unit_seconds)
            plan = resolve(asked, facts(checked.rows, splits, session.run))
            own = RunFolder(asked, folder / "runs" / cell.name, resume=True)
            report = train_one(Job(own, checked.rows, splits, plan, frozen.rates, alone=False), session, sink, Clock())
            if report.status == "interrupted":
                raise signals.interrupted("finished runs are kept; the same command goes on", report)


def _frozen(spec: JobSpec, first: Any, folder: Path, session: Session, sink: Sink) -> Frozen:
    """T and the step times: measured once, or what is in the folder."""
    if (folder / _FROZEN).is_file():
        return Frozen.model_validate_json((folder / _FROZEN).read_text())
    splits = readable(first.splits, session)
    known = facts(first.rows, splits, session.run)
    mixed = resolve(cell_spec(spec, Cell("rho 0.5", 1.0, spec.seed), 1.0), known)
    sink.stage("measuring step times")
    rates = session.execute(Task("measure", mixed, splits, measure=mixed.kinds), sink).history.rates
    frozen = Frozen(unit_seconds=seconds_of(resolve(arm_spec(spec, "ssl_sl"), known), rates), rates=rates)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / _FROZEN, frozen.model_dump_json(indent=1))
    return frozen


# ---- what came out --------------------------------------------------------------------------------------------------


def summary(folder: Path) -> dict[str, Any]:
    """All finished runs of a folder, by length and row; and `adaptive` against each row, over the seeds of both."""
    unit = Frozen.model_validate_json((folder / _FROZEN).read_text()).unit_seconds
    reports: dict[float, dict[str, dict[int, RunReport]]] = {}
    names = {Cell(row, 0, 0).name.split("-T0.00")[0]: row for row in (*GRID, ADAPTIVE)}
    for path in sorted((folder / "runs").iterdir()):
        plain, _, rest = path.name.rpartition("-T")
        length, _, seed = rest.partition("-seed")
        if plain in names and (path / RUN_FILE).is_file() and (report := read_run(path)).status == "done":
            reports.setdefault(float(length), {}).setdefault(names[plain], {})[int(seed)] = report
    return {
        "unit_seconds": unit,
        "lengths": {
            f"{length:g}": _at_length(rows, length * unit) for length, rows in sorted(reports.items(), reverse=True)
        },
    }


def _at_length(rows: dict[str, dict[int, RunReport]], asked: float) -> dict[str, Any]:
    found = {row: _row(runs, asked) for row, runs in rows.items()}
    grid = {row: found[row]["top1"] for row in GRID if row in found}
    adaptive = rows.get(ADAPTIVE, {})
    for row, runs in rows.items():
        both = sorted(runs.keys() & adaptive.keys())
        if row != ADAPTIVE and both:
            found[row]["adaptive_minus_this"] = {"seeds": both, **_paired(adaptive, runs, both)}
    best = max(grid, key=grid.__getitem__) if grid else None
    return {"rows": found, "grid_median": median(grid.values()) if grid else None, "grid_best": best}


def _row(runs: dict[int, RunReport], asked: float) -> dict[str, Any]:
    """A row over its seeds: val top-1, what was spent, how it was split, how far `prepare` was off."""
    tops = {seed: run.final.top1 for seed, run in runs.items() if run.final is not None}
    spent = {seed: run.budget.spent for seed, run in runs.items() if run.budget is not None}
    trained = {kind: fmean(_seconds(run, kind) for run in runs.values()) for kind in KINDS}
    actual = [sum(phase.seconds for phase in run.phases) for run in runs.values()]
    told = [sum(phase.predicted_seconds or 0.0 for phase in run.phases) for run in runs.values()]
    return {
        "top1": fmean(tops.values()),
        "top1_by_seed": tops,
        "spent_over_asked": {seed: seconds / asked - 1 for seed, seconds in spent.items()},
        "shares": {kind: seconds / sum(trained.values()) for kind, seconds in trained.items()},
        "predicted_over_actual": [one / other - 1 for one, other in zip(told, actual, strict=True)],
        "decisions": {seed: [one.reason for one in run.decisions] for seed, run in runs.items()},
    }


def _seconds(run: RunReport, kind: str) -> float:
    return sum(phase.seconds for phase in run.phases if phase.kind == kind)


def _paired(a: dict[int, RunReport], b: dict[int, RunReport], seeds: Sequence[int]) -> dict[str, Any]:
    """The difference of two rows in points, with its interval over seeds and images."""
    import numpy as np

    def correct(run: RunReport) -> Any:
        assert run.final is not None
        return unpack_correct(run.final.correct, run.rows.val).astype(float)

    d = np.stack([correct(a[seed]) - correct(b[seed]) for seed in seeds])
    return interval_of(d).model_dump()


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"T = {found['unit_seconds']:.1f} s of training", box=box.SIMPLE_HEAD)
    for name in ("length", "split", "seeds", "top-1 %", "ssl / mix / sl % of seconds", "spent - asked %", "adaptive -"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for length, at in found["lengths"].items():
        for row, told in sorted(at["rows"].items(), key=lambda item: -item[1]["top1"]):
            shares = " / ".join(f"{100 * told['shares'][kind]:.0f}" for kind in KINDS)
            over = max(told["spent_over_asked"].values(), key=abs)
            pair = told.get("adaptive_minus_this")
            against = f"{pair['value']:+.2f} ({pair['low']:+.2f} to {pair['high']:+.2f})" if pair else ""
            seeds = str(len(told["top1_by_seed"]))
            table.add_row(f"{length} T", row, seeds, f"{told['top1']:.2f}", shares, f"{100 * over:+.2f}", against)
        if at["grid_best"]:
            told_of_grid = f"the grid: median {at['grid_median']:.2f}, best {at['grid_best']}"
            table.add_row(f"{length} T", told_of_grid, end_section=True)
    return table
