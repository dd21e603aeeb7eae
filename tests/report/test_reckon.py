"""A pilot's folder: pages, CSV and what a change of prices does to them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from raymix.jobfile import load_spec
from raymix.report.decision import decision_html, roi_csv
from raymix.report.folder import read_pilot
from raymix.report.formats import as_json, as_markdown
from raymix.report.pilot import PilotReport
from raymix.report.reckon import searches_of, told_anew, with_roi, write_pilot
from raymix.report.tables import pilot_table
from raymix.spec import JobError, ReportSpec
from tests.conftest import JOB
from tests.report.factory import make_pilot
from tests.report.test_html import read
from tests.report.test_search import report_of, trial
from tests.report.test_tables import shown

LABELS = {"train": 800, "select": 100, "val": 2000}
ASKED = ReportSpec(retrainings_per_year=12, engineer_hours=4, price_per_engineer_hour=90, value_per_point=50)


def whole(gain: float = 3.0, price: float | None = 3.0, asked: ReportSpec = ASKED) -> PilotReport:
    return with_roi(make_pilot(5, gain, price), asked, LABELS)


@pytest.mark.parametrize(
    "report",
    [
        whole(),
        whole(0.0),
        whole(-6.0),
        whole(price=None, asked=ReportSpec()),
        with_roi(make_pilot(1, lengths=(1.0,)), ASKED, LABELS),
        with_roi(make_pilot(1).model_copy(update={"arms": {}, "status": "interrupted"}), ASKED, LABELS),
    ],
    ids=["pays", "open", "loses", "no price", "quick", "empty"],
)
def test_the_decision_page_is_whole_and_fetches_nothing(report: PilotReport) -> None:
    page = read(decision_html(report))
    assert [link for link in page.links if link != "report.html"] == []
    for part in ("What it comes to", "What it costs", "What this assumes", "What was not measured"):
        assert part in page.text
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    text = shown(pilot_table(report))
    assert "return on investment" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_same_figures_everywhere() -> None:
    report = whole()
    assert report.roi is not None
    found = report.roi.gain.per_point
    assert found is not None
    cost = f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
    assert cost in " ".join(read(decision_html(report)).text.split())
    assert cost in " ".join(shown(pilot_table(report)).split())
    assert cost in as_markdown(report)
    assert PilotReport.model_validate_json(as_json(report)) == report
    lines = {(line["section"], line["figure"]): line for line in csv.DictReader(io.StringIO(roi_csv(report.roi)))}
    assert float(lines["equal seconds", "cost of a point"]["low"]) == found.low
    assert float(lines["spent once", "all"]["value"]) == report.roi.once_total


def test_a_pilots_folder_holds_all_pages(tmp_path: Path) -> None:
    write_pilot(tmp_path, whole())
    assert {file.name for file in tmp_path.iterdir()} == {"pilot.json", "report.html", "decision.html", "roi.csv"}
    assert read_pilot(tmp_path) == whole()
    assert "Return on investment" in read((tmp_path / "report.html").read_text()).text


def test_prices_may_change_after_the_pilot() -> None:
    job = {**JOB, "cluster": {"workers": 2, "price_per_worker_hour": 6.0}, "report": {"retrainings_per_year": 52}}
    before, after = whole(price=3.0), told_anew(whole(price=3.0), load_spec(job))
    assert after.roi is not None
    assert before.roi is not None
    assert after.roi.asked.retrainings_per_year == 52
    assert after.roi.labels == LABELS
    assert after.roi.trainings[0].cost == pytest.approx(2 * (before.roi.trainings[0].cost or 0))
    assert after.arms["mix"][0].cost == pytest.approx(2 * (before.arms["mix"][0].cost or 0))
    assert after.verdict.top1_gain == before.verdict.top1_gain
    assert after.verdict.text != before.verdict.text, "it names the cost of a run"


def test_a_search_that_is_named_is_read(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(report_of(trial(1)).model_dump_json())
    (found,) = searches_of(ReportSpec(searches=(str(tmp_path),)))
    assert found.worker_seconds == 60
    with pytest.raises(JobError) as error:
        searches_of(ReportSpec(searches=(str(tmp_path / "other"),)))
    assert str(error.value).startswith(
        f"report.searches: {tmp_path / 'other'}: no such folder (the folder of a raymix tune)"
    )
