"""The page of one run, as values for its template."""

from __future__ import annotations

from typing import Any

from raymix.report import course, facts, words
from raymix.report.beside import Beside, Foretold
from raymix.report.intervals import own_interval
from raymix.report.judging import METRIC_WORDS
from raymix.report.page_parts import (
    ACCOUNT_COLORS,
    CLOCK_COLORS,
    ENDS,
    STATUS_WORDS,
    Part,
    class_lines,
    prefix,
    price_note,
    step_kinds,
)
from raymix.report.pilot import Interval
from raymix.report.plots import PHASE_COLORS
from raymix.report.plots_run import predicted_plot, run_plots
from raymix.report.run import RunReport
from raymix.report.start_words import start_lines

PHASE_HEADS = (
    *("epochs", "steps", "images", "labelled", "seconds", "predicted s", "images/s"),
    *("{unit} (A)", "cost", "SSL loss", "SL loss"),
)


def run_values(report: RunReport, found: Beside) -> dict[str, Any]:
    """All that the template shows.

    Args:
        report: The run.
        found: What lies beside it.
    """
    final, name = report.final, prefix(report)
    shown, classes_left_out = class_lines(final.by_class, report.class_names) if final and final.by_class else ([], 0)
    return {
        "report": report,
        "status": STATUS_WORDS[report.status],
        "tiles": _tiles(report),
        "timeline": _timeline(report),
        **_course(report),
        "cost": words.PRICE_NOT_SET if report.totals.cost is None else f"cost {words.money(report.totals.cost)}",
        "startup": facts.startup_line(report),
        "weights": facts.weights_line(report),
        "start": start_lines(report.start),
        **_shares(report),
        "phase_heads": [phase.kind for phase in report.phases],
        "phase_rows": _phase_rows(report),
        "expected": _expected(report, found.foretold),
        "expected_source": found.foretold.source if found.foretold else "",
        "predicted_plot": predicted_plot(report.phases, name),
        "rows": facts.rows_lines(report),
        "images": facts.images_line(report),
        "step_kinds": step_kinds(report.step_seconds),
        "plots": run_plots(report, name),
        "classes": shown,
        "classes_left_out": classes_left_out,
        "class_ends": ENDS,
        "samples": found.samples,
        "job": found.job,
    }


def _shares(report: RunReport) -> dict[str, Any]:
    """Classes of the earlier run's rows and of the new ones, where there are some of both."""
    kept = report.start.kept if report.start is not None else None
    if kept is None or kept.shares.p is None:
        return {"shares": []}
    shown = facts.share_rows(kept.shares)
    return {"shares": shown, "shares_left_out": len(kept.shares.classes) - len(shown)}


def _tiles(report: RunReport) -> list[tuple[str, str, str]]:
    final, totals = report.final, report.totals
    note = "val was not read"
    if final:
        interval = own_interval((final,), final.judged)
        select = f"; {words.percent(final.select_top1)} on select" if final.select_top1 is not None else ""
        note = (
            f"95 % interval {words.percent_interval(interval)} over {words.count(final.num_val)} val images, "
            f"read once{select}"
        )
    restarts = f", {words.plural(report.attempts - 1, 'restart')}" if report.attempts > 1 else ""
    held = f"{course.workers_text(report)} held (clock B)"
    return [
        (METRIC_WORDS[final.metric if final else "top1"], words.percent(final.top1 if final else None), note),
        ("wall time", words.seconds(totals.wall_seconds), "from the command to the report" + restarts),
        (f"{report.unit}, billed", words.count(totals.worker_seconds), held),
        ("cost", words.money(totals.cost), price_note(report.price_per_worker_hour)),
    ]


def _timeline(report: RunReport) -> list[Part]:
    total = sum(phase.seconds for phase in report.phases) or 1.0
    return [
        Part(phase.kind, words.seconds(phase.seconds), phase.seconds / total, PHASE_COLORS[phase.kind])
        for phase in report.phases
    ]


def _phase_rows(report: RunReport) -> list[tuple[str, list[str]]]:
    """A row a figure, a column a phase, the sum last: narrow enough for a phone."""
    columns = [*(facts.phase_cells(phase) for phase in report.phases), facts.total_cells(report.phases)]
    heads = [head.format(unit=report.unit) for head in PHASE_HEADS]
    return list(zip(heads, [list(row) for row in zip(*columns, strict=True)], strict=True))


def _expected(report: RunReport, foretold: Foretold | None) -> list[tuple[str, str, str, str]]:
    """What the run was to take, between which limits, and what it took."""
    if foretold is None:
        return []
    costs, totals = foretold.costs, report.totals
    hours = "GPU-hours" if report.unit == "GPU-seconds" else "worker-hours"
    lines = [
        _held("training", costs.train_seconds, totals.trained_seconds, words.seconds),
        _held("wall time", costs.wall_seconds, totals.wall_seconds, words.seconds),
        _held(hours, costs.worker_hours, totals.worker_seconds / 3600, lambda value: f"{value:.3g}"),
    ]
    if costs.money is not None and totals.cost is not None:
        lines.append(_held("cost", costs.money, totals.cost, words.money))
    return lines


def _held(name: str, told: Interval, came: float, shown: Any) -> tuple[str, str, str, str]:
    inside = "" if told.low <= came <= told.high else ", outside"
    return name, shown(told.value), f"{shown(told.low)} to {shown(told.high)}", shown(came) + inside


def _course(report: RunReport) -> dict[str, Any]:
    """Why a run ended, its budget, decisions, trials and ledger."""
    decisions, left_out = course.decision_cells(report)
    return {
        "ended": course.ended_line(report),
        "budget": course.budget_line(report),
        "groups": course.groups_line(report),
        "decisions": decisions,
        "left_out": left_out,
        "first_decisions": course.FIRST,
        "trials": course.trial_cells(report),
        "ledger": [(*cells, ACCOUNT_COLORS[entry.account]) for cells, entry in _entries(report)],
        "ledger_total": course.ledger_total(report),
        "ledger_bar": ledger_parts(report) if report.ledger else _clock_bar(report),
    }


def _entries(report: RunReport) -> list[tuple[Any, Any]]:
    entries = report.ledger.entries if report.ledger else ()
    return list(zip(course.ledger_cells(report), entries, strict=True))


def ledger_parts(report: RunReport) -> list[Part]:
    """Every account that something was booked to, as a part of one bar."""
    ledger = report.ledger
    if ledger is None:
        return []
    return [
        Part(entry.account, words.seconds(entry.worker_seconds), ledger.share(entry), ACCOUNT_COLORS[entry.account])
        for entry in ledger.entries
        if entry.worker_seconds > 0
    ]


def _clock_bar(report: RunReport) -> list[Part]:
    """The same of a run without a ledger, from its totals."""
    spent = facts.clock_b(report)
    total = sum(value for _, value in spent) or 1.0
    return [
        Part(name, words.seconds(value), value / total, color)
        for (name, value), color in zip(spent, CLOCK_COLORS, strict=True)
    ]
