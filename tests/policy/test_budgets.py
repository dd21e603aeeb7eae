"""Budgets: what is spent stays within half a percent and a step of what is asked, in the shares that are asked."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from simulated import SECONDS, Run, rates_of, report_of

from raymix.plan import Plan, changed, rate, weight
from raymix.policy import follow, name_next, planned
from raymix.policy.costs import Outlook
from raymix.report.history import History
from raymix.spec import JobError

PlanOf = Callable[..., Plan]
SHARES: dict[str, Any] = {"policy": "budgeted", "shares": {"ssl": 0.35, "mix": 0.25, "sl": 0.4}}
EPOCHS: dict[str, Any] = {"policy": "budgeted", "ssl_epochs": 10, "sl_epochs": 20, "mix_ratio": 0.5}
ALTERNATE: dict[str, Any] = {**EPOCHS, "interleave": "alternate"}


def plan_for(plan_of: PlanOf, schedule: dict[str, Any], budget: dict[str, Any] | None = None, **sections: Any) -> Plan:
    return plan_of(2000, schedule=schedule, budget=budget or {"wall": 100}, **sections)


@pytest.mark.parametrize("schedule", [SHARES, EPOCHS, ALTERNATE], ids=["shares", "epochs", "alternate"])
@pytest.mark.parametrize("wrong", [1.0, 0.7, 1.4])
def test_a_budget_is_spent_whatever_steps_take(plan_of: PlanOf, schedule: dict[str, Any], wrong: float) -> None:
    """Steps that take 30 % less or 40 % more than was measured, with noise of 5 %."""
    draw = random.Random(1)
    run = Run(
        plan_for(plan_of, schedule), rates_of(), 100.0, lambda kind, _: SECONDS[kind] * wrong * draw.gauss(1, 0.05)
    )
    assert run.end in ("complete", "budget")
    step = max(SECONDS.values()) * wrong
    assert 100 * 0.99 - step <= run.seconds <= 100 * 1.005 + step
    assert run.history.done_steps == run.plan.num_steps, "the plan ends where the budget does"


@pytest.mark.parametrize("wrong", [{}, {"sl": 0.08}, {"ssl": 0.03, "sl": 0.07}], ids=["right", "sl slower", "both"])
def test_shares_are_those_asked_for(plan_of: PlanOf, wrong: dict[str, float]) -> None:
    run = Run(plan_for(plan_of, SHARES), rates_of(), 200.0, lambda kind, _: {**SECONDS, **wrong}[kind])
    for kind, share in SHARES["shares"].items():
        assert run.by_kind[kind] / run.seconds == pytest.approx(share, abs=0.01), kind


def test_epochs_keep_their_proportions(plan_of: PlanOf) -> None:
    made = planned(plan_for(plan_of, EPOCHS), rates_of(), 300.0)
    ssl, mix, sl = (phase.epochs for phase in made.phases)
    assert ssl == pytest.approx(mix, rel=0.02), "10 epochs of SSL, half of them merged"
    assert sl == pytest.approx(3 * mix, rel=0.02)


def test_a_budget_in_flops_is_exact(plan_of: PlanOf) -> None:
    flops = rates_of().step_flops
    plan = plan_for(plan_of, SHARES, {"flops": 1e11})
    run = Run(plan, rates_of(), 1e11, lambda kind, _: 0.05)
    spent = sum(flops[kind] * steps for report in run.history.reports for kind, steps in report.segment.pattern)
    assert 1e11 - max(flops.values()) <= spent <= 1e11


def test_rate_and_weight_never_jump(plan_of: PlanOf) -> None:
    """Steps turn out slower and slower: every decision changes the slope alone."""
    weights = {"curve": "linear", "start": 1.0, "end": 0.0}
    plan = plan_for(plan_of, {**SHARES, "weight": weights})
    run = Run(plan, rates_of(), 100.0, lambda kind, at: SECONDS[kind] * (1 + at / 100))
    assert len(run.history.decisions) > 3
    before = plan
    for decision in run.history.decisions:
        after = changed(before, decision)
        at = decision.step
        if 0 < at < min(before.num_steps, after.num_steps) and after.phases[after.phase_at(at)].kind == "mix":
            assert weight(after, at) == pytest.approx(weight(before, at), abs=0.02)
        if 0 < at < min(before.num_steps, after.num_steps):
            assert rate(after, at) == pytest.approx(rate(before, at), abs=0.02 * plan.spec.optim.lr)
        assert after.phases[0].turns[0][0] == "ssl"
        before = after
    assert before == run.plan
    assert rate(run.plan, run.plan.num_steps - 1) < 0.01 * plan.spec.optim.lr, "the cosine ends with the budget"


def test_the_past_is_never_changed(plan_of: PlanOf) -> None:
    draw = random.Random(3)
    for schedule in (SHARES, EPOCHS, ALTERNATE):
        plan = plan_for(plan_of, schedule)
        run = Run(plan, rates_of(), 60.0, lambda kind, _: SECONDS[kind] * draw.uniform(0.5, 2))
        done = [run_kind for report in run.history.reports for run_kind in report.segment.pattern]
        laid = [turn for phase in run.plan.phases for turn in phase.turns]
        assert steps_by_order(done) == steps_by_order(laid)


def steps_by_order(turns: list[tuple[Any, int]]) -> list[str]:
    return [kind for kind, steps in turns for _ in range(steps)]


# ---- epochs that a budget does not hold -----------------------------------------------------------------------------


def test_a_budget_that_holds_all_epochs_changes_nothing(plan_of: PlanOf) -> None:
    plan = plan_for(plan_of, {"ssl_epochs": 4, "sl_epochs": 4})
    run = Run(plan, rates_of(), 1e4, lambda kind, _: SECONDS[kind])
    assert run.history.decisions == ()
    assert run.plan == plan
    assert run.end == "complete"


def test_finish_keeps_the_sl_phase_whole(plan_of: PlanOf) -> None:
    plan = plan_for(plan_of, {"ssl_epochs": 40, "sl_epochs": 20, "mix_ratio": 0.5})
    run = Run(plan, rates_of(), 30.0, lambda kind, _: SECONDS[kind])
    assert run.plan.phases[-1].steps == plan.phases[-1].steps
    assert run.plan.phases[0].steps < plan.phases[0].steps
    assert run.seconds == pytest.approx(30, rel=0.01)
    assert "SSL ends earlier" in run.history.decisions[0].reason


def test_what_was_left_out_comes_back_when_steps_get_faster(plan_of: PlanOf) -> None:
    plan = plan_for(plan_of, {"ssl_epochs": 40, "sl_epochs": 20, "mix_ratio": 0.5})
    run = Run(plan, rates_of(ssl=0.4, mix=0.5, sl=0.6), 30.0, lambda kind, _: SECONDS[kind])
    assert run.seconds == pytest.approx(30, rel=0.02)


def test_stop_ends_with_a_checkpoint_where_the_budget_does(plan_of: PlanOf) -> None:
    plan = plan_for(plan_of, {"ssl_epochs": 40, "sl_epochs": 20}, {"wall": 20, "on_exhausted": "stop"})
    run = Run(plan, rates_of(), 20.0, lambda kind, _: SECONDS[kind])
    assert run.end == "budget"
    assert run.plan == plan, "so that it can go on"
    assert run.history.done_steps < plan.num_steps
    assert run.seconds == pytest.approx(20, abs=0.1)


def test_nothing_is_left_of_a_budget_that_starting_has_spent(plan_of: PlanOf) -> None:
    for schedule in (SHARES, {"ssl_epochs": 4}, {"policy": "adaptive"}):
        run = Run(plan_for(plan_of, schedule), rates_of(), 0.0, lambda kind, _: SECONDS[kind])
        assert (run.end, run.history.done_steps) == ("budget", 0)


# ---- a list of phases -----------------------------------------------------------------------------------------------


def test_phases_take_what_they_are_given(plan_of: PlanOf) -> None:
    listed = [
        {"kind": "ssl", "for": "4ep"},
        {"kind": "mix", "for": "30%", "weight": {"cosine": [1, 0]}},
        {"kind": "sl", "for": "10s"},
        {"kind": "sl", "for": "rest"},
    ]
    plan = plan_for(plan_of, {"policy": "phases", "phases": listed})
    run = Run(plan, rates_of(), 100.0, lambda kind, _: SECONDS[kind])
    assert run.plan.phases[0].epochs == pytest.approx(4, abs=0.1)
    assert run.by_kind["mix"] == pytest.approx(30, abs=0.5)
    assert run.plan.phases[2].steps * SECONDS["sl"] == pytest.approx(10, abs=0.3)
    assert run.seconds == pytest.approx(100, abs=0.5)
    start = run.plan.phases[1].start
    assert weight(run.plan, start) == pytest.approx(1, abs=0.01)


def test_phases_without_a_budget(plan_of: PlanOf) -> None:
    listed = [{"kind": "ssl", "for": "40%"}, {"kind": "mix", "for": 100}, {"kind": "sl", "for": "3ep"}]
    plan = plan_of(2000, schedule={"policy": "phases", "phases": listed})
    run = Run(plan, rates_of(), None, lambda kind, _: SECONDS[kind])
    assert run.history.done_steps == run.plan.num_steps
    assert [phase.steps for phase in run.plan.phases[1:]] == [100, round(3 * 2000 / 96)]
    assert run.by_kind["ssl"] / run.seconds == pytest.approx(0.4, abs=0.01), "a percentage is one of the seconds"


def test_time_without_a_budget_is_laid_out_by_measured_steps(plan_of: PlanOf) -> None:
    listed = [{"kind": "ssl", "for": "8s"}, {"kind": "sl", "for": "2ep"}]
    plan = plan_of(2000, schedule={"policy": "phases", "phases": listed})
    made = planned(plan, rates_of(), None)
    assert made.phases[0].steps == 200
    assert made.phases[1].steps == plan.phases[1].steps


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"schedule": SHARES}, "budget: schedule.policy budgeted spends one"),
        ({"budget": {}}, "budget: names no amount"),
        ({"budget": {"wall": "1h", "flops": 1e9}}, "budget: wall and flops are both set"),
        ({"budget": {"wall": "soon"}}, "budget.wall: a duration is a number"),
        ({"budget": {"money": 5}}, "budget.money: what a worker-hour costs is not set"),
        ({"budget": {"wall": 0}}, "budget.wall: must be above 0"),
        ({"schedule": {"policy": "budgeted", "shares": {"ssl": 0.5}}}, "schedule.shares: add up to 0.5"),
        ({"schedule": {**SHARES, "mix_ratio": 0.3}}, "schedule.shares: says what mix_ratio says"),
        ({"schedule": {"policy": "adaptive"}}, "budget: schedule.policy adaptive spends one"),
        ({"schedule": {"policy": "phases", "phases": []}}, "schedule.phases: must be a list of at least 1"),
        ({"schedule": {"policy": "phases", "phases": [{"kind": "sl", "for": "rest"}]}}, "schedule.phases: `for: rest`"),
        ({"schedule": {"policy": "phases", "phases": [{"kind": "sl", "for": "50%"}]}}, "schedule.phases: take 50%"),
        ({"schedule": {"policy": "phases", "phases": [{"kind": "sl", "for": "5x"}]}}, "schedule.phases"),
        ({"goal": {}}, "goal: names no goal"),
        ({"goal": {"top1": 50}, "evaluate": {"every": 0}}, "goal: nothing is evaluated"),
        ({"cluster": {"node_type": "h100"}}, "cluster.price_file: missing"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(plan_of: PlanOf, sections: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as refused:
        plan_of(1000, **sections)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


# ---- goals ----------------------------------------------------------------------------------------------------------


def with_accuracy(plan: Plan, curve: Callable[[int], float]) -> tuple[Any, History]:
    """A run whose evaluations say what `curve` says of their number."""
    history, count = History(rates=rates_of()).begin(None), 0
    while True:
        named = name_next(plan, history)
        if named.segment is None:
            return named.end, history
        told = {"select_top1": curve(count)} if named.segment.evaluate else {}
        count += named.segment.evaluate
        history = history.add(report_of(named.segment, 1.0, 0.0, **told))


def test_a_goal_ends_the_run_that_reaches_it(plan_of: PlanOf) -> None:
    plan = plan_of(2000, schedule={"ssl_epochs": 4, "sl_epochs": 20}, goal={"top1": 30})
    end, history = with_accuracy(plan, lambda number: 10.0 * number)
    assert end == "goal"
    reached = [report.select_top1 for report in history.reports if report.select_top1 is not None]
    assert 30 in reached[-2:], "named a segment ahead, so one more evaluation may have been made"
    assert history.done_steps < plan.num_steps
    assert with_accuracy(plan, lambda number: 20.0)[0] == "complete"


def test_patience_ends_a_run_that_gets_no_better(plan_of: PlanOf) -> None:
    plan = plan_of(2000, schedule={"ssl_epochs": 4, "sl_epochs": 20}, goal={"patience": 3})
    end, history = with_accuracy(plan, lambda number: min(number, 4.0))
    assert end == "patience"
    reached = [report.select_top1 for report in history.reports if report.select_top1 is not None]
    assert reached[:8] == [0, 1, 2, 3, 4, 4, 4, 4]
    assert len(reached) <= 9


# ---- other machines, and the cost of deciding -----------------------------------------------------------------------


def test_other_machines_plan_what_is_left_anew(plan_of: PlanOf) -> None:
    plan = plan_for(plan_of, SHARES)
    run = Run(plan, rates_of(), 100.0, lambda kind, _: SECONDS[kind])
    half = run.history.reports[: len(run.history.reports) // 2]
    base = History(rates=rates_of(), reports=half, decisions=run.history.decisions[:1], attempts=run.history.attempts)
    now = changed(plan, run.history.decisions[0])
    again = name_next(now, base.begin(100 - half[-1].elapsed))
    assert again.decision is None, "a restart alone replays the stored plan"
    slower = rates_of(**{kind: 2 * seconds for kind, seconds in SECONDS.items()})
    moved = name_next(now, base.begin(100 - half[-1].elapsed, slower, "1 x CPU instead of 2 x CPU"))
    assert moved.decision is not None
    assert moved.decision.reason.startswith("1 x CPU instead of 2 x CPU")
    assert sum(moved.decision.steps) < now.num_steps
    assert moved.decision.step == half[-1].segment.start + half[-1].segment.steps


def test_a_history_travels_whole(plan_of: PlanOf) -> None:
    run = Run(plan_for(plan_of, SHARES), rates_of(), 30.0, lambda kind, _: 1.2 * SECONDS[kind])
    assert History.model_validate_json(run.history.model_dump_json()) == run.history
    assert Outlook(run.plan, run.history).left == pytest.approx(0, abs=0.3)


def test_deciding_takes_milliseconds_at_most(plan_of: PlanOf) -> None:
    """A segment lasts two seconds, so 2 ms are 0.1 %; the median of many, since the machine has other work."""
    plan = plan_for(plan_of, EPOCHS)
    took = []
    for now, history, _ in follow(plan, rates_of(), 2000.0):
        started = time.perf_counter()
        name_next(now, history)
        took.append(time.perf_counter() - started)
    assert len(took) > 500
    assert sorted(took)[len(took) // 2] < 0.02
