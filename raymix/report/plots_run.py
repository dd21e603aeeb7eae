"""Plots of one run: accuracy, losses, rate and weight over its worker-seconds, and what its phases were to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raymix.report.intervals import own_interval, share_interval
from raymix.report.judging import METRIC_WORDS
from raymix.report.plots import BLUE, GREEN, GREY, INK, ORANGE, PHASE_COLORS, PINK, RED, legend_above, panel
from raymix.report.run import PhaseReport, Point, RunReport
from raymix.spec import Metric

MOST_POINTS = 600  # of a line: more cannot be told apart, and take room
TALL = 2.9  # inches


def run_plots(report: RunReport, prefix: str) -> list[tuple[str, str]]:
    """Title and SVG of each panel, all over the same worker-seconds, phases shaded; none without a segment."""
    if not report.curve:
        return []
    found = [
        ("Loss", panel(lambda figure: _loss_panel(figure, report), TALL, f"{prefix}loss-", "Losses over the run")),
        (
            "Learning rate and w",
            panel(
                lambda figure: _schedule_panel(figure, report), TALL, f"{prefix}rate-", "Rate and weight over the run"
            ),
        ),
    ]
    if any(point.select_top1 is not None or point.train_top1 is not None for point in report.curve):
        title = METRIC_WORDS[_metric(report)].capitalize()
        top1 = panel(lambda figure: _top1_panel(figure, report), TALL, f"{prefix}top-", f"{title} over the run")
        found.insert(0, (title, top1))
    return found


def predicted_plot(phases: Sequence[PhaseReport], prefix: str) -> str:
    """Seconds of each phase, as its steps were measured beforehand and as they took; '' where nothing was measured."""
    known = [phase for phase in phases if phase.predicted_seconds is not None]
    if not known:
        return ""

    def draw(figure: Any) -> None:
        axis = figure.subplots()
        places = [float(place) for place in range(len(known))]
        predicted = [phase.predicted_seconds for phase in known]
        took, colors = [phase.seconds for phase in known], [PHASE_COLORS[phase.kind] for phase in known]
        axis.barh([y - 0.2 for y in places], predicted, 0.36, color="none", edgecolor=colors, hatch="///")
        axis.barh([y + 0.2 for y in places], took, 0.36, color=colors, edgecolor=colors)
        for y, phase in enumerate(known):
            told, style = phase.predicted_seconds, {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axis.annotate(f"predicted {told:,.1f} s", (told, y - 0.2), **style)
            axis.annotate(f"took {phase.seconds:,.1f} s", (phase.seconds, y + 0.2), **style)
        axis.set_yticks(places, [phase.kind for phase in known])
        axis.set_ylim(len(known) - 0.5, -0.5)
        widest = max(max(took), max(value or 0.0 for value in predicted)) or 1.0
        axis.set_xlim(0, 1.5 * widest)  # room for the words
        axis.set_xlabel("seconds")

    return panel(draw, 0.7 + 0.55 * len(known), f"{prefix}pred-", "Predicted and actual seconds of each phase")


def arm_plot(name: str, report: RunReport, limits: tuple[float, float, float], prefix: str) -> str:
    """Loss and top-1 of one arm's run in one panel; '' without a segment.

    Args:
        name: The arm.
        report: Its run.
        limits: The largest worker-seconds, loss and top-1 of all arms, so that panels can be compared.
        prefix: Starts every id in the SVG.
    """
    if not report.curve:
        return ""

    def draw(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True)
        for axis in (above, below):
            _shade_phases(axis, report)
        _name_phases(above, report, limits[0])
        _losses(above, report)
        _accuracies(below, report)
        above.set_ylim(0, limits[1])
        below.set_ylim(0, limits[2])
        below.set_xlim(0, limits[0])
        below.set_xlabel(f"{report.unit} (clock A)")
        handles = [*above.get_legend_handles_labels()[0], *below.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside lower left", ncols=2)

    return panel(draw, 4.0, prefix, f"Losses and top-1 of {name} over the run")


# ---- panels -------------------------------------------------------------------------------------------------------


def _top1_panel(figure: Any, report: RunReport) -> None:
    axis = _axis(figure, report)
    _accuracies(axis, report)
    final = report.final
    if final is not None and final.num_val:
        interval = own_interval((final,), final.judged)
        error = [[interval.value - interval.low], [interval.high - interval.value]]
        end = report.held_at(report.curve[-1])
        style = {"fmt": "D", "color": INK, "markersize": 6, "capsize": 3, "clip_on": False, "zorder": 5}
        axis.errorbar([end], [final.top1], yerr=error, label="val, at the end, 95 %", **style)
    axis.set_ylim(bottom=0)
    legend_above(figure, axis)


def _loss_panel(figure: Any, report: RunReport) -> None:
    axis = _axis(figure, report)
    _losses(axis, report)
    legend_above(figure, axis)


def _schedule_panel(figure: Any, report: RunReport) -> None:
    axis = _axis(figure, report)
    _line(axis, report, report.curve, "lr", "learning rate", GREEN)
    axis.set_ylabel("learning rate")
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")  # not a power of ten aside, where a phase is named
    weights = axis.twinx()
    weights.grid(visible=False)
    weights.spines["right"].set_visible(True)
    style = {"linestyle": "--", "drawstyle": "steps-pre"}
    _line(weights, report, report.curve, "weight", "w, share of the SSL loss (right)", RED, **style)
    weights.set_ylim(-0.05, 1.05)
    handles = [*axis.get_lines(), *weights.get_lines()]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, borderaxespad=0.2)


def _axis(figure: Any, report: RunReport) -> Any:
    axis = figure.subplots()
    end = report.held_at(report.curve[-1])
    _shade_phases(axis, report)
    _name_phases(axis, report, end)
    axis.set_xlim(0, end)
    axis.set_xlabel(f"{report.unit} (clock A)")
    return axis


# ---- what stands in them ------------------------------------------------------------------------------------------


def _spans(report: RunReport) -> list[tuple[str, float, float]]:
    """Stretches of one kind: kind, first and last worker-second."""
    spans: list[tuple[str, float, float]] = []
    before = 0.0
    for point in report.curve:
        end = report.held_at(point)
        if spans and spans[-1][0] == point.kind:
            spans[-1] = (point.kind, spans[-1][1], end)
        else:
            spans.append((point.kind, before, end))
        before = end
    return spans


def _shade_phases(axis: Any, report: RunReport) -> None:
    for kind, start, end in _spans(report):
        axis.axvspan(start, end, color=PHASE_COLORS[kind], alpha=0.15, linewidth=0)


def _name_phases(axis: Any, report: RunReport, whole: float) -> None:
    for kind, start, end in _spans(report):
        if (end - start) / (whole or 1.0) > 0.08:
            place = axis.get_xaxis_transform()
            axis.text((start + end) / 2, 1.02, kind, transform=place, ha="center", va="bottom", weight="bold")


def _line(
    axis: Any, report: RunReport, curve: Sequence[Point], name: str, label: str, color: str, **style: Any
) -> None:
    """A figure of the curve against worker-seconds; broken where a phase has none."""
    points = [(report.held_at(point), getattr(point, name)) for point in _thinned(curve)]
    if any(value is not None for _, value in points):
        values = [float("nan") if value is None else value for _, value in points]
        axis.plot([x for x, _ in points], values, label=label, color=color, linewidth=1.6, **style)


def _losses(axis: Any, report: RunReport) -> None:
    # a dot a point while there are few: a phase of one segment has no line
    style = {"marker": ".", "markersize": 4} if len(report.curve) <= 60 else {}
    _line(axis, report, report.curve, "ssl_loss", "SSL loss", BLUE, **style)
    _line(axis, report, report.curve, "sl_loss", "SL loss", ORANGE, linestyle="-.", **style)
    axis.set_ylabel("loss")


def _accuracies(axis: Any, report: RunReport) -> None:
    _line(axis, report, report.curve, "train_top1", "train, augmented", GREY, linestyle=":")
    told = [point for point in report.curve if point.select_top1 is not None]
    style: dict[str, Any] = {"marker": "o", "markersize": 3.5}
    _line(axis, report, told, "select_top1", "select, 95 %", GREEN, **style)
    _band(axis, report, told)
    averaged = [point for point in told if point.select_ema_top1 is not None]
    _line(axis, report, averaged, "select_ema_top1", "select, averaged weights", PINK, marker=".")
    axis.set_ylabel(f"{METRIC_WORDS[_metric(report)]}, %")


def _metric(report: RunReport) -> Metric:
    return report.final.metric if report.final else "top1"


def _band(axis: Any, report: RunReport, told: Sequence[Point]) -> None:
    """The interval of what the select rows say."""
    num = report.rows.select
    if not num or not told or _metric(report) != "top1":  # how many of each class there are is not kept
        return
    found = [
        (report.held_at(point), share_interval(point.select_top1 / 100 * num, num))
        for point in _thinned(told)
        if point.select_top1 is not None
    ]
    lows, highs = [interval.low for _, interval in found], [interval.high for _, interval in found]
    axis.fill_between([x for x, _ in found], lows, highs, color=GREEN, alpha=0.22, linewidth=0)


def _thinned(curve: Sequence[Point]) -> Sequence[Point]:
    """Every so many points, the last one included."""
    stride = -(-len(curve) // MOST_POINTS) or 1
    return curve[::-1][::stride][::-1]
