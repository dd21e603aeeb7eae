"""Plots of a search: accuracy against worker-seconds with the Pareto front, and accuracy along each field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raymix.report.plots import SETTINGS, _svg
from raymix.report.search import SearchReport, value_text
from raymix.search.trial import Trial

COLUMNS = 3  # slices side by side
ARM_COLORS = ("#3b82f6", "#e07b00", "#1f9d61", "#d6457f", "#8a8f98", "#9b5de5")
FRONT_COLOR = "#c62828"
MOST_NAMES = 12  # listed values that get a name on their axis


def cost_plot(report: SearchReport, prefix: str) -> str:
    """Select top-1 of each trial against its worker-seconds; '' where there is none."""
    if not report.judged:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.4, 4.2), layout="constrained")
        axis = figure.subplots()
        for arm, color in _arms(report):
            for done, face in ((True, color), (False, "none")):
                found = [t for t in report.judged if t.arm == arm and (t.status == "done") == done]
                label = " ".join(part for part in (arm, "trial" if done else "ended early") if part)
                if found:
                    seconds, tops = _points(found)
                    axis.plot(
                        seconds, tops, "o", color=color, markerfacecolor=face, markersize=5, alpha=0.8, label=label
                    )
        if report.front:
            axis.plot(
                *_points(report.front), drawstyle="steps-post", color=FRONT_COLOR, linewidth=1.4, label="Pareto front"
            )
        axis.set_xlabel(f"{report.unit} of training (clock A)")
        axis.set_ylabel("top-1 on select rows, %")
        axis.legend(loc="lower right")
        return _svg(figure, prefix, "Select top-1 of each trial against its seconds, with the Pareto front")


def slice_plot(report: SearchReport, prefix: str) -> str:
    """Select top-1 along each field that was searched; '' where no trial came to its end."""
    found = [trial for trial in report.judged if trial.status == "done"]
    if not found:
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(report.space))
    rows = -(-len(report.space) // columns)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(2.8 * columns, 2.4 * rows), layout="constrained")
        places = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for place in places.flat[len(report.space) :]:
            place.set_visible(False)
        for place, (path, axis) in zip(places.flat, report.space.items(), strict=False):
            for arm, color in _arms(report):
                of_arm = [trial for trial in found if trial.arm == arm and path in trial.values]
                tops = [trial.select_top1 for trial in of_arm]
                values = [trial.values[path] for trial in of_arm]
                where = values if axis.values is None else [axis.values.index(value) for value in values]
                place.plot(where, tops, "o", color=color, markersize=4, alpha=0.7, label=arm)
            if axis.loguniform is not None:
                _log_scale(place)
            if axis.values is not None and len(axis.values) <= MOST_NAMES:
                names = [value_text(value)[:18] for value in axis.values]
                place.set_xticks(range(len(names)), names, rotation=0 if sum(map(len, names)) < 28 else 20)
                place.set_xlim(-0.5, len(names) - 0.5)
            place.set_xlabel(report.axes[path])
        for row in places:
            row[0].set_ylabel("select top-1, %")
        return _svg(figure, prefix, "Select top-1 along each field that was searched")


def _log_scale(place: Any) -> None:
    """Ticks at 1, 2 and 5 of each decade: an axis is often no longer than one."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    place.set_xscale("log")
    place.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    place.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())


def _points(trials: Sequence[Trial]) -> tuple[list[float], list[Any]]:
    return [trial.worker_seconds for trial in trials], [trial.select_top1 for trial in trials]


def _arms(report: SearchReport) -> list[tuple[str, str]]:
    """Each arm that has a trial, and its colour."""
    arms = list(dict.fromkeys(trial.arm for trial in (*report.trials, *report.earlier)))
    return [(arm, ARM_COLORS[place % len(ARM_COLORS)]) for place, arm in enumerate(arms)]
