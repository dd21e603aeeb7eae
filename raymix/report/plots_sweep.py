"""Plots of a sweep: top-1 against the number of labels, and what mixing and SSL bring along each axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raymix.report.figure import Interval
from raymix.report.plots import BLUE, GREEN, INK, ORANGE, PINK, RED, SKY, legend_above, panel
from raymix.report.plots_pilot import arm_styles
from raymix.report.sweep import AtLength, Cell, Gain, Line, SweepReport
from raymix.report.sweep_words import AXIS_WORDS
from raymix.spec import share_text

MOST_PANELS = 8  # of top-1; the page's tables have all
HELD_STYLES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (RED, "D"), (PINK, "P"), (SKY, "v"))
TALL = 3.2  # inches
Points = list[tuple[float, Interval]]


def top1_plots(report: SweepReport, prefix: str) -> list[tuple[str, str]]:
    """Title and SVG for each line at T: top-1 of the arms against the labels they trained with."""
    lines = [line for line in report.lines if line.length == 1.0][:MOST_PANELS]
    found = []
    for number, line in enumerate(lines):
        cells = _cells(report, line)
        tops: dict[str, Points] = {
            arm: [(cell.num_labelled, at.arms[arm]) for cell, at in cells if arm in at.arms] for arm in report.arms
        }
        styles = arm_styles(tops)
        title = f"Top-1, {line.other} {share_text(line.held)}"
        label = "labels" if line.axis == "data.label_fraction" else "labels, with the images they are of"

        def draw(figure: Any, tops: dict[str, Points] = tops, label: str = label, styles: Any = styles) -> None:
            axis = figure.subplots()
            _curves(axis, tops, styles)
            axis.set_xlabel(f"{label} (log scale)")
            axis.set_ylabel("top-1 on val, %")
            legend_above(figure, axis, 3)

        found.append((title, panel(draw, TALL, f"{prefix}t{number}-", f"{title}: each arm against labels, at T")))
    return found


def gain_plots(report: SweepReport, prefix: str) -> list[tuple[str, str]]:
    """Title and SVG for each axis and difference, at T: a line for each value of the other axis."""
    wanted: tuple[tuple[str, Callable[[AtLength], Gain | None]], ...] = (
        ("Mix minus the best other arm", lambda at: at.mixing),
        ("Best arm with SSL minus sl", lambda at: at.ssl),
    )
    found: list[tuple[str, str]] = []
    for axis_name in dict.fromkeys(line.axis for line in report.lines):
        lines = [line for line in report.lines if line.length == 1.0 and line.axis == axis_name]
        for title, of in wanted:
            points = {
                f"{line.other.removeprefix('data.')} {share_text(line.held)}": [
                    (cell.share(axis_name), gain.points)
                    for cell, at in _cells(report, line)
                    if (gain := of(at)) is not None
                ]
                for line in lines
            }
            if not any(points.values()):
                continue

            def draw(figure: Any, points: dict[str, Points] = points, name: str = axis_name) -> None:
                axis = figure.subplots()
                styles = {held: HELD_STYLES[place % len(HELD_STYLES)] for place, held in enumerate(points)}
                axis.axhline(0, color=INK, linewidth=0.8)
                _curves(axis, points, styles)
                axis.set_xlabel(f"{name} (log scale)")
                axis.set_ylabel("points of top-1")
                legend_above(figure, axis, 2)

            key = f"{prefix}g{len(found)}-"
            told = f"{title}, along the {AXIS_WORDS[axis_name]}"
            found.append((told, panel(draw, TALL, key, f"{told}, with 95 % intervals")))
    return found


def _cells(report: SweepReport, line: Line) -> list[tuple[Cell, AtLength]]:
    """The cells of a line at its length, the smallest share first."""
    found = [
        (cell, at)
        for cell in report.cells
        for at in cell.at
        if cell.share(line.other) == line.held and cell.share(line.axis) in line.shares and at.length == line.length
    ]
    return sorted(found, key=lambda one: one[0].share(line.axis))


def _curves(axis: Any, curves: dict[str, Points], styles: dict[str, tuple[str, str]]) -> None:
    """A line with intervals for each, beside each other so that none hides another; ticks at the cells."""
    from matplotlib.ticker import NullFormatter

    for place, (name, points) in enumerate(curves.items()):
        if not points:
            continue
        color, marker = styles[name]
        aside = 1.02 ** (place - (len(curves) - 1) / 2)
        values = [top.value for _, top in points]
        errors = [[top.value - top.low for _, top in points], [top.high - top.value for _, top in points]]
        style = {"fmt": f"{marker}-", "color": color, "markersize": 5, "capsize": 3, "elinewidth": 1.2}
        axis.errorbar([x * aside for x, _ in points], values, yerr=errors, label=name, **style)
    axis.set_xscale("log")
    ticks = _apart(sorted({x for points in curves.values() for x, _ in points}))
    axis.set_xticks(ticks, [f"{x:,g}" for x in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()


def _apart(ticks: Sequence[float]) -> list[float]:
    """Those whose labels do not run into each other."""
    kept: list[float] = []
    for x in ticks:
        if not kept or x > kept[-1] * (ticks[-1] / ticks[0]) ** 0.1:
            kept.append(x)
    return kept
