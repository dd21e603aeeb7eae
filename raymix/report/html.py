"""Reports as HTML: one file, nothing fetched from anywhere, escaped throughout, readable on light, dark and paper.

Templates stand beside this file as `*.html.j2`; Jinja and Matplotlib are imported when a page is asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from raymix.report import course, facts, words
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.plots import PHASE_COLORS, ledger_plot, pilot_plot, run_plot
from raymix.report.run import RunReport

if TYPE_CHECKING:
    from jinja2 import Environment

PHASE_HEADS = (
    "epochs",
    "steps",
    "images",
    "labelled",
    "seconds",
    "predicted s",
    "images/s",
    "{unit} (A)",
    "cost",
    "SSL loss",
    "SL loss",
)
COST_HEADS = (
    *("planned s", "measured s", "{unit} (A)", "{unit} billed (B)", "cost"),
    *("epochs SSL + SL", "updates", "images", "labelled"),
)
CLOCK_COLORS = ("#8a8f98", "#1f9d61", "#d6457f", "#3b82f6", "#9b5de5", "#c9ced6")
STATUS_WORDS = {"done": "done", "interrupted": "interrupted, can go on", "failed": "failed"}


def run_html(report: RunReport) -> str:
    """The page of one run."""
    return _render("run.html.j2", **_run_values(report))


def pilot_html(report: PilotReport, runs: Mapping[str, tuple[RunReport, ...]] | None = None) -> str:
    """The page of a comparison, verdict first.

    Args:
        report: The pilot.
        runs: For each arm the reports of its runs at length 1, if at hand: their phases are then drawn side by side.
    """
    return _render("pilot.html.j2", **_pilot_values(report), timelines=_arm_timelines(runs or {}))


def notebook_html(report: RunReport | PilotReport) -> str:
    """A report as a notebook shows it: the headline, the main table and the plot, in the notebook's own colours."""
    values = _run_values(report) if isinstance(report, RunReport) else _pilot_values(report)
    return _render("notebook.html.j2", **values)


def _run_values(report: RunReport) -> dict[str, Any]:
    final, totals = report.final, report.totals
    select = f", {words.percent(final.select_top1)} on select" if final and final.select_top1 is not None else ""
    top1_note = f"{words.count(final.num_val)} val images, read once{select}" if final else "val was not read"
    restarts = f", {words.plural(report.attempts - 1, 'restart')}" if report.attempts > 1 else ""
    tiles = [
        ("top-1", words.percent(final.top1 if final else None), top1_note),
        ("wall time", words.seconds(totals.wall_seconds), "from the command to the report" + restarts),
        (
            f"{report.unit}, billed",
            words.count(totals.worker_seconds),
            f"{words.plural(report.workers, 'worker')} held",
        ),
        ("cost", words.money(totals.cost), _price(report.price_per_worker_hour)),
    ]
    total = sum(phase.seconds for phase in report.phases) or 1.0
    return {
        "kind": "run",
        "report": report,
        "status": STATUS_WORDS[report.status],
        "tiles": tiles,
        "timeline": [
            (phase.kind, words.seconds(phase.seconds), phase.seconds / total, PHASE_COLORS[phase.kind])
            for phase in report.phases
        ],
        "clock_b": _clock_bar(report),
        **_course(report),
        "startup": facts.startup_line(report),
        "weights": facts.weights_line(report),
        "phase_heads": [head.format(unit=report.unit) for head in PHASE_HEADS],
        "phases": [(phase.kind, facts.phase_cells(phase)) for phase in report.phases],
        "total": facts.total_cells(report.phases),
        "rows": facts.rows_lines(report),
        "images": facts.images_line(report),
        "step_kinds": _step_kinds(report.step_seconds),
        "plot": run_plot(report, _prefix(report)),
    }


def _course(report: RunReport) -> dict[str, Any]:
    """Why a run ended, its budget, decisions, trials and ledger."""
    decisions, left_out = course.decision_cells(report)
    ledger = report.ledger
    return {
        "ended": course.ended_line(report),
        "budget": course.budget_line(report),
        "decisions": decisions,
        "left_out": left_out,
        "first_decisions": course.FIRST,
        "trials": course.trial_cells(report),
        "ledger": course.ledger_cells(report),
        "ledger_total": course.ledger_total(report),
        "ledger_plot": ledger_plot(ledger, report.unit, f"{_prefix(report)}l-") if ledger else "",
    }


def _pilot_values(report: PilotReport) -> dict[str, Any]:
    found = report.verdict
    first, _, rest = _sentences(found.text)
    gain, faster = found.top1_gain, found.speedup
    lead = facts.lead_arm(report)
    open_ = "" if found.decided else "; decides nothing"
    gain_note = f"95 % interval {words.point_interval(gain)}{open_}" if gain else "nothing to compare"
    tiles = [
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
        ("paired seeds", str(len(report.seeds)), _planned(report)),
    ]
    lines = facts.arm_lines(report)
    return {
        "kind": "pilot",
        "report": report,
        "status": STATUS_WORDS[report.status],
        "verdict_first": first,
        "verdict_rest": rest,
        "tiles": tiles,
        "lead": lead,
        "cost_heads": [head.format(unit=report.unit) for head in COST_HEADS],
        "groups": [
            (
                words.times(length),
                [
                    (line.arm, facts.accuracy_cells(line), _seeds(line.runs), facts.cost_cells(line))
                    for line in lines
                    if line.length == length
                ],
            )
            for length in sorted({line.length for line in lines})
        ],
        "arm_words": {name: words.ARM_WORDS.get(name, "") for name in report.arms},
        "step_kinds": _step_kinds(report.step_seconds),
        "plot": pilot_plot(report, _prefix(report)),
        "price": words.money(None) if report.price_per_worker_hour is None else _price(report.price_per_worker_hour),
        "wall": words.seconds(report.wall_seconds),
    }


def _planned(report: PilotReport) -> str:
    """What the seeds and val rows were expected to tell before any run."""
    images = f"{words.count(report.num_val)} val images"
    if len(report.seeds) == 1:
        return f"{images}; one seed tells no difference"
    return f"{images}; expected to tell {report.detectable:.2f} points or more"


def _price(price: float | None) -> str:
    return "set cluster.price_per_worker_hour" if price is None else f"at {price:g} per worker-hour, clock B"


def _sentences(text: str) -> tuple[str, str, str]:
    """The first sentence of a verdict, and the rest."""
    parts = re.split(r"(?<=\.) (?=[A-Z])", text, maxsplit=1)
    return parts[0], " ", parts[1] if len(parts) > 1 else ""


def _clock_bar(report: RunReport) -> list[tuple[str, str, float, str]]:
    spent = facts.clock_b(report)
    total = sum(value for _, value in spent) or 1.0
    return [
        (name, words.seconds(value), value / total, color)
        for (name, value), color in zip(spent, CLOCK_COLORS, strict=True)
    ]


def _step_kinds(step_seconds: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Kinds of step, what they are and what one costs."""
    return [(kind, words.KIND_WORDS.get(kind, ""), f"{1000 * value:,.2f}") for kind, value in step_seconds.items()]


def _seeds(runs: tuple[PilotRun, ...]) -> list[tuple[int, str, str]]:
    """Seed, top-1 and the page of each run; only pages below the pilot's own folder are linked."""
    return [(run.seed, f"{run.top1:.2f}", _page(run.report)) for run in runs]


def _page(report: str) -> str:
    inside = report.endswith("report.json") and not report.startswith(("/", "\\")) and ".." not in report
    return report.removesuffix("report.json") + "report.html" if inside and ":" not in report else ""


def _arm_timelines(runs: Mapping[str, tuple[RunReport, ...]]) -> list[tuple[str, list[tuple[str, str, float, str]]]]:
    """For each arm its phases' mean seconds as shares of the longest arm's."""
    spent: dict[str, list[tuple[str, float]]] = {}
    for name, reports in runs.items():
        longest = max(reports, key=lambda report: len(report.phases), default=None)
        if longest is None:
            continue
        same = [report for report in reports if len(report.phases) == len(longest.phases)]
        spent[name] = [
            (phase.kind, fmean(report.phases[i].seconds for report in same)) for i, phase in enumerate(longest.phases)
        ]
    widest = max((sum(value for _, value in phases) for phases in spent.values()), default=0.0) or 1.0
    return [
        (name, [(kind, words.seconds(value), value / widest, PHASE_COLORS[kind]) for kind, value in phases])
        for name, phases in spent.items()
    ]


def _prefix(report: RunReport | PilotReport) -> str:
    """Ids that differ between the plots of different reports on one page, and are the same at every rendering."""
    return f"r{hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:8]}-"


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # whatever the file is called
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
