"""The page of a comparison, as values for its template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from raymix.report import effort, facts, roi_words, words
from raymix.report.beside import Beside
from raymix.report.intervals import at_length
from raymix.report.page_parts import (
    ACCOUNT_COLORS,
    ENDS,
    STATUS_WORDS,
    Part,
    prefix,
    price_note,
    step_kinds,
)
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.plots import PHASE_COLORS
from raymix.report.plots_pilot import pilot_plot
from raymix.report.plots_run import arm_plot
from raymix.report.run import Point, RunReport

COST_HEADS = (
    *("planned s", "measured s", "off by", "{unit} (A)", "{unit} billed (B)", "cost"),
    *("epochs SSL + SL", "updates", "images", "labelled"),
)
Runs = Mapping[str, Sequence[RunReport]]


class ClassRow(NamedTuple):
    """A class on val: each arm's top-1, over its seeds."""

    name: str
    num: str
    top1: tuple[str, ...]
    ahead: str


def pilot_values(report: PilotReport, runs: Runs, found: Beside) -> dict[str, Any]:
    """All that the template shows.

    Args:
        report: The pilot.
        runs: For each arm the reports of its runs at length 1, as far as they are at hand.
        found: What lies beside it.
    """
    first, rest = _sentences(report.verdict.text)
    lead = facts.lead_arm(report)
    runs = {name: reports for name, reports in runs.items() if reports}
    classes, classes_left_out = _class_rows(runs, lead)
    shown = next(iter(runs.get(lead, ())), None)
    return {
        "report": report,
        "status": STATUS_WORDS[report.status],
        "verdict_first": first,
        "verdict_rest": rest,
        "tiles": _tiles(report, lead),
        "lead": lead,
        "cost_heads": [head.format(unit=report.unit) for head in COST_HEADS],
        "groups": _groups(report),
        "effort_heads": effort.EFFORT_HEADS,
        "effort": effort.effort_cells(report),
        "equal_heads": list(effort.AMOUNTS),
        "equal": effort.equal_cells(report),
        "equal_note": effort.secondary_note(report),
        "arm_words": {name: report.defined.get(name) or words.ARM_WORDS.get(name, "") for name in report.arms},
        "step_kinds": step_kinds(report.step_seconds),
        "plots": [("", plot)] if (plot := pilot_plot(report, prefix(report))) else [],
        "price": words.money(None)
        if report.price_per_worker_hour is None
        else price_note(report.price_per_worker_hour),
        "roi": roi_words.tables(report.roi) if report.roi else None,
        "wall": words.seconds(report.wall_seconds),
        "timelines": _arm_timelines(runs),
        "ledgers": _arm_ledgers(runs),
        "ledger_legend": [(name, color) for name, color in ACCOUNT_COLORS.items() if _booked(runs, name)],
        "curves": _curves(runs, prefix(report)),
        "classes": classes,
        "class_arms": list(runs),
        "classes_left_out": classes_left_out,
        "class_ends": ENDS,
        "detectable": words.sentence(facts.detectable_line(report)),
        "tried": words.sentence(facts.tried_line(report)),
        "rows": facts.rows_lines(shown) if shown else [],
        "images": facts.images_line(shown) if shown else "",
        "samples": found.samples,
        "job": found.job,
    }


def lead_folder(report: PilotReport) -> str:
    """The folder, relative to the pilot's, of the first run of the arm that the others are compared with; '': none."""
    runs = at_length(report.arms.get(facts.lead_arm(report), ()), 1.0)
    return page_of(runs[0].report).removesuffix("report.html") if runs else ""


def page_of(report: str) -> str:
    """The page beside a report.json; '' where that is not below the pilot's own folder."""
    inside = report.endswith("report.json") and not report.startswith(("/", "\\")) and ".." not in report
    return report.removesuffix("report.json") + "report.html" if inside and ":" not in report else ""


def _tiles(report: PilotReport, lead: str) -> list[tuple[str, str, str]]:
    found = report.verdict
    gain, faster = found.top1_gain, found.speedup
    open_ = "" if found.decided else "; decides nothing"
    gain_note = f"95 % interval {words.point_interval(gain)}{open_}" if gain else "nothing to compare"
    return [
        (
            f"{lead} minus {found.rival}" if found.rival else "gain",
            f"{words.points(gain.value)} points" if gain else "-",
            gain_note,
        ),
        (
            "speed-up at equal accuracy",
            f"{faster.value:.2f}x" + (" or more" if faster.value == faster.high else "") if faster else "not told",
            f"95 % interval {words.speedup_interval(faster)}" if faster else "needs 5 seeds and several lengths",
        ),
        ("T", words.seconds(report.unit_seconds), "step-seconds of ssl_sl at the asked epochs"),
        ("paired seeds", str(facts.num_paired(report)), _planned(report)),
    ]


def _planned(report: PilotReport) -> str:
    """What the seeds and val rows were expected to tell before any run."""
    images = f"{words.count(report.num_val)} val images"
    if len(report.seeds) == 1:
        return f"{images}; one seed tells no difference"
    return f"{images}; expected to tell {report.detectable:.2f} points or more"


def _sentences(text: str) -> tuple[str, str]:
    """The first sentence of a verdict, and the rest."""
    parts = re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)
    return parts[0], parts[1] if len(parts) > 1 else ""


def _groups(report: PilotReport) -> list[tuple[str, list[Any]]]:
    """For each length its arms: accuracy, each seed, costs."""
    lines = facts.arm_lines(report)
    return [
        (
            words.times(length),
            [
                (line.arm, facts.accuracy_cells(line), _seeds(line.runs), facts.cost_cells(line))
                for line in lines
                if line.length == length
            ],
        )
        for length in sorted({line.length for line in lines})
    ]


def _seeds(runs: tuple[PilotRun, ...]) -> list[tuple[int, str, str]]:
    """Seed, top-1 and the page of each run."""
    return [(run.seed, f"{run.top1:.2f}", page_of(run.report)) for run in runs]


# ---- from the runs ------------------------------------------------------------------------------------------------


def _arm_timelines(runs: Runs) -> list[tuple[str, list[Part]]]:
    """For each arm its phases' mean seconds as shares of the longest arm's."""
    spent: dict[str, list[tuple[str, float]]] = {}
    for name, reports in runs.items():
        longest = max(reports, key=lambda report: len(report.phases))
        same = [report for report in reports if len(report.phases) == len(longest.phases)]
        spent[name] = [
            (phase.kind, fmean(report.phases[i].seconds for report in same)) for i, phase in enumerate(longest.phases)
        ]
    widest = max((sum(value for _, value in phases) for phases in spent.values()), default=0.0) or 1.0
    return [
        (name, [Part(kind, words.seconds(value), value / widest, PHASE_COLORS[kind]) for kind, value in phases])
        for name, phases in spent.items()
    ]


def _arm_ledgers(runs: Runs) -> list[tuple[str, list[Part]]]:
    """For each arm where the worker-seconds of a run went, on average, as shares of the longest arm's."""
    kept = {name: books for name, of in runs.items() if (books := [run.ledger for run in of if run.ledger])}
    widest = max((fmean(book.worker_seconds for book in books) for books in kept.values()), default=0.0) or 1.0
    bars = []
    for name, books in kept.items():
        means = {account: fmean(book.of(account) for book in books) for account in ACCOUNT_COLORS}
        parts = [
            Part(account, words.seconds(value), value / widest, ACCOUNT_COLORS[account])
            for account, value in means.items()
            if value > 0
        ]
        bars.append((name, parts))
    return bars


def _booked(runs: Runs, account: Any) -> bool:
    return any(run.ledger is not None and run.ledger.of(account) > 0 for of in runs.values() for run in of)


def _curves(runs: Runs, start: str) -> list[tuple[str, str]]:
    """Losses and accuracy of the first run of each arm, all on the same axes."""
    firsts = {name: reports[0] for name, reports in runs.items() if reports[0].curve}
    if not firsts:
        return []
    points = [point for report in firsts.values() for point in report.curve]
    limits = (
        max(report.curve[-1].seconds * report.workers for report in firsts.values()),
        1.05 * _largest(points, "ssl_loss", "sl_loss"),
        1.15 * _largest(points, "train_top1", "select_top1", "select_ema_top1"),
    )
    return [
        (f"{name}, seed {report.seed}", arm_plot(name, report, limits, f"{start}arm{number}-"))
        for number, (name, report) in enumerate(firsts.items())
    ]


def _largest(points: Sequence[Point], *names: str) -> float:
    found = [value for point in points for name in names if (value := getattr(point, name)) is not None]
    return max(found, default=0.0) or 1.0


def _class_rows(runs: Runs, lead: str) -> tuple[list[ClassRow], int]:
    """Classes from where the lead is furthest ahead of the others' best to where it is furthest behind."""
    finals = {name: [run.final for run in of if run.final and run.final.by_class] for name, of in runs.items()}
    if not finals or not all(finals.values()) or lead not in finals:
        return [], 0
    rows = []
    for index, class_name in enumerate(runs[lead][0].class_names):
        counts = {arm: [final.by_class[index] for final in of] for arm, of in finals.items()}
        if not all(sum(num for num, _ in of) for of in counts.values()):
            continue  # no val row
        top1 = {arm: 100 * sum(right for _, right in of) / sum(num for num, _ in of) for arm, of in counts.items()}
        ahead = top1[lead] - max((value for arm, value in top1.items() if arm != lead), default=0.0)
        shown = tuple(f"{value:.1f}" for value in top1.values())
        rows.append((ahead, ClassRow(class_name, words.count(counts[lead][0][0]), shown, words.points(ahead))))
    rows.sort(key=lambda row: (-row[0], row[1].name))
    left_out = max(0, len(rows) - 2 * ENDS)
    return [row for _, row in (rows[:ENDS] + rows[-ENDS:] if left_out else rows)], left_out
