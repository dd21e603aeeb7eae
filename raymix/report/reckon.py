"""A pilot's files: what a job says about prices and searches goes into the report, and all of it to the folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymix.report.compare import verdict
from raymix.report.folder import PILOT_FILE, read_search, write_text
from raymix.report.ledger import cost_of
from raymix.report.pilot import PilotReport
from raymix.report.roi import roi
from raymix.report.search import SearchReport
from raymix.spec import JobError, JobSpec, ReportSpec

DECISION_PAGE = "decision.html"
ROI_FILE = "roi.csv"


def searches_of(asked: ReportSpec) -> tuple[SearchReport, ...]:
    """The searches that a job names as leading to it.

    Raises:
        JobError: one of them cannot be read.
    """
    found = []
    for folder in asked.searches:
        try:
            found.append(read_search(Path(folder)))
        except JobError as error:
            raise JobError(
                "report.searches", f"{error.field}: {error.problem}", "the folder of a raymix tune"
            ) from None
    return tuple(found)


def with_roi(report: PilotReport, asked: ReportSpec, labels: Mapping[str, int]) -> PilotReport:
    """The report with its return on investment; `labels` are labelled rows of train, select and val."""
    return report.model_copy(update={"roi": roi(report, asked, labels, searches_of(asked))})


def told_anew(report: PilotReport, spec: JobSpec) -> PilotReport:
    """The report with the prices and the searches that a job tells of now: none of them changes what was measured."""
    price = spec.cluster.price_per_worker_hour
    arms = {
        arm: tuple(run.model_copy(update={"cost": cost_of(run.billed_worker_seconds, price)}) for run in runs)
        for arm, runs in report.arms.items()
    }
    found = verdict(arms, report.judged, report.preset, report.unit)
    tried = spec.pilot.tried_of(arms)
    update: dict[str, Any] = {"arms": arms, "price_per_worker_hour": price, "verdict": found}
    update |= {"tried": max(tried.values(), default=1), "tried_of": tried}
    labels = report.roi.labels if report.roi else {}
    return with_roi(report.model_copy(update=update), spec.report, labels)


def write_pilot(folder: Path, report: PilotReport) -> PilotReport:
    """Writes pilot.json and the pages of a pilot; returns the report.

    Raises:
        JobError: a run of the pilot cannot be read.
    """
    from raymix.report.html import page  # `raymix validate` comes by here and has no use for pages

    write_text(folder / PILOT_FILE, report.model_dump_json(indent=1))
    write_text(folder / "report.html", page(folder, report))
    write_decision(folder, report)
    return report


def write_decision(folder: Path, report: PilotReport) -> Path | None:
    """Writes the page for a decision and its figures as CSV; the page's path, None where no return was reckoned."""
    from raymix.report.decision import decision_html, roi_csv

    if report.roi is None:
        return None
    write_text(folder / ROI_FILE, roi_csv(report.roi))
    write_text(folder / DECISION_PAGE, decision_html(report))
    return folder / DECISION_PAGE
