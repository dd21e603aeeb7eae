"""The page of a search and its table for a terminal: the same facts, the table for fewer columns."""

from __future__ import annotations

import hashlib
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymix.report import words
from raymix.report.html import _render
from raymix.report.page_parts import STATUS_WORDS
from raymix.report.search import SearchReport, value_text
from raymix.report.search_plots import cost_plot, slice_plot
from raymix.search.trial import Trial

TRIAL_WORDS = {
    "done": "done",
    "stopped": "ended early by ASHA",
    "interrupted": "interrupted, can go on",
    "running": "interrupted, can go on",
    "failed": "failed",
    "refused": "not tried: the job refuses these values together",
}
SHOWN = 10  # trials in a terminal; the page has all


def search_html(report: SearchReport) -> str:
    """The page of a search."""
    return _render("search.html.j2", alone=True, **_values(report))


def search_notebook_html(report: SearchReport) -> str:
    """The same as a notebook shows it."""
    return _render("search.html.j2", alone=False, **_values(report))


def search_table(report: SearchReport) -> RenderableType:
    """A search: what was best, then the trials, the best first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for place, head in enumerate(_heads(report)):
        table.add_column(head, justify="left" if place == 0 else "right")
    lines = _lines(report)
    for trial, cells in lines[:SHOWN]:
        table.add_row(*cells, style="bold" if trial == report.best else "")
    more = [Text(f"{len(lines) - SHOWN} more in search.json and report.html", style="dim")] if lines[SHOWN:] else []
    status = Text.assemble((report.name, "bold"), "  ", report.status, f"  {_counts(report)}")
    note = [Text(report.note, style="yellow")] if report.note else []
    return Group(status, Text(_headline(report), style="bold"), table, *more, Text(_rule(report), style="dim"), *note)


def trial_line(trial: Trial, names: dict[str, str]) -> str:
    """A trial that is over, in one line."""
    values = ", ".join(f"{names[path]} {value_text(value)}" for path, value in trial.values.items())
    arm = f"{trial.arm}, " if trial.arm else ""
    if trial.select_top1 is None:
        why = trial.error or "nothing was evaluated"
        return f"trial {trial.number}: {TRIAL_WORDS[trial.status]}: {why} ({arm}{values})"
    early = "" if trial.status == "done" else f", {TRIAL_WORDS[trial.status]}"
    unit = "GPU-s" if trial.device.startswith("cuda") else "worker-s"
    seconds = f"{words.tenths(trial.worker_seconds)} {unit}"
    return f"trial {trial.number}: select {words.percent(trial.select_top1)}, {seconds}{early} ({arm}{values})"


def _values(report: SearchReport) -> dict[str, Any]:
    best = report.best
    prefix = f"s{hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:8]}-"
    tiles = [
        (
            "best select top-1",
            words.percent(best.select_top1 if best else None),
            f"of {words.count(report.num_select)} select rows; val was not read",
        ),
        ("configurations tried", words.count(report.tried), _counts(report)),
        (
            f"{report.unit}, billed",
            words.count(report.worker_seconds),
            f"{words.plural(report.workers, 'worker')} a trial",
        ),
        ("wall time", words.seconds(report.wall_seconds), f"cost: {words.money(report.cost)}"),
    ]
    return {
        "report": report,
        "status": STATUS_WORDS[report.status],
        "headline": _headline(report),
        "rule": _rule(report),
        "tiles": tiles,
        "heads": _heads(report),
        "lines": [(trial == best, trial in report.front, cells) for trial, cells in _lines(report)],
        "left": [
            (trial.name, TRIAL_WORDS[trial.status], trial.error) for trial in report.trials if trial.select_top1 is None
        ],
        "space": [(path, axis.model_dump(exclude_none=True)) for path, axis in report.space.items()],
        "cost_plot": cost_plot(report, f"{prefix}c-"),
        "slice_plot": slice_plot(report, f"{prefix}f-"),
    }


def _headline(report: SearchReport) -> str:
    best = report.best
    if best is None:
        return "No trial came to its end."
    values = ", ".join(f"{path} {value_text(value)}" for path, value in best.values.items())
    arm = f" as {best.arm}" if best.arm else ""
    return f"Best: {words.percent(best.select_top1)} on select rows{arm} with {values}."


def _rule(report: SearchReport) -> str:
    """What the best figure is worth."""
    return (
        f"Chosen on {words.count(report.num_select)} select rows as the best of {report.tried}, so it is higher than "
        "it will be on other rows. Val was not read: a run of best.yaml reads it once, with a seed that the search did "
        "not see."
    )


def _counts(report: SearchReport) -> str:
    done = sum(trial.status in ("done", "stopped", "failed") for trial in report.trials)
    early = sum(trial.status == "stopped" for trial in report.trials)
    parts = [f"{done} of {report.asked} trials"]
    parts += [f"{early} ended early"] if early else []
    parts += [f"{len(report.earlier)} of earlier searches"] if report.earlier else []
    parts += ["budget spent"] if report.ended == "budget" else []
    return ", ".join(parts)


def _heads(report: SearchReport) -> list[str]:
    arms = ["arm"] if report.best_of_arm else []
    return ["trial", *arms, *report.axes.values(), "select top-1", f"{report.unit} (A)", "billed (B)", "status"]


def _lines(report: SearchReport) -> list[tuple[Trial, list[str]]]:
    """The trials that were judged, the best first."""
    lines = []
    for trial in report.judged:
        cells = [f"{trial.source}/{trial.name}" if trial.source else trial.name]
        cells += [trial.arm] if report.best_of_arm else []
        cells += [value_text(trial.values[path]) if path in trial.values else "-" for path in report.space]
        cells += [words.percent(trial.select_top1), words.tenths(trial.worker_seconds)]
        cells += [words.tenths(trial.billed_worker_seconds), TRIAL_WORDS[trial.status]]
        lines.append((trial, cells))
    return lines
