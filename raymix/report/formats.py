"""Reports as Markdown, CSV and JSON, for whoever reads them on with another tool."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from raymix.report import course, effort, facts, roi_words, sweep_words, words
from raymix.report.lineup import HEADS, PAIRED_HEADS, Line, cells, paired_cells, remarks
from raymix.report.money import Roi
from raymix.report.page_pilot import COST_HEADS
from raymix.report.page_run import PHASE_HEADS
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport
from raymix.report.sweep import SweepReport

LEDGER_HEADS = ("account", "{unit}", "share", "cost", "what it is")


def as_json(report: RunReport | PilotReport | SweepReport) -> str:
    """All of it, as report.json, pilot.json and sweep.json have it."""
    return report.model_dump_json(indent=2) + "\n"


def as_csv(report: RunReport | PilotReport | SweepReport) -> str:
    """A line a phase of a run, a run of a pilot, or an arm of a sweep's cell; empty where there is no figure."""
    if isinstance(report, SweepReport):
        return _csv(_sweep_lines(report))
    if isinstance(report, RunReport):
        return _csv([{"run": report.name, **phase.model_dump()} for phase in report.phases])
    lines = [
        {"arm": arm, **run.model_dump(exclude={"correct", "counts"})}
        for arm, runs in report.arms.items()
        for run in sorted(runs, key=lambda run: (run.length, run.seed))
    ]
    return _csv(lines)


def as_markdown(report: RunReport | PilotReport | SweepReport) -> str:
    """Headline and main tables."""
    if isinstance(report, SweepReport):
        return _sweep_markdown(report)
    return _run_markdown(report) if isinstance(report, RunReport) else _pilot_markdown(report)


def lines_json(lines: Sequence[Line]) -> str:
    """Runs and pilots side by side, a list."""
    return json.dumps([line.model_dump(mode="json") for line in lines], indent=2) + "\n"


def lines_csv(lines: Sequence[Line]) -> str:
    """The same, a line each; an interval is two columns, a paired difference five."""
    found = []
    for line in lines:
        values = line.model_dump(exclude={"interval", "seeds", "versus"})
        interval, pair = line.interval, line.versus
        ends = {"low": interval.low if interval else None, "high": interval.high if interval else None}
        minus = {
            "minus": pair.against if pair else None,
            "points": pair.points.value if pair else None,
            "points_low": pair.points.low if pair else None,
            "points_high": pair.points.high if pair else None,
            "paired_seeds": " ".join(str(seed) for seed in pair.seeds) if pair else None,
        }
        found.append({**values, **ends, "seeds": " ".join(str(seed) for seed in line.seeds), **minus})
    return _csv(found)


def lines_markdown(lines: Sequence[Line]) -> str:
    """The same, a table."""
    paired = [_table(PAIRED_HEADS, pairs)] if (pairs := paired_cells(lines)) else []
    return "\n\n".join((_table(HEADS, map(cells, lines)), *paired, *remarks(lines))) + "\n"


def _run_markdown(report: RunReport) -> str:
    final, totals = report.final, report.totals
    told = facts.result_words(final) if final else "val not read"
    bill = f"{words.count(totals.worker_seconds)} {report.unit} billed (clock B), {words.money(totals.cost)}"
    heads = ["phase", *(head.format(unit=report.unit) for head in PHASE_HEADS)]
    rows = [[phase.kind, *facts.phase_cells(phase)] for phase in report.phases]
    parts = [
        f"# {_plain(report.name)}",
        f"{report.status}; {told}; wall {words.seconds(totals.wall_seconds)}; {bill}.",
        *course.lines(report),
        _table(heads, [*rows, ["all", *facts.total_cells(report.phases)]]),
    ]
    if report.ledger is not None:
        ledger = [*course.ledger_cells(report), (*course.ledger_total(report), "")]
        parts.append(_table([head.format(unit=report.unit) for head in LEDGER_HEADS], ledger))
    parts.append(_table(("rows", "number", "what they are"), facts.rows_lines(report)))
    return "\n\n".join((*parts, *([report.note] if report.note else []))) + "\n"


def _pilot_markdown(report: PilotReport) -> str:
    lead, lines = facts.lead_arm(report), facts.arm_lines(report)
    heads = ["length", "arm", "top-1 ± sd, %", f"{lead} minus this, points (95 %)"]
    heads += [head.format(unit=report.unit) for head in COST_HEADS]
    rows = [
        [words.times(line.length), line.arm, *facts.accuracy_cells(line), *facts.cost_cells(line)] for line in lines
    ]
    tried = f"{words.sentence(facts.tried_line(report))} Seeds: {', '.join(map(str, report.seeds))}."
    told = words.sentence(facts.detectable_line(report))
    parts = [f"# {_plain(report.name)}", f"{report.status}. {report.verdict.text}", _table(heads, rows), tried, told]
    parts += [f"{_plain(arm)}: {_plain(what)}." for arm, what in report.defined.items()]
    if did := effort.effort_cells(report):
        parts += ["## Beside equal seconds (secondary)", _table(("arm, at T", *effort.EFFORT_HEADS), _rows(did))]
    if equal := effort.equal_cells(report):
        against = _table((f"{lead} minus this, at equal", *effort.AMOUNTS), _rows(equal))
        parts += [against, effort.secondary_note(report)]
    parts += _roi_markdown(report.roi, report) if report.roi else []
    return "\n\n".join((*parts, *([report.note] if report.note else []))) + "\n"


def _sweep_markdown(report: SweepReport) -> str:
    first, rest = sweep_words.headline(report)
    counts = sweep_words.counts(report)
    parts = [f"# {_plain(report.name)}", f"{report.status}, {counts}. {_plain(' '.join([first, *rest]))}"]
    for length, here in sweep_words.cells_at(report):
        rows = [sweep_words.cell_cells(cell, at, report) for cell, at in here]
        parts += [f"## At {words.times(length)}", _table(sweep_words.cell_heads(report), rows)]
        if crossings := sweep_words.crossing_cells(report, length):
            parts += ["### Crossovers", _table(sweep_words.CROSSING_HEADS, crossings)]
        if saved := sweep_words.saved_rows(report, length):
            parts += ["### Labels saved", _table(sweep_words.SAVED_HEADS, saved)]
    parts += ["## What it took", _table(sweep_words.cost_heads(report), sweep_words.cost_rows(report))]
    return "\n\n".join((*parts, *([_plain(report.note)] if report.note else []))) + "\n"


def _sweep_lines(report: SweepReport) -> list[dict[str, object]]:
    """A line for each cell, length and arm."""
    return [
        {
            **cell.model_dump(include={"fraction", "label_fraction", "num_train", "num_labelled", "unit_seconds"}),
            "length": at.length,
            "arm": arm,
            "top1": top.value,
            "low": top.low,
            "high": top.high,
            "seeds": " ".join(map(str, cell.seeds)),
            "cell_worker_seconds": cell.worker_seconds,
        }
        for cell in report.cells
        for at in cell.at
        for arm, top in at.arms.items()
    ]


def _roi_markdown(roi: Roi, report: PilotReport) -> list[str]:
    return [
        "## Return on investment",
        _plain(roi_words.headline(roi, report)),
        _table(("what", "figure", "of what"), roi_words.findings(roi)),
        _table(roi_words.once_heads(roi), roi_words.once_cells(roi)),
        _table(roi_words.training_heads(roi), roi_words.training_cells(roi)),
        _plain(roi_words.labels_line(roi)),
    ]


def _rows(lines: Iterable[tuple[str, list[str]]]) -> list[list[str]]:
    return [[first, *cells] for first, cells in lines]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return "".join(f"\\{c}" if c in "\\|<>*_`[]#" else c for c in " ".join(text.split()))


def _csv(lines: Sequence[dict[str, object]]) -> str:
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()
