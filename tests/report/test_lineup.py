"""Runs and pilots side by side, and reports in other formats: every form says the same figures."""

from __future__ import annotations

import csv
import io
import json

import pytest

from raymix.report import formats, words
from raymix.report.html import compare_html
from raymix.report.lineup import cells, line_up, remarks
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport
from raymix.report.tables import lines_table
from tests.report.factory import make_course, make_pilot, make_run
from tests.report.test_tables import shown

DONE = [("runs/a", make_run(price=2.5)), ("runs/p", make_pilot(5))]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_run_is_a_line_and_a_pilot_a_line_an_arm() -> None:
    lines = line_up(DONE)
    assert [(line.path, line.arm) for line in lines] == [
        ("runs/a", None),
        *(("runs/p", arm) for arm in make_pilot(5).arms),
    ]
    run, mix = lines[0], lines[-1]
    assert run.top1 == make_run().final.top1  # type: ignore[union-attr]
    assert run.interval is not None
    assert run.interval.low < run.top1 < run.interval.high
    at_t = [one for one in make_pilot(5).arms["mix"] if one.length == 1.0]
    assert mix.top1 == pytest.approx(sum(one.top1 for one in at_t) / 5)
    assert mix.seeds == (0, 1, 2, 3, 4)
    assert mix.trained_seconds == pytest.approx(42.7)
    assert "ssl 10 ep, mix 10 ep, sl 10 ep" in cells(run)
    assert "100 SSL and 100 SL epochs" in cells(mix)


def test_every_form_of_a_comparison_holds_every_line() -> None:
    lines = line_up(DONE)
    page, markdown = compare_html(lines), formats.lines_markdown(lines)
    table = shown(lines_table(lines), 200)
    for line in lines:
        assert words.percent_interval(line.interval) in table  # type: ignore[arg-type]
        assert all(cell in page for cell in cells(line))
        assert all(formats._plain(cell) in markdown for cell in cells(line))
    assert [row["arm"] for row in rows_of(formats.lines_csv(lines))] == [line.arm or "" for line in lines]
    assert float(rows_of(formats.lines_csv(lines))[0]["low"]) == pytest.approx(lines[0].interval.low)  # type: ignore[union-attr]
    assert json.loads(formats.lines_json(lines)) == [line.model_dump(mode="json") for line in lines]


def test_a_run_without_a_result_has_a_line_too() -> None:
    (line,) = line_up([("runs/a", make_run(status="interrupted"))])
    assert line.top1 is None
    assert cells(line)[2:4] == ["-", "-"]
    assert rows_of(formats.lines_csv([line]))[0]["low"] == ""


def test_what_cannot_be_compared_is_said() -> None:
    gpu = make_run(device="cuda")
    told = " ".join(remarks(line_up([*DONE, ("runs/g", gpu)])))
    assert "not judged on the same val rows" in told
    assert "different devices" in told
    assert "One seed decides nothing" in told
    same = " ".join(remarks(line_up([DONE[1]])))
    assert "not judged" not in same
    assert "devices" not in same
    assert "One seed" not in same
    assert "price" not in same


def test_another_card_and_another_price_are_said() -> None:
    cards = [
        make_run(device="cuda", environment={"device": name}, price=2.5) for name in ("NVIDIA H100", "NVIDIA H200")
    ]
    told = " ".join(remarks(line_up([("runs/a", cards[0]), ("runs/b", cards[1])])))
    assert "different devices (NVIDIA H100, NVIDIA H200): seconds cannot be compared" in told
    assert "price" not in told
    for other in (2.0, None):
        priced = make_run(device="cuda", environment={"device": "NVIDIA H100"}, price=other)
        told = " ".join(remarks(line_up([("runs/a", cards[0]), ("runs/b", priced)])))
        assert "another price, or none, in some of them: cost cannot be compared" in told
        assert "devices" not in told


@pytest.mark.parametrize("report", [make_run(price=2.5), make_course(40), make_run(status="failed")])
def test_a_run_in_other_formats(report: RunReport) -> None:
    rows = rows_of(formats.as_csv(report))
    assert [row["kind"] for row in rows] == [phase.kind for phase in report.phases]
    assert [float(row["seconds"]) for row in rows] == pytest.approx([phase.seconds for phase in report.phases])
    assert RunReport.model_validate_json(formats.as_json(report)) == report
    markdown = formats.as_markdown(report)
    assert markdown.startswith("# demo\n")
    assert all(f"| {phase.kind} |" in markdown for phase in report.phases)
    tables = [line.count("|") for line in markdown.splitlines() if line.startswith("|")]
    assert len(tables) > 5


def test_a_pilot_in_other_formats() -> None:
    report = make_pilot(5)
    rows = rows_of(formats.as_csv(report))
    assert len(rows) == 5 * 5 * 3
    assert {row["arm"] for row in rows} == set(report.arms)
    assert PilotReport.model_validate_json(formats.as_json(report)) == report
    markdown = formats.as_markdown(report)
    assert report.verdict.text in markdown
    lengths, _, secondary = markdown.partition("## Beside equal seconds")
    assert lengths.count("| ssl\\_sl\\_drop |") == 3
    assert secondary.count("| ssl\\_sl\\_drop |") == 2, "what it did at T, and mix against it at equal amounts"


def test_markdown_and_csv_hold_any_name() -> None:
    evil = 'a|b\n<script>, "x"'
    report = make_run().model_copy(update={"name": evil})
    assert formats.as_markdown(report).splitlines()[0] == '# a\\|b \\<script\\>, "x"'
    assert rows_of(formats.as_csv(report))[0]["run"] == evil
    (line,) = line_up([(evil, report)])
    assert "<script" not in compare_html([line])
