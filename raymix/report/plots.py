"""Plots as inline SVG: drawn in the page's own text colour, so they read on light and dark alike.

Matplotlib is imported when a plot is drawn and not before; figures are made without pyplot, so nothing global is left.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from raymix.report import words
from raymix.report.intervals import at_length
from raymix.report.ledger import Ledger
from raymix.report.pilot import PilotReport
from raymix.report.run import Point, RunReport

INK = "#010203"  # stands for the page's text colour until the SVG is written
PHASE_COLORS = {"ssl": "#3b82f6", "mix": "#9b5de5", "sl": "#e07b00"}
ARM_STYLES = {  # colour and marker: the arms are told apart without colour too
    "sl": ("#8a8f98", "v"),
    "ssl_sl": ("#e07b00", "s"),
    "ssl_sl_one": ("#1f9d61", "^"),
    "ssl_sl_drop": ("#d6457f", "D"),
    "mix": ("#3b82f6", "o"),
}
OTHER_STYLE = ("#9b5de5", "P")
ACCOUNT_COLORS = {  # steps as their phases; what brings nothing is grey or red
    "before workers": "#c9ced6",
    "start-up": "#8a8f98",
    "prepare": "#5f6570",
    "data wait": "#d6457f",
    "ssl steps": PHASE_COLORS["ssl"],
    "mix steps": PHASE_COLORS["mix"],
    "sl steps": PHASE_COLORS["sl"],
    "trials": "#c9a400",
    "evaluation": "#1f9d61",
    "checkpoints": "#12a5b8",
    "lost work": "#c62828",
    "idle": "#a39a8c",
    "other": "#e4d9c7",
}
SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "raymix",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "legend.frameon": False,
}


def run_plot(report: RunReport, prefix: str) -> str:
    """Losses, top-1, learning rate and w over the run's step-seconds, its phases shaded; empty without a segment.

    Args:
        prefix: Starts every id in the SVG, so that plots on one page do not clash.
    """
    if not report.curve:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    accuracies = any(p.select_top1 is not None or p.train_top1 is not None for p in report.curve)
    with matplotlib.rc_context(SETTINGS):
        heights = [3, 3, 2] if accuracies else [3, 2]
        figure = Figure(figsize=(8.4, 0.9 * sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        for axis in axes:
            _shade_phases(axis, report.curve)
        _name_phases(axes[0], report.curve)
        _losses(axes[0], report.curve)
        if accuracies:
            _accuracies(axes[1], report.curve)
        _schedule(axes[-1], report.curve)
        axes[-1].set_xlabel("step-seconds")
        axes[-1].set_xlim(0, report.curve[-1].seconds)
        return _svg(figure, prefix, "Losses, accuracy, learning rate and w over the run")


def pilot_plot(report: PilotReport, prefix: str) -> str:
    """Top-1 against planned step-seconds, a line an arm through its means and a dot a seed; empty without a run.

    With one length there is nothing to draw along, so each arm gets a row of its dots instead.
    """
    arms = {name: runs for name, runs in report.arms.items() if runs}
    if not arms:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    lengths = sorted({run.length for runs in arms.values() for run in runs})
    with matplotlib.rc_context(SETTINGS):
        tall = 4.2 if len(lengths) > 1 else 0.9 + 0.42 * len(arms)
        figure = Figure(figsize=(8.4, tall), layout="constrained")
        axis = figure.subplots()
        if len(lengths) > 1:
            _draw_lengths(axis, arms, lengths)
        else:
            _draw_rows(axis, arms)
        return _svg(figure, prefix, "Top-1 of each arm and seed against step-seconds")


def ledger_plot(ledger: Ledger, unit: str, prefix: str) -> str:
    """Every account as its part of one bar; empty where nothing was booked."""
    parts = [entry for entry in ledger.entries if entry.worker_seconds > 0]
    if not parts:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.4, 1.7), layout="constrained")
        axis, left = figure.subplots(), 0.0
        for entry in parts:
            color, label = ACCOUNT_COLORS[entry.account], f"{entry.account} {100 * ledger.share(entry):.1f} %"
            axis.barh([0], [entry.worker_seconds], left=[left], height=0.7, color=color, label=label)
            left += entry.worker_seconds
        axis.set_xlim(0, left)
        axis.set_yticks([])
        axis.set_xlabel(unit)
        axis.spines["left"].set_visible(False)
        figure.legend(loc="outside upper left", ncols=5, fontsize=8, handlelength=1.0)
        return _svg(figure, prefix, "Every account as its share of wall time times workers")


# ---- one run ------------------------------------------------------------------------------------------------------


def _spans(curve: Sequence[Point]) -> list[tuple[str, float, float]]:
    """Stretches of one kind: kind, first and last second."""
    spans: list[tuple[str, float, float]] = []
    before = 0.0
    for point in curve:
        if spans and spans[-1][0] == point.kind:
            spans[-1] = (point.kind, spans[-1][1], point.seconds)
        else:
            spans.append((point.kind, before, point.seconds))
        before = point.seconds
    return spans


def _shade_phases(axis: Any, curve: Sequence[Point]) -> None:
    for kind, start, end in _spans(curve):
        axis.axvspan(start, end, color=PHASE_COLORS[kind], alpha=0.13, linewidth=0)


def _name_phases(axis: Any, curve: Sequence[Point]) -> None:
    total = curve[-1].seconds or 1.0
    for kind, start, end in _spans(curve):
        if (end - start) / total > 0.05:
            place = axis.get_xaxis_transform()
            axis.text((start + end) / 2, 1.02, kind, transform=place, ha="center", va="bottom", weight="bold")


def _line(axis: Any, curve: Sequence[Point], name: str, label: str, color: str, **style: Any) -> None:
    """A figure of the curve against seconds; broken where a phase has none."""
    points = [(point.seconds, getattr(point, name)) for point in curve]
    if any(value is not None for _, value in points):
        values = [float("nan") if value is None else value for _, value in points]
        axis.plot([x for x, _ in points], values, label=label, color=color, linewidth=1.6, **style)


def _losses(axis: Any, curve: Sequence[Point]) -> None:
    # a dot a point while there are few: a phase of one segment has no line
    style = {"marker": ".", "markersize": 4} if len(curve) <= 60 else {}
    _line(axis, curve, "ssl_loss", "SSL loss", PHASE_COLORS["ssl"], **style)
    _line(axis, curve, "sl_loss", "SL loss", PHASE_COLORS["sl"], **style)
    axis.set_ylabel("loss")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper right")


def _accuracies(axis: Any, curve: Sequence[Point]) -> None:
    _line(axis, curve, "train_top1", "augmented training images", "#8a8f98")
    told = [point for point in curve if point.select_top1 is not None]
    _line(axis, told, "select_top1", "select rows", PHASE_COLORS["mix"], marker="o", markersize=3.5)
    averaged = [point for point in told if point.select_ema_top1 is not None]
    if averaged:
        _line(axis, averaged, "select_ema_top1", "select rows, averaged weights", PHASE_COLORS["sl"], marker=".")
    axis.set_ylabel("top-1, %")
    axis.set_ylim(bottom=0)
    axis.legend(loc="lower right")


def _schedule(axis: Any, curve: Sequence[Point]) -> None:
    _line(axis, curve, "lr", "learning rate", "#1f9d61")
    axis.set_ylabel("learning rate")
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    weights = axis.twinx()
    weights.grid(visible=False)
    weights.spines["right"].set_visible(True)
    _line(weights, curve, "weight", "w (share of SSL)", "#d6457f", linestyle="--", drawstyle="steps-pre")
    weights.set_ylabel("w")
    weights.set_ylim(-0.05, 1.05)
    handles = [*axis.get_lines(), *weights.get_lines()]
    weights.legend(handles, [str(line.get_label()) for line in handles], loc="upper right")


# ---- a pilot ------------------------------------------------------------------------------------------------------


def _draw_lengths(axis: Any, arms: dict[str, Any], lengths: Sequence[float]) -> None:
    from matplotlib.ticker import NullFormatter

    every = [run for runs in arms.values() for run in runs]
    seconds = {length: fmean(run.planned_seconds for run in at_length(every, length)) for length in lengths}
    for place, (name, runs) in enumerate(arms.items()):
        color, marker = ARM_STYLES.get(name, OTHER_STYLE)
        aside = 1.012 ** (place - (len(arms) - 1) / 2)  # beside each other, so that dots do not hide dots
        found = [(seconds[length] * aside, here) for length in lengths if (here := at_length(runs, length))]
        for x, here in found:
            axis.plot([x] * len(here), [run.top1 for run in here], marker, color=color, markersize=3.5, alpha=0.5)
        means = [fmean(run.top1 for run in here) for _, here in found]
        wide = 2.4 if name == "mix" else 1.4
        axis.plot([x for x, _ in found], means, marker=marker, color=color, linewidth=wide, markersize=6, label=name)
    axis.set_xscale("log")
    axis.set_xticks(list(seconds.values()), [f"{x:.3g} s\n{words.times(length)}" for length, x in seconds.items()])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.set_xlabel("step-seconds planned (clock A), log scale")
    axis.set_ylabel("top-1 on val, %")
    axis.legend(loc="lower right")


def _draw_rows(axis: Any, arms: dict[str, Any]) -> None:
    for place, (name, runs) in enumerate(arms.items()):
        color, marker = ARM_STYLES.get(name, OTHER_STYLE)
        axis.plot([run.top1 for run in runs], [place] * len(runs), marker, color=color, markersize=6, alpha=0.6)
        if len(runs) > 1:
            axis.plot([fmean(run.top1 for run in runs)], [place], "|", color=INK, markersize=18, markeredgewidth=2)
    axis.set_yticks(range(len(arms)), list(arms))
    axis.set_ylim(len(arms) - 0.5, -0.5)
    several = any(len(runs) > 1 for runs in arms.values())
    axis.set_xlabel("top-1 on val, %" + ("; the bar is the mean over seeds" if several else ""))


# ---- SVG ----------------------------------------------------------------------------------------------------------


def _svg(figure: Any, prefix: str, label: str) -> str:
    """The figure as an SVG element that can stand in a page beside others, without any address outside it."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)  # nothing refers to groups
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # inside HTML they mean nothing
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)  # a hundredth of a point will do
    text = re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", text, count=2)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    text = re.sub(r"(?m)^ +|\n(?=<)", "", text)
    return text.replace(INK, "currentColor").replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
