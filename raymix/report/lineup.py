"""Runs and pilots side by side: a line a run, and for a pilot a line an arm at the length of its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pydantic import Field

from raymix.report import words
from raymix.report.intervals import at_length, own_interval
from raymix.report.pilot import Interval, PilotReport
from raymix.report.run import RunReport, Status
from raymix.report.versus import Versus, name_of, versus, versus_cells
from raymix.spec import Section

HEADS = ("run", "status", "top-1", "95 % interval", "val", "seeds", "seconds (A)", "billed (B)", "cost", "phases")
PAIRED_HEADS = ("run", "minus", "points of top-1 (95 %)", "paired seeds")


class Line(Section):
    """A run, or the runs of an arm at equal seconds; figures are means of a run."""

    path: str = Field(description="the folder, as it was named")
    arm: str | None = Field(description="of a pilot; null: this is a run")
    status: Status
    top1: float | None = Field(description="percent of the val rows; null: val was not read")
    interval: Interval | None = Field(description="95 %; of one seed over images alone")
    num_val: int
    seeds: tuple[int, ...]
    trained_seconds: float = Field(description="steps and the wait for data")
    worker_seconds: float = Field(description="clock B: every second that the workers were held")
    cost: float | None = Field(description="null: price not set")
    phases: str = Field(description="kinds and their epochs, in order")
    price: float | None = Field(description="of a worker-hour; null: not set")
    device: str
    device_name: str = Field(description="its maker's name for it, or CPU")
    versus: Versus | None = Field(None, description="paired difference; null: nothing to pair it with")


def line_up(done: Sequence[tuple[str, RunReport | PilotReport]]) -> list[Line]:
    """Lines of reports, each with its name, in the order given."""
    found: list[Line] = []
    pairs = versus(done)
    for place, (path, report) in enumerate(done):
        lines = [_of_run(path, report)] if isinstance(report, RunReport) else _of_pilot(path, report)
        found += [line.model_copy(update={"versus": pairs.get((place, line.arm))}) for line in lines]
    return found


def paired_cells(lines: Sequence[Line]) -> list[list[str]]:
    """The lines that are paired with another one, as cells in the order of PAIRED_HEADS."""
    return [[name_of(line.path, line.arm), *versus_cells(line.versus)] for line in lines if line.versus]


def cells(line: Line) -> list[str]:
    """A line as cells, in the order of HEADS."""
    return [
        name_of(line.path, line.arm),
        line.status,
        words.percent(line.top1),
        words.percent_interval(line.interval) if line.interval else "-",
        words.count(line.num_val),
        ", ".join(str(seed) for seed in line.seeds),
        words.seconds(line.trained_seconds),
        f"{words.count(line.worker_seconds)} {'GPU-s' if line.device.startswith('cuda') else 'worker-s'}",
        words.money(line.cost),
        line.phases,
    ]


def remarks(lines: Sequence[Line]) -> list[str]:
    """What a reader must know before comparing them."""
    found = ["Seconds and cost are those of one run, on average; an interval of one seed is over images alone."]
    if len({line.num_val for line in lines if line.top1 is not None}) > 1:
        found.append("They were not judged on the same val rows: the top-1 of one says little about that of another.")
    if any(line.versus for line in lines):
        found.append("Paired by seed and val row, which is sound where they have the same data, val rows and T.")
    if len(names := {line.device_name for line in lines}) > 1:
        found.append(f"They ran on different devices ({', '.join(sorted(names))}): seconds cannot be compared.")
    if len({line.price for line in lines}) > 1:
        found.append("A worker-hour has another price, or none, in some of them: cost cannot be compared.")
    if any(len(line.seeds) == 1 for line in lines):
        found.append("One seed decides nothing; raymix pilot compares at equal seconds over paired seeds.")
    return found


def _of_run(path: str, report: RunReport) -> Line:
    final, totals = report.final, report.totals
    return Line(
        path=path,
        arm=None,
        status=report.status,
        top1=final.top1 if final else None,
        interval=own_interval((final,), final.judged) if final else None,
        num_val=final.num_val if final else report.rows.val,
        seeds=(report.seed,),
        trained_seconds=totals.trained_seconds,
        worker_seconds=totals.worker_seconds,
        cost=totals.cost,
        phases=", ".join(f"{phase.kind} {words.epochs(phase.epochs)} ep" for phase in report.phases) or "none",
        price=report.price_per_worker_hour,
        device=report.device,
        device_name=report.environment.get("device", report.device),
    )


def _of_pilot(path: str, report: PilotReport) -> list[Line]:
    lines = []
    for arm, all_runs in report.arms.items():
        runs = at_length(all_runs, 1.0)
        if not runs:
            continue
        costs = [run.cost for run in runs if run.cost is not None]
        ssl, sl = (fmean(getattr(run, name) for run in runs) for name in ("ssl_epochs", "sl_epochs"))
        interval = own_interval(runs, report.judged)
        line = Line(
            path=path,
            arm=arm,
            status=report.status,
            top1=interval.value,
            interval=interval,
            num_val=report.num_val,
            seeds=tuple(sorted(run.seed for run in runs)),
            trained_seconds=fmean(run.worker_seconds for run in runs) / report.workers,
            worker_seconds=fmean(run.billed_worker_seconds for run in runs),
            cost=fmean(costs) if costs else None,
            phases=f"{words.epochs(ssl)} SSL and {words.epochs(sl)} SL epochs",
            price=report.price_per_worker_hour,
            device=report.device,
            device_name=report.environment.get("device", report.device),
        )
        lines.append(line)
    return lines
