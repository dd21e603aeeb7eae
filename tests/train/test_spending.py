"""Runs under a budget: decisions are followed by the steps, survive an interruption, and trials leave no trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import Digits

from raymix.method.backbones import START
from raymix.plan import followed
from raymix.train import checkpoint
from raymix.train.execute import execute
from raymix.train.feed import Feed
from raymix.train.prepare import prepare
from raymix.train.state import TrainState
from raymix.train.task import Outcome, Task
from raymix.train.trial import with_trial

DigitsOf = Callable[..., Digits]
SHARES = {"policy": "budgeted", "shares": {"ssl": 0.4, "mix": 0.2, "sl": 0.4}}
FEW = {"fraction": 0.2, "holdout": 0.1, "select": 0.1}


def asked(digits: DigitsOf, schedule: dict[str, Any], budget: dict[str, Any] | None, **sections: Any) -> Digits:
    return digits(data=FEW, schedule=schedule, budget=budget, optim={"batch": 24, "lr": 2e-3}, **sections)


def flops_of(one: Digits) -> dict[str, float]:
    state, runtime = one.state(), one.runtime()
    feed = Feed(one.plan, one.splits, runtime)
    _, rates = prepare(one.plan, one.plan.kinds, state, feed, runtime, None, count=True)
    return {str(kind): flops for kind, flops in rates.step_flops.items()}


def tensors_in(one: Digits, folder: Path, outcome: Outcome) -> dict[str, torch.Tensor]:
    state = TrainState.fresh(followed(one.plan, outcome.history.decisions), torch.device("cpu"), START)
    name, problems = checkpoint.newest(folder)
    assert name is not None
    assert not problems
    checkpoint.read(folder / name, state)
    return state.snapshot()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_budget_in_flops_is_spent_to_the_step(digits: DigitsOf, tmp_path: Path) -> None:
    price = flops_of(asked(digits, SHARES, {"flops": 1e9}))
    amount = 60 * price["mix"]
    one = asked(digits, SHARES, {"flops": amount})
    outcome, watcher = one.run(tmp_path)
    assert outcome.history.rates.checkpoint_seconds > 0, "measured, to be reserved"
    spent = {"ssl": 0.0, "mix": 0.0, "sl": 0.0}
    for report in watcher.reports:
        for kind, steps in report.segment.pattern:
            spent[report.segment.kind] += price[kind] * steps
    assert amount - max(price.values()) <= sum(spent.values()) <= amount
    for kind, share in SHARES["shares"].items():  # type: ignore[attr-defined]
        assert spent[kind] / amount == pytest.approx(share, abs=max(price.values()) / amount), kind
    assert outcome.complete
    assert outcome.correct, "val is read at the end"
    assert outcome.history.decisions
    assert watcher.decisions == list(outcome.history.decisions), "sinks hear them"


def test_an_interrupted_run_ends_as_the_unbroken_one(digits: DigitsOf, tmp_path: Path) -> None:
    """FLOPs are the same every time, so decisions are too."""
    price = flops_of(asked(digits, SHARES, {"flops": 1e9}))
    one = asked(digits, SHARES, {"flops": 50 * price["mix"]})
    rates = one.rates(6).model_copy(update={"step_flops": price})
    whole, _ = one.run(tmp_path / "whole", rates=rates)
    part, _ = one.run(tmp_path / "parts", stop_after=3, rates=rates)
    assert part.ended is None
    rest, watcher = one.run(tmp_path / "parts")
    assert rest.complete
    assert watcher.began.done_steps == part.history.done_steps
    assert rest.history.decisions == whole.history.decisions
    assert same(tensors_in(one, tmp_path / "whole", whole), tensors_in(one, tmp_path / "parts", rest))


def test_a_run_that_its_budget_stopped_goes_on_when_there_is_more(digits: DigitsOf, tmp_path: Path) -> None:
    epochs = {"ssl_epochs": 2, "sl_epochs": 2}
    price = flops_of(asked(digits, epochs, None))
    free = asked(digits, epochs, None)
    rates = free.rates(4).model_copy(update={"step_flops": price})
    whole, _ = free.run(tmp_path / "whole", rates=rates)
    little = asked(digits, epochs, {"flops": 12 * price["mix"], "on_exhausted": "stop"})
    first, _ = little.run(tmp_path / "parts", rates=rates)
    assert first.ended == "budget"
    assert 0 < first.history.done_steps < free.plan.num_steps
    more = asked(digits, epochs, {"flops": 1e15, "on_exhausted": "stop"})
    second, _ = more.run(tmp_path / "parts")
    assert second.ended == "complete"
    assert same(tensors_in(free, tmp_path / "whole", whole), tensors_in(free, tmp_path / "parts", second))


def test_a_deadline_shortens_the_plan(digits: DigitsOf) -> None:
    one = asked(digits, {"policy": "budgeted"}, {"wall": 60})
    task = Task("digits", one.plan, one.splits, deadline=time.time() + 4)
    outcome = execute(task, one.runtime())
    allowance = outcome.history.attempts[0].allowance
    assert allowance is not None
    assert 0 <= allowance < 4
    assert outcome.complete
    made = followed(one.plan, outcome.history.decisions)
    assert outcome.history.done_steps <= made.num_steps


def test_training_seconds_are_counted_over_all_attempts(digits: DigitsOf, tmp_path: Path) -> None:
    """Start-up and `prepare` are not in it, and what an earlier attempt spent is taken off."""
    one = asked(digits, {"policy": "budgeted"}, {"training": 1.5})
    part, _ = one.run(tmp_path, rates=one.rates(100), stop_after=3)
    assert part.ended is None
    assert part.history.attempts[0].allowance == 1.5
    spent = part.history.training_seconds
    assert 0 < spent < 1.5
    rest, _ = one.run(tmp_path)
    assert rest.history.attempts[1].allowance == pytest.approx(1.5 - spent)
    assert rest.history.training_seconds == pytest.approx(spent + rest.history.reports[-1].elapsed)


def test_a_trial_leaves_no_trace(digits: DigitsOf) -> None:
    one = asked(digits, {"policy": "adaptive"}, {"wall": 60})
    state, runtime = one.state(), one.runtime()
    feed = Feed(one.plan, one.splits, runtime)
    step, _ = prepare(one.plan, one.plan.kinds, state, feed, runtime, None)
    _, watcher = asked(digits, {"ssl_epochs": 1, "sl_epochs": 1}, None).run(rates=one.rates(20))
    segment = watcher.reports[0].segment.model_copy(update={"trial": 9})
    report = watcher.reports[0].model_copy(update={"segment": segment})
    before, counted = state.snapshot(), (feed.labelled, feed.labelled_steps)
    after = with_trial(one.plan, report, state, step, feed, runtime)
    assert same(before, state.snapshot())
    assert (feed.labelled, feed.labelled_steps) == counted
    assert after.trial_seconds > 0
    assert after.trial_top1 is not None
    assert after.trial_half_top1 is not None
    again = with_trial(one.plan, report, state, step, feed, runtime)
    assert (again.trial_half_top1, again.trial_top1) == (after.trial_half_top1, after.trial_top1), "no chance in it"


def test_other_workers_measure_anew(digits: DigitsOf, tmp_path: Path) -> None:
    """What a run on three workers measured is no measure for one."""
    one = asked(digits, {"ssl_epochs": 1, "sl_epochs": 1}, None)
    other = one.rates(4).model_copy(update={"workers": 3, "device": "CPU"})
    one.run(tmp_path, stop_after=1, rates=other)
    rest, _ = one.run(tmp_path)
    assert rest.history.attempts[-1].news == "1 x CPU instead of 3 x CPU"
    assert rest.history.rates.workers == 1
    assert rest.history.rates.step_seconds != other.step_seconds
    assert one.run(tmp_path)[0].history.attempts[-1].news == ""
