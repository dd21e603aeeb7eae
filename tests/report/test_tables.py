"""The tables fit a terminal and say what the reports say."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from raymix.report.forecast import forecast
from raymix.report.tables import pilot_table, plan_table, run_table, runs_table, what_if_table
from tests.report.factory import NOW, make_entry, make_pilot, make_plan, make_run


def shown(table: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(table)
    return out.getvalue()


BIG = make_run(price=4.0).model_copy(
    update={
        "phases": tuple(
            p.model_copy(update={"steps": p.steps * 1000, "images": p.images * 1000, "seconds": p.seconds * 1000})
            for p in make_run().phases
        )
    }
)
LONG = Path("runs/tiny-imagenet-10pct-pilot/runs/ssl_sl_drop-seed0-1.00T")


@pytest.mark.parametrize(
    "table",
    [
        run_table(make_run(price=2.5)),
        run_table(BIG),
        run_table(make_run(status="failed")),
        pilot_table(make_pilot(5, price=2.5)),
        pilot_table(make_pilot(1, lengths=(1.0,))),
        plan_table(make_plan()),
        plan_table(make_plan(price=2.5), forecast(make_plan(price=2.5), None, NOW)),
        plan_table(make_plan(), forecast(make_plan(), make_entry(make_plan()), NOW)),
        what_if_table("optim.batch", [(str(i), forecast(make_plan(price=2.5), None, NOW)) for i in range(3)]),
        runs_table([(Path("runs/demo"), make_run(price=2.5)), (LONG, make_run(status="interrupted"))]),
    ],
)
def test_tables_fit_80_columns_without_losing_a_figure(table: RenderableType) -> None:
    text = shown(table)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text


def test_a_run_says_status_top1_phases_and_bill() -> None:
    text = shown(run_table(make_run()))
    for part in ("demo  done  top-1 71.3 % of 300 val images", "ssl", "mix", "worker-seconds billed", "price not set"):
        assert part in text
    assert "truncated 1" in text


def test_a_pilot_says_verdict_then_each_arm_at_each_length() -> None:
    report = make_pilot(5)
    text = shown(pilot_table(report), 1000)
    assert report.verdict.text in text
    table = text.partition(report.verdict.text)[2]
    assert [table.count(f"\n{name} ") for name in report.arms] == [3] * 5
    assert "length T/1.29" in text
    assert "price not set" in text


def test_a_plan_shows_what_it_costs_and_where_that_comes_from() -> None:
    plan = make_plan()
    assert "seconds" not in shown(plan_table(plan))
    text = shown(plan_table(plan, forecast(plan, make_entry(plan), NOW)), 200)
    assert "18.8" in text, "20 steps of ssl and so on at the factory's rates"
    assert "seconds measured on CPU by 3 runs, the last 2 days ago" in text
    assert "cost: price not set" in text
    assert "seconds estimated from GFLOP a step (ssl" in shown(plan_table(plan, forecast(plan, None, NOW)), 200)


def test_what_if_is_a_line_a_value() -> None:
    plan = make_plan(price=2.5)
    text = shown(what_if_table("optim.batch", [("64", forecast(plan, make_entry(plan), NOW))]))
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("optim", "64"))] == ["optim.batch", "64"]


def test_a_plan_prints_what_its_pilot_can_tell() -> None:
    assert "pilot: with 5 seeds and 300 val images, differences from" in shown(plan_table(make_plan()), 200)


def test_no_runs_is_said() -> None:
    assert shown(runs_table([])).strip() == "no runs"


def test_a_long_path_is_folded_not_cut() -> None:
    text = shown(runs_table([(LONG, make_run())]))
    assert "".join(line.split("  ")[0] for line in text.splitlines()[2:]) == str(LONG)
