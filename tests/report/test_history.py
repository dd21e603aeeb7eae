"""What a history becomes when its run goes back."""

from __future__ import annotations

from tests.report.factory import make_history, make_plan


def test_a_run_that_goes_back_further_has_been_halved_as_often() -> None:
    plan = make_plan()
    whole = make_history(plan, 6)
    once = whole.rolled_back(make_history(plan, 4), "first")
    twice = once.rolled_back(make_history(plan, 2), "second")
    step = make_history(plan, 2).done_steps
    assert [(one.step, one.reason) for one in twice.roll_backs] == [(step, "first"), (step, "second")]
    assert len(twice.reports) == 2
