"""The plot of a comparison: top-1 of every arm and seed against worker-seconds, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from raymix.report import words
from raymix.report.intervals import at_length, own_interval
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.plots import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY, YELLOW, legend_above, panel

ARM_STYLES = {  # colour and marker: the arms are told apart without colour too
    "sl": (GREY, "v"),
    "ssl_sl": (ORANGE, "s"),
    "ssl_sl_one": (GREEN, "^"),
    "ssl_sl_drop": (RED, "D"),
    "mix": (BLUE, "o"),
}
OTHER_COLORS, OTHER_MARKERS = (PINK, SKY, YELLOW, INK), ("P", "X", "*", "h", "p", "<", ">")  # arms of the user's own
Arms = Mapping[str, Sequence[PilotRun]]


def arm_styles(arms: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each arm; of the user's own, no two alike among the first 28."""
    styles: dict[str, tuple[str, str]] = {}
    others = 0
    for arm in arms:
        if arm in ARM_STYLES:
            styles[arm] = ARM_STYLES[arm]
        else:
            styles[arm] = OTHER_COLORS[others % len(OTHER_COLORS)], OTHER_MARKERS[others % len(OTHER_MARKERS)]
            others += 1
    return styles


def pilot_plot(report: PilotReport, prefix: str) -> str:
    """Top-1 against planned worker-seconds: a line an arm, its interval, a dot a seed; empty without a run.

    With one length there is nothing to draw along, so each arm gets a row of its dots instead.
    """
    arms = {name: runs for name, runs in report.arms.items() if runs}
    if not arms:
        return ""
    lengths = sorted({run.length for runs in arms.values() for run in runs})

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        if len(lengths) > 1:
            _draw_lengths(axis, report, arms, lengths)
            legend_above(figure, axis, 3)
        else:
            _draw_rows(axis, report, arms)

    tall = 3.8 if len(lengths) > 1 else 0.8 + 0.5 * len(arms)
    return panel(draw, tall, prefix, "Top-1 of each arm and seed against worker-seconds, with 95 % intervals")


def _draw_lengths(axis: Any, report: PilotReport, arms: Arms, lengths: Sequence[float]) -> None:
    from matplotlib.ticker import NullFormatter

    every = [run for runs in arms.values() for run in runs]
    seconds = {
        length: report.workers * fmean(run.planned_seconds for run in at_length(every, length)) for length in lengths
    }
    styles = arm_styles(arms)
    for place, (name, runs) in enumerate(arms.items()):
        color, marker = styles[name]
        aside = 1.03 ** (place - (len(arms) - 1) / 2)  # beside each other, so that dots do not hide dots
        found = [(seconds[length] * aside, here) for length in lengths if (here := at_length(runs, length))]
        for x, here in found:
            axis.plot([x] * len(here), [run.top1 for run in here], marker, color=color, markersize=3, alpha=0.45)
        _errorbars(axis, report, found, color=color, fmt=f"{marker}-", linewidth=2 if name == "mix" else 1, label=name)
    axis.set_xscale("log")
    ticks = [f"{words.times(length)}\n{words.count(x)}" for length, x in seconds.items()]
    axis.set_xticks(list(seconds.values()), ticks)
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.set_xlabel(f"{report.unit} planned (clock A), log scale")
    axis.set_ylabel("top-1 on val, %")


def _errorbars(axis: Any, report: PilotReport, found: Sequence[tuple[float, Sequence[PilotRun]]], **style: Any) -> None:
    """Means of an arm, with the interval of each."""
    intervals = [own_interval(here, report.judged) for _, here in found]
    values = [interval.value for interval in intervals]
    errors = [
        [interval.value - interval.low for interval in intervals],
        [interval.high - interval.value for interval in intervals],
    ]
    axis.errorbar([x for x, _ in found], values, yerr=errors, markersize=6, capsize=3, elinewidth=1.2, **style)


def _draw_rows(axis: Any, report: PilotReport, arms: Arms) -> None:
    styles = arm_styles(arms)
    for place, (name, runs) in enumerate(arms.items()):
        color, marker = styles[name]
        interval = own_interval(runs, report.judged)
        error = [[interval.value - interval.low], [interval.high - interval.value]]
        style = {"fmt": marker, "color": color, "markersize": 7, "capsize": 4, "elinewidth": 1.5}
        axis.errorbar([interval.value], [place], xerr=error, **style)
        if len(runs) > 1:
            axis.plot([run.top1 for run in runs], [place + 0.22] * len(runs), ".", color=color, alpha=0.7)
    unit = "GPU-s" if report.unit == "GPU-seconds" else "worker-s"
    spent = {name: fmean(run.worker_seconds for run in runs) for name, runs in arms.items()}
    axis.set_yticks(range(len(arms)), [f"{name}\n{words.tenths(spent[name])} {unit}" for name in arms])
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.set_xlabel("top-1 on val, % (bar: 95 % interval)")
