"""The contract of every policy in the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from simulated import SECONDS, Run, rates_of

from raymix.plan import Plan, followed, pattern, positions, rate
from raymix.policy import name_next, unroll
from raymix.policy.wants import DECIDE
from raymix.report.history import History

PlanOf = Callable[..., Plan]
LISTED = [{"kind": "ssl", "for": "30%"}, {"kind": "mix", "for": "5ep"}, {"kind": "sl", "for": "rest"}]
SCHEDULES: dict[str, dict[str, Any]] = {
    "fixed": {"ssl_epochs": 60, "sl_epochs": 60},
    "budgeted": {"policy": "budgeted", "shares": {"ssl": 0.3, "mix": 0.3, "sl": 0.4}},
    "phases": {"policy": "phases", "phases": LISTED},
    "adaptive": {"policy": "adaptive"},
}


def test_every_policy_is_held_to_it() -> None:
    assert SCHEDULES.keys() == DECIDE.keys()


@pytest.fixture(params=SCHEDULES)
def plan(request: pytest.FixtureRequest, plan_of: PlanOf) -> Plan:
    return plan_of(2000, schedule=SCHEDULES[request.param], budget={"wall": 100})


def test_a_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    """Resuming reads job and plan, in which every default is written out."""
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def noisy(seed: int) -> Callable[[str, float], float]:
    draw = random.Random(seed)
    return lambda kind, _: SECONDS[kind] * draw.uniform(0.8, 1.3)


@pytest.mark.parametrize("allowance", [3.0, 40.0, 90.0])
def test_a_budget_is_kept(plan: Plan, allowance: float) -> None:
    run = Run(plan, rates_of(), allowance, noisy(1))
    assert run.seconds <= 1.005 * allowance + 1.3 * max(SECONDS.values())
    assert run.seconds >= 0.95 * allowance - 2 * max(SECONDS.values())


def test_segments_tile_what_the_decisions_made_of_the_plan(plan: Plan) -> None:
    run = Run(plan, rates_of(), 60.0, noisy(2))
    here = 0
    for report in run.history.reports:
        segment = report.segment
        assert segment.start == here
        assert sum(steps for _, steps in segment.pattern) == segment.steps
        here += segment.steps
    assert followed(plan, run.history.decisions) == run.plan, "the record of decisions says what was done"
    assert here <= run.plan.num_steps
    for report in run.history.reports:
        assert report.segment.pattern == pattern(run.plan, report.segment.start, report.segment.steps)
    assert all(count >= 0 for count in positions(run.plan, here).values())
    assert 0 <= rate(run.plan, run.plan.num_steps - 1) < 0.05 * plan.spec.optim.lr


def test_the_same_question_has_the_same_answer(plan: Plan) -> None:
    run = Run(plan, rates_of(), 30.0, noisy(3))
    for count in (0, 1, len(run.history.reports) // 2):
        reports = run.history.reports[:count]
        decisions = tuple(d for d in run.history.decisions if not reports or d.step <= reports[-1].segment.start)
        history = History(
            rates=rates_of(), reports=reports, decisions=decisions if count else (), attempts=run.history.attempts
        )
        now = followed(plan, history.decisions)
        answer = name_next(now, history)
        assert name_next(now, History.model_validate_json(history.model_dump_json())) == answer


def test_without_a_budget_the_plan_is_carried_out_as_it_is(plan: Plan) -> None:
    """As somebody else's loop has it, which knows no allowance; a list of phases may wait for what its steps cost."""
    if plan.spec.schedule.policy == "phases":
        pytest.skip("a length of `rest` needs a budget")
    assert sum(segment.steps for segment in unroll(plan, rates_of(), None)) == plan.num_steps
