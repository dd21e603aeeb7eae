"""Plots of an evaluation: is the model as sure as it is right, and what it takes for what."""

from __future__ import annotations

from typing import Any

from raymix.report.evaluation import Evaluated
from raymix.report.intervals import share_interval
from raymix.report.plots import BLUE, GREY, panel

MOST_CLASSES = 30  # of a confusion matrix that can be read
_NAMED, _LETTERS = 12, 14  # classes that get their names at the axes, and letters of one
_NUMBERED = 10  # classes whose cells hold their numbers


def evaluation_plots(report: Evaluated, prefix: str) -> list[tuple[str, str]]:
    """Title and SVG of each panel."""
    found = [("Calibration", panel(lambda figure: _reliability(figure, report), 3.9, f"{prefix}cal-", "Reliability"))]
    if len(report.class_names) <= MOST_CLASSES:
        drawn = panel(lambda figure: _confusion(figure, report), 3.9, f"{prefix}con-", "Confusion matrix")
        found.append(("Confusion, in % of the class", drawn))
    return found


def _reliability(figure: Any, report: Evaluated) -> None:
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 100], [0, 100], "--", color=GREY, linewidth=1)
    for one in report.bins:
        if one.top1 is None or one.confidence is None:
            continue
        interval = share_interval(one.top1 / 100 * one.images, one.images)
        error = [[max(0.0, one.top1 - interval.low)], [max(0.0, interval.high - one.top1)]]
        above.errorbar([100 * one.confidence], [one.top1], yerr=error, fmt="o", color=BLUE, markersize=5, capsize=2)
    above.set_ylim(-3, 103)
    above.set_ylabel("top-1, %")
    width = 100 / len(report.bins)
    below.bar(
        [100 * one.low + width / 2 for one in report.bins], [one.images for one in report.bins], 0.9 * width, color=BLUE
    )
    below.set_ylabel("images")
    below.set_xlabel("confidence, % (mean of a bin; bars: 95 % interval)")


def _confusion(figure: Any, report: Evaluated) -> None:
    axis, num = figure.subplots(), len(report.class_names)
    shares = [[0.0] * num for _ in range(num)]
    for label, predicted, images in report.confusion:
        shares[label][predicted] = 100 * images / report.classes[label].images
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    if num <= _NUMBERED:
        for label, predicted, images in report.confusion:
            share = shares[label][predicted]
            color = "white" if share > 55 else "black"  # on a colour of the map, not of the page
            text = f"{share:.0f}" if num > 5 else f"{share:.0f} %\n{images:,}"
            axis.text(predicted, label, text, ha="center", va="center", color=color, fontsize=8.5)
    every = list(range(num))
    names = [_short(name) if num <= _NAMED else "" for name in report.class_names]
    axis.set_xticks(every, names, rotation=90 if max(map(len, names)) > 4 else 0)
    axis.set_yticks(every, names)
    axis.grid(False)
    axis.set_xlabel("taken for")
    axis.set_ylabel("class")


def _short(name: str) -> str:
    text = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
    return text.replace("$", r"\$")  # no formula
