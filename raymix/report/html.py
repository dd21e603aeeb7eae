"""Reports as HTML: one file, nothing fetched from anywhere, escaped throughout, readable on phone, screen and paper.

Templates stand beside this file as `*.html.j2`; Jinja and Matplotlib are imported when a page is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymix.report.beside import Beside, beside
from raymix.report.folder import pilot_runs
from raymix.report.lineup import HEADS, PAIRED_HEADS, Line, cells, paired_cells, remarks
from raymix.report.page_pilot import lead_folder, pilot_values
from raymix.report.page_run import run_values
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport

if TYPE_CHECKING:
    from jinja2 import Environment

ALONE = Beside()


def page(folder: Path, report: RunReport | PilotReport) -> str:
    """The page of a run or a pilot, with all that lies in its folder.

    Raises:
        JobError: a run of the pilot cannot be read.
    """
    if isinstance(report, RunReport):
        return run_html(report, beside(folder))
    runs, found = pilot_runs(folder, report), beside(folder)
    shown = lead_folder(report)
    return pilot_html(report, runs, found._replace(samples=beside(folder / shown).samples if shown else None))


def run_html(report: RunReport, found: Beside = ALONE) -> str:
    """The page of one run.

    Args:
        report: The run.
        found: What lies beside it.
    """
    return _render("run.html.j2", **run_values(report, found))


def pilot_html(
    report: PilotReport, runs: Mapping[str, tuple[RunReport, ...]] | None = None, found: Beside = ALONE
) -> str:
    """The page of a comparison, verdict first.

    Args:
        report: The pilot.
        runs: For each arm the reports of its runs at length 1, if at hand: where their seconds went, curves, classes.
        found: What lies beside it.
    """
    return _render("pilot.html.j2", **pilot_values(report, runs or {}, found))


def notebook_html(report: RunReport | PilotReport) -> str:
    """A report as a notebook shows it: the headline, the main table and the plots, in the notebook's own colours."""
    run = isinstance(report, RunReport)
    values = run_values(report, ALONE) if isinstance(report, RunReport) else pilot_values(report, {}, ALONE)
    return _render("notebook.html.j2", kind="run" if run else "pilot", **values)


def compare_html(lines: Sequence[Line]) -> str:
    """Runs and pilots side by side."""
    rows = [cells(line) for line in lines]
    return _render(
        "compare.html.j2",
        heads=HEADS,
        rows=rows,
        remarks=remarks(lines),
        paired_heads=PAIRED_HEADS,
        paired=paired_cells(lines),
    )


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
