"""The page of a sweep and its table for a terminal: the same facts."""

from __future__ import annotations

import hashlib
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymix.report import sweep_words, words
from raymix.report.html import _render
from raymix.report.page_parts import STATUS_WORDS, price_note
from raymix.report.plots_sweep import gain_plots, top1_plots
from raymix.report.sweep import SweepReport

RULES = (
    "Each cell is a pilot: arms at equal step-seconds by clock A, paired seeds, its own T and its own frozen plans. T "
    "differs from cell to cell, and so do the seconds behind equal lengths.",
    "Val rows are the same in every cell. With the same seed a smaller share of images lies within a larger one, and a "
    "smaller share of labels within a larger one of the same images. Select rows are a share of each cell's own "
    "labelled rows, taken out after that, so a cell with more labels trains on a few images less; nothing is chosen on "
    "them here.",
    "The best other arm, and the best arm with SSL, are picked cell by cell after seeing the results: the first makes "
    "the gain of mixing a cautious figure, the second that of SSL a favourable one.",
    "Crossovers are interpolated in the logarithm of the share between neighbouring cells, never extrapolated. Their "
    "intervals are a bootstrap over seeds and images, all cells resampled together. A crossover is told where the "
    "pilots decide and a cell on either side has the sign by its own interval.",
    "Labels saved: labels that sl needs for the top-1 of mix, on the curve of sl over the labels of the neighbouring "
    "cells at the same multiple of T. Only training labels count.",
    "No arm is tuned; many cells are compared, so one cell's interval by itself says less than it would alone.",
)


def sweep_html(report: SweepReport) -> str:
    """The page of a sweep."""
    return _render("sweep.html.j2", alone=True, **_values(report))


def sweep_notebook_html(report: SweepReport) -> str:
    """The same as a notebook shows it."""
    return _render("sweep.html.j2", alone=False, **_values(report))


def sweep_table(report: SweepReport) -> RenderableType:
    """A sweep for a terminal: the answer, and at T the cells, crossovers, labels saved, what it took."""
    first, rest = sweep_words.headline(report)
    parts: list[RenderableType] = [
        Text.assemble((report.name, "bold"), "  ", report.status, f"  {sweep_words.counts(report)}"),
        Text(first, style="bold" if report.decided else "bold yellow"),
        *(Text(text) for text in rest),
    ]
    for length, cells in sweep_words.cells_at(report)[:1]:
        heads = [f"at {words.times(length)}", *sweep_words.cell_heads(report, intervals=False)[1:]]
        rows = [sweep_words.cell_cells(cell, at, report, intervals=False) for cell, at in cells]
        parts += [
            _table(*heads, rows=rows),
            _table("top-1, %", *report.arms, rows=sweep_words.top_cells(report, cells)),
        ]
        if crossings := sweep_words.crossing_cells(report, length):
            parts.append(_table(*sweep_words.CROSSING_HEADS, rows=crossings))
        if saved := sweep_words.saved_rows(report, length):
            parts.append(_table(*sweep_words.SAVED_HEADS, rows=saved))
    if len(report.lengths) > 1:
        parts.append(Text("other lengths are in report.html and sweep.json", style="dim"))
    note = [Text(report.note, style="yellow")] if report.note else []
    return Group(*parts, Text(_cost_line(report), style="dim"), *note)


def _values(report: SweepReport) -> dict[str, Any]:
    first, rest = sweep_words.headline(report)
    prefix = f"w{hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:8]}-"
    return {
        "report": report,
        "status": STATUS_WORDS[report.status],
        "first": first,
        "rest": rest,
        "counts": sweep_words.counts(report),
        "tiles": _tiles(report),
        "gain_plots": gain_plots(report, prefix),
        "top1_plots": top1_plots(report, prefix),
        "heads": sweep_words.cell_heads(report),
        "groups": [
            (
                words.times(length),
                [(cell.folder, sweep_words.cell_cells(cell, at, report)) for cell, at in cells],
                sweep_words.crossing_cells(report, length),
                sweep_words.saved_rows(report, length),
            )
            for length, cells in sweep_words.cells_at(report)
        ],
        "what": sweep_words.WHAT,
        "crossing_heads": sweep_words.CROSSING_HEADS,
        "saved_heads": sweep_words.SAVED_HEADS,
        "cost_heads": sweep_words.cost_heads(report),
        "costs": sweep_words.cost_rows(report),
        "price": words.money(None)
        if report.price_per_worker_hour is None
        else price_note(report.price_per_worker_hour),
        "rules": RULES,
    }


def _tiles(report: SweepReport) -> list[tuple[str, str, str]]:
    """The figures of the headline's line, and what the sweep took."""
    line, tiles = sweep_words.main_line(report), []
    for name, turns in (("mixing changes sign at", line.mixing), ("SSL changes sign at", line.ssl)) if line else ():
        if line is None or turns is None:
            continue
        one = turns.crossovers[0] if turns.crossovers else None
        value = sweep_words.edge(one.at.value, line) if one else "not seen"
        about = f"of the {sweep_words.where(line)}" if one else f"{sweep_words.tally(turns)}"
        tiles.append((name, value, about + (", which may be chance" if one and not one.told else "")))
    if line is not None and line.saved:
        labels, needed, interval, _ = sweep_words.saved_cells(line, line.saved[0])
        tiles.append((f"sl's labels for mix with {labels}", needed, f"95 % interval {interval}"))
    held = f"{words.count(report.worker_seconds)} {report.unit} held (clock B)"
    return [*tiles, ("the sweep took", words.seconds(report.wall_seconds), f"{held}; {words.money(report.cost)}")]


def _cost_line(report: SweepReport) -> str:
    held = f"{words.count(report.worker_seconds)} {report.unit} held (clock B)"
    return f"wall {words.seconds(report.wall_seconds)}; {held}; {words.money(report.cost)}"


def _table(first: str, *heads: str, rows: Any) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for place, head in enumerate((first, *heads)):
        table.add_column(head, justify="left" if place == 0 else "right")
    for cells in rows:
        table.add_row(*cells)
    return table
