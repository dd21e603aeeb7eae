"""What `raymix bench scale` makes of its windows: a row a cell and step kind, a table, a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from raymix.bench.scaling.setting import SCALINGS, Cell
from raymix.plan import Kind
from raymix.report.plots import PHASE_COLORS


@dataclass
class Timed:
    """Seconds of windows of the same steps: one item a window."""

    cell: Cell
    kind: Kind
    batch: int  # over all workers
    steps: int  # of a window
    raymix: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # of raymix's, for data
    between: list[float] = field(default_factory=list)  # beside raymix's, between segments
    torchrun: list[float] = field(default_factory=list)  # empty: the plain loop has no such step
    apart: list[float] = field(default_factory=list)  # torchrun's without averaging gradients

    def add(self, seconds: float, waited: float, between: float | None, new: bool) -> None:
        """A segment of raymix, `new`: the first of its window; `between` None: nothing is known of what came before."""
        for values, value in ((self.raymix, seconds), (self.waited, waited), (self.between, between or 0.0)):
            if new:
                values.append(value)
            else:
                values[-1] += value

    def whole(self, windows: int) -> Timed:
        """The first windows alone: a signal may come in the midst of one."""
        cut = {name: getattr(self, name)[:windows] for name in ("raymix", "waited", "between", "torchrun", "apart")}
        return replace(self, **cut)

    def step(self, side: Literal["raymix", "torchrun"]) -> float:
        """Median seconds of a step."""
        return statistics.median(self.raymix if side == "raymix" else self.torchrun) / self.steps


def rows(timed: Sequence[Timed]) -> list[dict[str, Any]]:
    """A row each, as `--json` has it; figures against one worker are null where that was not measured."""
    alone = {one.kind: one for one in timed if one.cell.workers == 1}
    return [_row(one, alone.get(one.kind)) for one in timed]


def _row(one: Timed, alone: Timed | None) -> dict[str, Any]:
    """Images a second, ratios, efficiency, what averaging costs."""
    ratios = [plain / mine for mine, plain in zip(one.raymix, one.torchrun, strict=True)] if one.torchrun else []
    exposed = [both - own for both, own in zip(one.torchrun, one.apart, strict=True)] if one.apart else []
    return {
        "scaling": one.cell.scaling,
        "workers": one.cell.workers,
        "kind": one.kind,
        "batch": one.batch,
        "steps": one.steps,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratios": ratios,
        "raymix": _side(one, alone, "raymix"),
        "torchrun": _side(one, alone, "torchrun") if one.torchrun else None,
        "all_reduce_exposed_ms": 1000 * statistics.median(exposed) / one.steps if exposed else None,
        "data_wait_share": sum(one.waited) / sum(one.raymix),
        "between_share": sum(one.between) / sum(one.raymix),
    }


def _side(one: Timed, alone: Timed | None, side: Literal["raymix", "torchrun"]) -> dict[str, float | None]:
    """One side's figures; `added_ms`, of weak scaling: what a step takes longer than one worker's on as many rows."""
    step, workers = one.step(side), one.cell.workers
    rate = one.batch / step
    found: dict[str, float | None] = {
        "step_ms": 1000 * step,
        "images_per_second": rate,
        "images_per_second_per_worker": rate / workers,
        "efficiency": None,
        "added_ms": None,
    }
    if alone is not None:
        found["efficiency"] = rate / workers / (alone.batch / alone.step(side))
        found["added_ms"] = 1000 * (step - alone.step(side)) if one.cell.scaling == "weak" else None
    return found


def table(result: dict[str, Any]) -> Table:
    """A line a row; empty where there is nothing to say."""
    names = ("scaling", "workers", "step", "batch", "images/s", "a worker", "torchrun", "ratio", "efficiency",
             "torchrun's", "all-reduce ms", "t_N - t_1 ms", "data wait", "between")  # fmt: skip
    made = Table(*names, box=box.SIMPLE_HEAD)
    for column in made.columns[3:]:
        column.justify = "right"
    last: tuple[Any, ...] = ()
    for row in result["rows"]:
        mine, plain = row["raymix"], row["torchrun"] or {}
        cell = (row["scaling"], row["workers"])
        if last not in ((), cell):
            made.add_section()
        last = cell
        made.add_row(
            row["scaling"] if row["workers"] > 1 else "one",
            str(row["workers"]),
            row["kind"],
            str(row["batch"]),
            f"{mine['images_per_second']:,.0f}",
            f"{mine['images_per_second_per_worker']:,.0f}",
            _told(plain.get("images_per_second"), ",.0f"),
            _told(row["ratio"], ".3f"),
            _told(mine["efficiency"], ".3f"),
            _told(plain.get("efficiency"), ".3f"),
            _told(row["all_reduce_exposed_ms"], ".2f"),
            _told(mine["added_ms"], ".2f"),
            f"{100 * row['data_wait_share']:.1f} %",
            f"{100 * row['between_share']:.1f} %",
        )
    return made


def show(result: dict[str, Any]) -> None:
    """Prints the table and what it is of."""
    # a pipe has no edge to wrap at
    Console(highlight=False, width=None if Console().is_terminal else 160).print(table(result))
    Console(highlight=False).print(
        f"images/s over all workers, medians of {result['windows']} windows of each side in turns; ratio: raymix over "
        f"torchrun ({result['plain']}). Efficiency: images/s a worker over those of one worker alone. All-reduce: "
        f"torchrun's step less the same without it. Between: naming and reporting of segments, beside the steps. "
        f"{result['device_name']}, {result['image_size']} px."
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Images a second over workers: a panel a scaling, a colour a step kind; dotted: one worker's times the number."""
    from matplotlib.figure import Figure

    found = result["rows"]
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    for panel, scaling in enumerate(SCALINGS, 1):
        axis = figure.add_subplot(1, len(SCALINGS), panel)
        for kind in dict.fromkeys(row["kind"] for row in found):
            of = [row for row in found if row["kind"] == kind and (row["scaling"] == scaling or row["workers"] == 1)]
            counts = [row["workers"] for row in of]
            axis.plot(counts, [_rate(row, "raymix") for row in of], "o-", color=PHASE_COLORS[kind], label=kind)
            if all(row["torchrun"] for row in of):
                rates = [_rate(row, "torchrun") for row in of]
                axis.plot(counts, rates, "x--", color=PHASE_COLORS[kind], label=f"{kind}, torchrun")
            if of and counts[0] == 1:
                ideal = [_rate(of[0], "raymix") * count for count in counts]
                axis.plot(counts, ideal, ":", color=PHASE_COLORS[kind], linewidth=1)
        axis.set(title=f"{scaling} scaling", xlabel="workers", ylabel="images/s", ylim=(0, None))
        axis.set_xticks(sorted({row["workers"] for row in found}))
        axis.grid(alpha=0.15)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=6)
    figure.savefig(path)


def _rate(row: dict[str, Any], side: str) -> float:
    rate: float = row[side]["images_per_second"]
    return rate


def _told(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
