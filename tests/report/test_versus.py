"""Runs and pilots side by side are paired by seed, and only where that is sound."""

from __future__ import annotations

import csv
import io

import pytest

from raymix.report import formats
from raymix.report.html import compare_html
from raymix.report.intervals import paired_interval
from raymix.report.judging import Judged
from raymix.report.lineup import line_up, paired_cells
from raymix.report.tables import lines_table
from raymix.report.versus import versus
from tests.report.factory import make_pilot, make_run
from tests.report.test_tables import shown


def test_arms_of_one_pilot_are_told_from_mix() -> None:
    report = make_pilot(5, lengths=(1.0,))
    found = versus([("p", report)])
    assert set(found) == {(0, arm) for arm in ("sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop")}
    told = found[0, "sl"]
    assert told.against == "p: mix"
    assert told.points == paired_interval(report.arms["sl"], report.arms["mix"], Judged(2000))


def test_arms_of_another_pilot_are_told_from_those_of_the_same_name_over_shared_seeds() -> None:
    a, b = make_pilot(8, lengths=(1.0,)), make_pilot(5, gain=4.0, lengths=(1.0,))
    found = versus([("a", a), ("b", b)])
    assert found[1, "mix"].against == "a: mix"
    assert found[1, "sl"].against == "a: sl"
    assert found[1, "mix"].seeds == (0, 1, 2, 3, 4)
    assert found[1, "mix"].points == paired_interval(b.arms["mix"], a.arms["mix"], Judged(2000))


def test_runs_pair_by_seed_and_nothing_else_is_told() -> None:
    run = make_run()
    other_seed = run.model_copy(update={"seed": 1})
    unfinished = make_run(status="interrupted")
    found = versus([("u", unfinished), ("a", run), ("b", run), ("c", other_seed), ("p", make_pilot(5))])
    assert list(found) == [(2, None)], "another seed, no result and other val rows are not paired"
    assert found[2, None].points.value == 0


def test_every_form_holds_the_differences() -> None:
    lines = line_up([("a", make_pilot(5)), ("b", make_pilot(5, gain=4.0))])
    cells = paired_cells(lines)
    assert len(cells) == 9
    page, markdown, table = compare_html(lines), formats.lines_markdown(lines), shown(lines_table(lines), 200)
    for _, _, points, num in cells:
        assert points in page
        assert points in markdown
        assert points in table
        assert num == "5"
    row = list(csv.DictReader(io.StringIO(formats.lines_csv(lines))))[-1]
    assert lines[-1].versus is not None
    assert (row["minus"], row["paired_seeds"]) == ("a: mix", "0 1 2 3 4")
    assert float(row["points_low"]) == pytest.approx(lines[-1].versus.points.low)
