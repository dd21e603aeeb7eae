"""The page of an evaluation and its lines for a terminal: the same facts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from raymix.report import words
from raymix.report.evaluation import ClassFigures, CostFigures, Evaluated, Judged, Probe
from raymix.report.html import _render
from raymix.report.page_parts import ENDS
from raymix.report.plots_evaluation import evaluation_plots

CLASS_HEADS = ("images", "taken for it", "precision", "recall", "95 %", "F1", "AUROC", "AP", "recall at", "threshold")
PAIRS = 15  # most frequent mistakes that are listed
_INTERVALS = {"wilson": "Wilson", "bootstrap": "bootstrap"}


def evaluation_html(report: Evaluated) -> str:
    """The page."""
    return _render("evaluation.html.j2", alone=True, **_values(report))


def evaluation_notebook_html(report: Evaluated) -> str:
    """The same as a notebook shows it."""
    return _render("evaluation.html.j2", alone=False, **_values(report))


def evaluation_lines(report: Evaluated) -> dict[str, str]:
    """What a terminal shows, name -> text."""
    lines = {name: f"{value}  ({about})" for name, value, about in _tiles(report)}
    for probe in report.probes:
        lines[_probe_name(probe)] = f"{words.percent(probe.top1.value)}  ({_span(probe.top1, words.percent)})"
    if report.costs:
        lines["cost an image"] = _cost_line(report.costs)
    causes = words.causes(report.skipped)
    return {**lines, **({"unreadable": causes} if causes else {}), **dict(_warnings(report))}


def _values(report: Evaluated) -> dict[str, Any]:
    classes, left_out = _class_rows(report)
    return {
        "report": report,
        "tiles": _tiles(report),
        "warnings": [text for _, text in _warnings(report)],
        "skipped": words.causes(report.skipped),
        "note": _note(report),
        "plots": evaluation_plots(report, f"e{hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:8]}-"),
        "calibration": _calibration(report.calibration_error),
        "class_heads": [
            f"{head} {100 * report.false_alarms:g} %" if head == "recall at" else head for head in CLASS_HEADS
        ],
        "classes": classes,
        "left_out": left_out,
        "ends": ENDS,
        "pairs": _pairs(report),
        "probes": [_probe_row(probe, report) for probe in report.probes],
        "cost_rows": _cost_rows(report.costs) if report.costs else [],
        "cost_notes": _cost_notes(report.costs) if report.costs else [],
    }


def _tiles(report: Evaluated) -> list[tuple[str, str, str]]:
    shown: list[tuple[str, Judged | None]] = [
        ("top-1", report.top1),
        ("top-5", report.top5),
        ("balanced accuracy", report.balanced_accuracy),
        ("F1, macro", report.f1),
        ("AUROC, macro", report.auroc),
        ("average precision, macro", report.average_precision),
        (f"recall at {100 * report.false_alarms:g} % false alarms", report.recall_at),
        ("calibration error", report.calibration_error),
    ]
    return [(name, _value(found), _told(found)) for name, found in shown if found is not None]


def _calibration(found: Judged) -> str:
    told = f"Expected calibration error {_value(found)}, {_told(found)}; few images make it too large."
    return f"{told} Lower panel: how many are how sure."


def _value(found: Judged) -> str:
    return words.percent(found.value)


def _told(found: Judged, shown: Callable[[float], str] = words.percent) -> str:
    return f"{_span(found, shown)} over {words.count(found.n)} images"


def _span(found: Judged, shown: Callable[[float], str]) -> str:
    if found.low is None or found.high is None:
        return "no interval"
    low = shown(found.low).removesuffix(" %")
    return f"95 % {low} to {shown(found.high)}, {_INTERVALS[found.interval]}"


def _warnings(report: Evaluated) -> list[tuple[str, str]]:
    found = []
    if report.trained_on:
        text = f"the run was trained on {words.count(report.trained_on)} of these images, so these figures flatter it"
        found.append(("careful", text))
    if report.trained_on is None:
        found.append(("careful", "the run's own rows are gone: whether it was trained on these images is not known"))
    absent = [one.name for one in report.classes if not one.images]
    if absent:
        some = ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else "")
        found.append(("no image of", some))
    return found


def _note(report: Evaluated) -> str:
    ranking = (
        f", {report.ranking_resamples:,} of what is ranked" if report.ranking_resamples != report.resamples else ""
    )
    return (
        f"Bootstrap: {report.resamples:,} resamples of the images{ranking}, percentiles; the chance of the training "
        "seed is not in it. No interval: all resamples are alike, or too many to sort. "
        "Macro: the mean over classes that have an image, each against the rest."
    )


def _class_rows(report: Evaluated) -> tuple[list[tuple[str, list[str]]], int]:
    """By falling F1; of many the best and the worst, and how many in between are left out."""
    found = sorted((one for one in report.classes if one.images), key=lambda one: (-(one.f1 or 0.0), one.name))
    left_out = max(0, len(found) - 2 * ENDS)
    shown = found[:ENDS] + found[-ENDS:] if left_out else found
    return [(one.name, _class_cells(one)) for one in shown], left_out


def _class_cells(one: ClassFigures) -> list[str]:
    def cell(value: float | None) -> str:
        return words.figure(value, ".1f")

    span = words.percent_interval(one.recall_interval) if one.recall_interval else "-"
    return [
        *(words.count(one.images), words.count(one.predicted), cell(one.precision), cell(one.recall), span),
        *(cell(one.f1), cell(one.auroc), cell(one.average_precision), cell(one.recall_at)),
        words.figure(one.threshold),
    ]


def _pairs(report: Evaluated) -> list[tuple[str, str, str, str]]:
    """The most frequent confusions: class, what it was taken for, images, share of the class."""
    wrong = sorted((pair for pair in report.confusion if pair[0] != pair[1]), key=lambda pair: -pair[2])
    return [
        (
            report.class_names[label],
            report.class_names[predicted],
            words.count(images),
            words.percent(100 * images / report.classes[label].images),
        )
        for label, predicted, images in wrong[:PAIRS]
    ]


def _probe_name(probe: Probe) -> str:
    return {"knn": "kNN", "linear": "linear probe"}[probe.kind]


def _probe_row(probe: Probe, report: Evaluated) -> tuple[str, list[str], str]:
    ahead = words.points(probe.top1.value - report.top1.value)
    cells = [_value(probe.top1), _span(probe.top1, words.percent), words.percent(probe.balanced_accuracy), ahead]
    return _probe_name(probe), cells, f"{probe.about}; from {words.count(probe.fitted_images)} training images"


def _cost(value: float) -> str:
    return f"{value:,.4g}"


def _cost_line(costs: CostFigures) -> str:
    return f"{_cost(costs.predicted.value)}, {_cost(costs.cheapest.value)} by cheapest decisions"


def _cost_rows(costs: CostFigures) -> list[tuple[str, list[str]]]:
    shown: Sequence[tuple[str, Judged]] = (
        ("most probable class", costs.predicted),
        ("cheapest decision", costs.cheapest),
    )
    return [(name, [_cost(found.value), _told(found, _cost)]) for name, found in shown]


def _cost_notes(costs: CostFigures) -> list[str]:
    changed = f"{words.plural(costs.changed, 'image')} {'is' if costs.changed == 1 else 'are'} decided otherwise."
    foretold = f"The probabilities themselves expect {_cost(costs.foretold)} of the cheapest decisions."
    limits = [
        f"Cheapest is to take an image for {name} from a probability of {value:.3f} on."
        for name, value in costs.threshold.items()
    ]
    return [changed, foretold, *limits]
