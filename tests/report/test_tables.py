"""The tables fit a terminal and say what the reports say."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from raymix.jobfile import load_spec
from raymix.plan import Facts
from raymix.report import course, facts
from raymix.report.forecast import forecast
from raymix.report.intervals import foretold
from raymix.report.run import BudgetReport
from raymix.report.tables import pilot_table, plan_table, run_table, runs_table, what_if_table
from raymix.spec import Goal, JobSpec
from tests.report.factory import NOW, make_course, make_entry, make_pilot, make_plan, make_run


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
        run_table(make_course(40, price=2.5)),
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


def test_a_run_says_how_it_went() -> None:
    report = make_course(3)
    text = shown(run_table(report), 1000)
    assert "Ended: the budget was spent." in text
    assert "Budget, wall time: asked 1 min 40 s, spent 98.5 s, 1.5 s (1.5 %) under." in text
    assert "3 changes of plan, the last at step 20: ssl 102, mix 40, sl 90 (reason number 2.)" in text
    assert f"1 trial, the last at step {report.curve[2].step}: 21.5 % halfway, 34.5 % at its end" in text
    (line,) = (line for line in text.splitlines() if line.startswith("wall "))
    assert re.match(r"wall .* x 2 workers: before workers \d+ %, start-up \d+ %, prepare \d+ %", line)
    assert "trials" not in line, "what is next to nothing is left out"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ended": None, "status": "interrupted"}, ""),
        ({"ended": "complete"}, "Ended: every planned step was done."),
        ({"ended": "goal", "goal": Goal(top1=90)}, "Ended: the goal of 90.0 % on select was reached."),
        ({"ended": "patience", "goal": Goal(patience=3)}, "Ended: no new best on select in 3 evaluations."),
        (
            {"ended": "budget", "phases": (), "curve": (), "final": None},
            "The budget was spent before the first step: nothing was trained, and val was not read.",
        ),
    ],
)
def test_why_a_run_ended_is_said_in_words(changes: dict[str, Any], told: str) -> None:
    report = make_course(**changes)
    assert course.ended_line(report) == told
    assert told in shown(run_table(report), 1000)


@pytest.mark.parametrize(
    ("currency", "asked", "spent", "told"),
    [
        ("worker_hours", 0.5, 0.51, "Budget, worker-hours: asked 0.5, spent 0.51, 0.01 (2.0 %) over."),
        ("money", 2.0, 1.5, "Budget, cost: asked 2.00, spent 1.50, 0.5000 (25.0 %) under."),
        ("flops", 1e15, 9e14, "Budget, FLOPs: asked 1e+15, spent 9e+14, 1e+14 (10.0 %) under."),
    ],
)
def test_a_budget_is_told_in_its_currency(currency: Any, asked: float, spent: float, told: str) -> None:
    budget = BudgetReport(currency=currency, asked=asked, spent=spent)
    assert course.budget_line(make_course(budget=budget)) == told


def test_a_pilot_says_what_it_could_tell_before_and_after_its_runs() -> None:
    report = make_pilot(5)
    after = report.verdict.detectable
    assert after is not None
    text = shown(pilot_table(report), 1000)
    assert f"{report.detectable:.2f} points expected before the runs (at 20 % top-1); {after:.2f} points by" in text
    alone = make_pilot(1, lengths=(1.0,))
    assert alone.verdict.detectable is None
    assert "one seed tells none" in shown(pilot_table(alone), 1000)


def test_a_pilot_says_verdict_then_each_arm_at_each_length() -> None:
    report = make_pilot(5)
    text = shown(pilot_table(report), 1000)
    assert report.verdict.text in text
    table, _, beside = text.partition(report.verdict.text)[2].partition("beside equal seconds (secondary)")
    assert [beside.count(f"\n{name} ") for name in report.arms] == [2, 2, 2, 2, 1], "done; compared with mix"
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


def test_pairs_of_unlike_numbers_of_seeds_print_theirs() -> None:
    report = make_pilot(8, lengths=(1.0,))
    fewer = report.model_copy(update={"arms": {**report.arms, "sl": report.arms["sl"][:5]}})
    cells = {line.arm: facts.accuracy_cells(line)[1] for line in facts.arm_lines(fewer)}
    assert cells["sl"].endswith("; n = 5)")
    assert cells["ssl_sl"].endswith("; n = 8)")
    assert "n = " not in facts.accuracy_cells(facts.arm_lines(report)[0])[1]
    rows = Facts(
        num_train=900, num_labelled=900, num_select=0, num_val=300, class_names=("a", "b"), class_rows=(891, 9)
    )
    told = facts.foretold_line({"ssl_sl": 8, "sl": 5}, judged_by("top1"), rows)
    assert told.startswith("with 8 seeds (ssl_sl) and 300 val images, differences from ")
    assert "; with 5 seeds (sl) and 300 val images" in told
    rare = facts.foretold_line({"mix": 5}, judged_by("balanced_accuracy"), rows)
    assert rare.startswith("with 5 seeds and 300 val images (as much as 12 that count alike), differences from ")
    tenth = rows.model_copy(update={"class_rows": (810, 90)})
    dear = facts.foretold_line({"mix": 5}, judged_by("cost", costs={"b": {"a": 9}}), tenth)
    assert dear.startswith("with 5 seeds and 300 val images (as much as 27 that count alike), differences from ")
    spec = judged_by("balanced_accuracy")
    assert f"{foretold(spec, rows, 5):.1f} points" in rare


def judged_by(metric: str, **asked: Any) -> JobSpec:
    return load_spec({"name": "a", "data": {"train": {"format": "digits"}}, "metric": metric, "report": asked})
