"""A run that is over goes on: what is done stays, what is added has a cycle of its own, and a budget is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulated import SECONDS, Run, rates_of

from raymix.plan import Added, Asked, Decision, Extension, Plan, changed, followed, positions, rate, resolve
from raymix.policy import name_next
from raymix.spec import Budget, JobSpec

PlanOf = Callable[..., Plan]
EPOCHS = {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.5}
LISTED = [{"kind": "ssl", "for": "30%"}, {"kind": "mix", "for": "30%"}, {"kind": "sl", "for": "rest"}]
BY_BUDGET: dict[str, dict[str, Any]] = {
    "fixed": {"ssl_epochs": 60, "sl_epochs": 20},
    "budgeted": {"policy": "budgeted", "shares": {"ssl": 0.3, "mix": 0.3, "sl": 0.4}},
    "phases": {"policy": "phases", "phases": LISTED},
    "adaptive": {"policy": "adaptive"},
}


def steady(kind: str, at: float) -> float:
    return SECONDS[kind]


def asks(run: Run, **sections: Any) -> Plan:
    """The plan of a finished run as it began, under a job that asks for more."""
    begun = run.begun
    spec = begun.spec
    schedule = spec.schedule.model_copy(update=sections.pop("schedule", {}))
    more = JobSpec.model_validate({**spec.model_dump(), "schedule": schedule.model_dump(), **sections})
    return begun.model_copy(update={"spec": more, "asked": begun.laid_out_for})


def resumed(
    run: Run, allowance: float | None = None, noise: Callable[[str, float], float] = steady, **more: Any
) -> Run:
    """The finished run, resumed with a job that asks for more."""
    return Run(asks(run, **more), rates_of(), allowance, noise, run.history)


def kinds_of(plan: Plan) -> list[str]:
    return [phase.kind for phase in plan.phases]


def test_a_plan_that_was_cut_at_its_very_end_can_be_extended(plan_of: PlanOf) -> None:
    """The last of a budget may not hold a whole step, and a decision then ends the plan where the run is."""
    begun = plan_of(2000, schedule=EPOCHS)
    steps = tuple(phase.steps for phase in begun.phases)
    at = begun.num_steps - 1
    cut = changed(begun, Decision(step=at, steps=(*steps[:-1], steps[-1] - 1), reason="nothing more fits"))
    extension = Extension(asked=Asked(), phases=(Added(kind="sl", steps=5),), fills=True)
    longer = changed(cut, Decision(step=at, steps=(*steps[:-1], steps[-1] - 1, 5), reason="", extension=extension))
    assert 0 < rate(longer, at) <= begun.spec.optim.lr


# ---- more epochs ----------------------------------------------------------------------------------------------------


def test_more_epochs_are_laid_out_after_the_end_as_a_job_of_their_own(plan_of: PlanOf) -> None:
    first = Run(plan_of(2000, schedule=EPOCHS), rates_of(), None, steady)
    second = resumed(first, schedule={"ssl_epochs": 14, "sl_epochs": 16})
    assert second.end == "complete"
    assert second.plan.phases[:3] == first.plan.phases
    alone = plan_of(2000, schedule={"ssl_epochs": 4, "sl_epochs": 6, "mix_ratio": 0.5})
    added = [(phase.kind, phase.steps, phase.turns) for phase in second.plan.phases[3:]]
    assert added == [(phase.kind, phase.steps, phase.turns) for phase in alone.phases]
    assert second.history.reports[: len(first.history.reports)] == first.history.reports, "the past is frozen"
    (decision,) = second.history.decisions
    assert decision.reason == "extended: 4 SSL and 6 SL epochs more"
    assert (decision.step, sum(decision.steps)) == (first.plan.num_steps, second.history.done_steps)
    assert followed(asks(first, schedule={"ssl_epochs": 14, "sl_epochs": 16}), [decision]) == second.plan


def test_rows_go_on_where_they_were(plan_of: PlanOf) -> None:
    first = Run(plan_of(2000, 500, schedule=EPOCHS), rates_of(), None, steady)
    second = resumed(first, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    end = first.plan.num_steps
    assert positions(second.plan, end) == positions(first.plan, end)
    seen = positions(second.plan, second.plan.num_steps)
    assert seen == {stream: 2 * rows for stream, rows in positions(first.plan, end).items()}


@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_the_rate_rises_from_where_it_is_and_falls_again(plan_of: PlanOf, warmup: float) -> None:
    optim = {"batch": 96, "lr": 0.5, "warmup": warmup}
    first = Run(plan_of(2000, schedule=EPOCHS, optim=optim), rates_of(), None, steady)
    second = resumed(first, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    end, num = first.plan.num_steps, second.plan.num_steps
    before, found = rate(first.plan, end - 1), [rate(second.plan, step) for step in range(end, num)]
    top = found.index(max(found))
    rising = 0.5 / ((warmup or 0.05) * len(found))
    assert abs(found[0] - before) <= rising, "continuous at the joint"
    assert found[0] > before
    assert top == pytest.approx((warmup or 0.05) * len(found), abs=1)
    assert max(found) == pytest.approx(0.5, rel=1e-3)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < 1e-3 * 0.5
    segment = next(report.segment for report in second.history.reports if report.segment.start == end)
    assert segment.lr[0] == found[0]


def test_a_run_can_be_extended_again_and_only_by_what_is_more(plan_of: PlanOf) -> None:
    first = Run(plan_of(2000, schedule=EPOCHS), rates_of(), None, steady)
    same = resumed(first)
    assert (same.end, same.history.reports) == ("complete", first.history.reports)
    second = resumed(first, schedule={"sl_epochs": 15})
    assert kinds_of(second.plan) == ["ssl", "mix", "sl", "sl"]
    assert resumed(second, schedule={"sl_epochs": 15}).plan == second.plan
    third = resumed(second, schedule={"ssl_epochs": 12, "sl_epochs": 17})
    assert kinds_of(third.plan) == ["ssl", "mix", "sl", "sl", "ssl", "mix", "sl"]
    assert [decision.reason for decision in third.history.decisions] == [
        "extended: 5 SL epochs more",
        "extended: 2 SSL and 2 SL epochs more",
    ]
    assert [report.segment.phase for report in third.history.reports][-1] == 6


@pytest.mark.parametrize("on_exhausted", ["finish", "stop"])
def test_epochs_that_a_budget_does_not_hold_are_cut_to_it(plan_of: PlanOf, on_exhausted: str) -> None:
    budget = {"wall": 1000, "on_exhausted": on_exhausted}
    first = Run(plan_of(2000, schedule=EPOCHS, budget=budget), rates_of(), 1000.0, steady)
    assert first.end == "complete"
    second = resumed(first, 8.0, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    assert second.end == "budget"
    assert second.seconds == pytest.approx(8, abs=0.1)
    assert (rate(second.plan, second.history.done_steps - 1) < 1e-4) == (on_exhausted == "finish")
    whole = resumed(first, 900.0, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    assert whole.end == "complete"
    assert whole.plan.num_steps == 2 * first.plan.num_steps
    nothing = resumed(first, 0.0, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    assert (nothing.end, nothing.plan.phases) == ("budget", first.plan.phases)


def test_an_alternating_run_takes_turns_again(plan_of: PlanOf) -> None:
    plan = plan_of(2000, 800, schedule={**EPOCHS, "interleave": "alternate"})
    first = Run(plan, rates_of(), None, steady)
    second = resumed(first, schedule={"ssl_epochs": 20, "sl_epochs": 20})
    assert kinds_of(second.plan) == ["ssl", "mix", "sl"] * 2
    assert second.plan.phases[4].turns == first.plan.phases[1].turns


# ---- a larger budget ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", BY_BUDGET)
@pytest.mark.parametrize("wrong", [1.0, 1.3])
def test_a_larger_budget_is_spent_in_the_proportions_of_the_last_round(
    plan_of: PlanOf, policy: str, wrong: float
) -> None:
    """Also where steps turn out slower than was measured."""
    plan = plan_of(2000, schedule=BY_BUDGET[policy], budget={"wall": 40}, evaluate={"every": 0})
    first = Run(plan, rates_of(), 40.0, steady)
    assert first.end == "budget"
    second = resumed(first, 30.0, lambda kind, _: wrong * SECONDS[kind], budget=Budget(wall=70).model_dump())
    assert second.end in ("budget", "complete")
    assert second.seconds == pytest.approx(30, rel=0.01, abs=0.1)
    num = len(first.plan.phases)
    assert second.plan.phases[:num] == first.plan.phases
    assert second.history.decisions[len(first.history.decisions)].reason == "extended: the budget is larger"
    ratios = [new.steps / old.steps for old, new in zip(first.plan.phases, second.plan.phases[num:], strict=True)]
    assert max(ratios) < 1.15 * min(ratios)
    at, last = first.plan.num_steps, second.plan.num_steps
    rates = [rate(second.plan, step) for step in range(second.history.decisions[-1].step, last)]
    assert rates[-1] < 0.01 * plan.spec.optim.lr, "the cycle ends with the budget"
    assert max(report.segment.lr[1] for report in second.history.reports if report.segment.start >= at) > 0.9e-3
    before = followed(asks(first, budget=Budget(wall=70).model_dump()), first.history.decisions)
    for decision in second.history.decisions[len(first.history.decisions) :]:
        after = changed(before, decision)
        if 0 < decision.step < after.num_steps and decision.step <= before.num_steps:
            old, new = rate(before, decision.step - 1), rate(after, decision.step)
            assert new == pytest.approx(old, abs=0.1 * plan.spec.optim.lr), "continuous"
        before = after
    assert before == second.plan


def test_a_plan_that_ends_by_itself_is_not_extended_by_what_is_left(plan_of: PlanOf) -> None:
    """Its budget was raised while it ran: it has been planned for that."""
    plan = plan_of(2000, schedule=BY_BUDGET["budgeted"], budget={"wall": 40})
    begun = plan.model_copy(update={"asked": plan.laid_out_for})
    raised = begun.model_copy(update={"spec": plan.spec.model_copy(update={"budget": Budget(wall=80)})})
    run = Run(raised, rates_of(), 80.0, steady)
    assert len(run.plan.phases) == len(plan.phases)
    assert run.plan.extension is None


def test_a_budget_that_left_everything_as_it_was_extends_nothing(plan_of: PlanOf) -> None:
    plan = plan_of(2000, schedule=EPOCHS, budget={"wall": 1000})
    first = Run(plan, rates_of(), 1000.0, steady)
    second = resumed(first, 1900.0, budget=Budget(wall=2000).model_dump())
    assert (second.end, second.plan.num_steps) == ("complete", first.plan.num_steps)


def test_there_are_no_trials_in_an_extension(plan_of: PlanOf) -> None:
    plan = plan_of(2000, schedule={"policy": "adaptive"}, budget={"wall": 100})
    first = Run(plan, rates_of(), 100.0, steady)
    assert any(report.segment.trial for report in first.history.reports)
    second = resumed(first, 400.0, budget=Budget(wall=500).model_dump())
    assert not any(report.segment.trial for report in second.history.reports[len(first.history.reports) :])


def test_an_extended_plan_is_read_back_as_it_was_written(plan_of: PlanOf) -> None:
    first = Run(plan_of(2000, schedule=EPOCHS), rates_of(), None, steady)
    second = resumed(first, schedule={"sl_epochs": 15})
    assert Plan.model_validate_json(second.plan.model_dump_json()) == second.plan
    history = type(second.history).model_validate_json(second.history.model_dump_json())
    assert history == second.history
    assert name_next(second.plan, history) == name_next(second.plan, second.history)
    assert resolve(second.plan.spec, second.plan.facts).extension is None
