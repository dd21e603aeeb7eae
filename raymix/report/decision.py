"""One page for whoever decides: what mixing costs and brings, what that rests on, what nobody has measured."""

from __future__ import annotations

import csv
import io

from raymix.report import roi_words, words
from raymix.report.figure import Interval
from raymix.report.html import _render
from raymix.report.money import Roi
from raymix.report.page_parts import STATUS_WORDS
from raymix.report.pilot import PilotReport


def decision_html(report: PilotReport) -> str:
    """The page of a pilot whose return was reckoned."""
    assert report.roi is not None
    found = report.roi
    return _render(
        "decision.html.j2",
        report=report,
        status=STATUS_WORDS[report.status],
        headline=roi_words.headline(found, report),
        closed=found.open or "told" not in (found.saving.outcome, found.gain.outcome),
        arms_line=roi_words.arms_line(found, report),
        wall=words.seconds(report.wall_seconds),
        assumed=roi_words.assumed(found, report),
        missing=roi_words.not_measured(found, report),
        roi=roi_words.tables(found),
    )


def roi_csv(found: Roi) -> str:
    """Every figure of a return on investment, a line each, as it is; empty where none is told."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("section", "figure", "unit", "value", "low", "high", "why"))
    for item in found.once:
        name = f"{item.name} ({item.what})"
        writer.writerow(("spent once", name, found.unit, _known(item.amount), "", "", ""))
    writer.writerow(("spent once", "all", found.unit, _known(found.once_total), "", "", ""))
    writer.writerow(("labels", "number", "labels", sum(found.labels.values()), "", "", ""))
    writer.writerow(("labels", "cost", "money", _known(found.labels_cost), "", "", ""))
    for one in found.trainings:
        writer.writerow(("a training at T", one.arm, found.worker_unit, one.worker_seconds, "", "", ""))
        writer.writerow(("a training at T", one.arm, "money", _known(one.cost), "", "", ""))
    saving, gain, unit = found.saving, found.gain, found.unit
    lines: list[tuple[str, str, str, Interval | None, str]] = [
        ("equal accuracy", "saving a retraining", unit, saving.per_training, saving.why),
        ("equal accuracy", "saving a year", unit, saving.per_year, saving.why),
        ("equal accuracy", "break-even", "retrainings", saving.break_even, saving.why),
        ("equal accuracy", "break-even", "years", saving.break_even_years, saving.why),
        ("equal seconds", "gain", "points", gain.points, gain.why),
        ("equal seconds", "cost of a point", unit, gain.per_point, gain.why),
        ("equal seconds", "value a year", unit, gain.value_per_year, gain.why),
        ("equal seconds", "break-even", "years", gain.break_even_years, gain.why),
    ]
    for section, name, of, at, why in lines:
        writer.writerow((section, name, of, *((at.value, at.low, at.high) if at else ("", "", "")), why))
    return text.getvalue()


def _known(value: float | None) -> float | str:
    return "" if value is None else value
