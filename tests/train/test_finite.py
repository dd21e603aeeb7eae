"""Losses and gradients that are not finite: a run stops, leaves the step out, or goes back; nothing broken is saved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import PLAIN, run, whitened
from safetensors.torch import load_file
from small_runs import CPU, Digits, Watcher
from torch import Tensor

from raymix.local import LocalRuntime
from raymix.method.backbones import How
from raymix.plan import rate, segment, weight
from raymix.train import checkpoint
from raymix.train.cache import Cache
from raymix.train.execute import execute
from raymix.train.feed import Feed
from raymix.train.guard import Guard
from raymix.train.loop import run_segment
from raymix.train.state import TrainState
from raymix.train.stepper import stepper
from raymix.train.task import Task
from raymix.train.trial import with_trial
from tests.planted import FACTORY, backbone

DigitsOf = Callable[..., Digits]
SL = {"ssl_epochs": 0, "sl_epochs": 2}
BOTH = {"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 0.5}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"ema": "10%"},
    "accumulate": {"accumulate": 3},
    "clip": {"clip": 1.0, "ema": "10%"},
}


def asked(digits: DigitsOf, failures: dict[str, Any], **sections: Any) -> Digits:
    """A job in which one training row, seen once an epoch, is white."""
    optim = {"batch": 24, "lr": 2e-3, "warmup": 0, **sections.pop("optim", {})}
    backbone_of = sections.pop("backbone", backbone(bad="forward"))
    data = {"fraction": 0.15, "holdout": 0.1, "select": 0.1, "augment": PLAIN}
    every = {"checkpoint": {"every": 0.001, "keep": 100}, "evaluate": {"every": 0}, **sections}
    made = digits(data=data, failures=failures, optim=optim, backbone=backbone_of, **every)
    return whitened(made, int(made.splits.train[40]))


def saved(folder: Path) -> dict[int, dict[str, Tensor]]:
    """The tensors of all checkpoints by step; each verifies."""
    found = {}
    for name in checkpoint.names(folder):
        assert checkpoint.problem(folder / name) is None
        found[int(name.removeprefix("step-"))] = load_file(folder / name / checkpoint.TENSORS)
    return found


def assert_finite(tensors: dict[str, Tensor]) -> None:
    assert not [name for name, value in tensors.items() if not bool(value.isfinite().all())]


def bad_steps(made: Digits) -> list[int]:
    """Global steps whose batch holds the white image."""
    feed, number, found = Feed(made.plan, made.splits, made.runtime()), 0, []
    for phase in made.plan.phases:
        for _, batch in feed.batches(segment(made.plan, phase.start, phase.steps, evaluate=False)):
            if bool((batch.x_BSSC == 255).flatten(1).all(1).any()):
                found.append(number)
            number += 1
    return found


# ---- stop -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["forward", "gradient", "overflow"])
@pytest.mark.parametrize("option", ["plain", "clip"])
def test_stop_saves_nothing_of_the_segment_in_which_it_happened(
    digits: DigitsOf, bad: str, option: str, tmp_path: Path
) -> None:
    made = asked(digits, {}, schedule=SL, optim=OPTIONS[option], backbone=backbone(bad=bad))
    first = bad_steps(made)[0]
    for size in (1, 4):  # with one step a segment the bad one is its last: a gradient shows in no loss of it
        folder, start = tmp_path / str(size), first // size * size
        assert start > 0
        watcher = Watcher()
        with pytest.raises(FloatingPointError) as caught:
            run(made, folder, steps=size, watcher=watcher)
        what = "a gradient" if bad == "gradient" and size == 1 else "the loss"
        assert str(caught.value) == (
            f"{what} is not finite in steps {start} to {start + size - 1}: a lower optim.lr may help; "
            f"the last good checkpoint is {checkpoint.names(folder)[0]}"
        )
        assert sum(report.segment.steps for report in watcher.reports) == start
        states = saved(folder)
        assert max(states) <= start
        for tensors in states.values():
            assert_finite(tensors)


def test_every_tensor_of_a_state_is_looked_at(digits: DigitsOf) -> None:
    """A number whose square is past the range counts as finite; one that is not does not, wherever it stands."""
    made = asked(digits, {}, optim={"ema": "10%"})
    state = TrainState.fresh(made.plan, CPU, How((FACTORY,)))
    for name, value in state.tensors().items():
        if not value.is_floating_point() or name.endswith(".step"):
            continue
        before, last = value.clone(), value.view(-1)[-1:]
        last.fill_(3e38)
        assert state.is_finite(thoroughly=True)
        for broken in (torch.nan, -torch.inf):
            last.fill_(broken)
            assert not state.is_finite(thoroughly=True), name
            assert state.is_finite() == ("exp_avg_sq" not in name and "running" not in name), name
        value.copy_(before)
    assert state.is_finite()


# ---- skip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["forward", "gradient", "overflow"])
@pytest.mark.parametrize("option", OPTIONS)
def test_a_skipped_step_changes_no_bit(digits: DigitsOf, bad: str, option: str) -> None:
    """Weights, moments, step counts, averages, BatchNorm: as they were; every other step changes them."""
    made = asked(digits, {"not_finite": "skip"}, schedule=BOTH, optim=OPTIONS[option], backbone=backbone(bad=bad))
    state, runtime = TrainState.fresh(made.plan, CPU, How((FACTORY,))), made.runtime()
    assert any("running_mean" in name for name in state.tensors())
    feed, step = Feed(made.plan, made.splits, runtime), stepper(made.plan, made.plan.kinds, state, runtime)
    state.model.train()
    number, skipped, expected = 0, [], bad_steps(made)
    assert len(expected) >= 2
    for phase in made.plan.phases:
        for kind, batch in feed.batches(segment(made.plan, phase.start, phase.steps, evaluate=False)):
            before = state.snapshot()
            stats = step(kind, batch, *(torch.tensor(f(made.plan, number)) for f in (rate, weight)))
            after = state.snapshot()
            assert_finite(after)
            if all(torch.equal(value, after[name]) for name, value in before.items()):
                skipped.append(number)
                assert not stats.any()
            number += 1
    assert skipped == expected
    assert step.guard is not None
    assert step.guard.skipped().steps == len(expected)


def test_skip_without_anything_to_skip_is_the_same_run(digits: DigitsOf, tmp_path: Path) -> None:
    optim = {"accumulate": 2, "clip": 1.0, "ema": "10%"}
    for policy in ("stop", "skip"):
        made = asked(digits, {"not_finite": policy}, schedule=BOTH, optim=optim, backbone=backbone())
        run(made, tmp_path / policy)
    one, other = (saved(tmp_path / policy)[made.plan.num_steps] for policy in ("stop", "skip"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_that_skips_counts_and_goes_on(digits: DigitsOf, tmp_path: Path) -> None:
    """Reports hold the losses of the other steps; stopped and resumed it is the same."""
    made = asked(digits, {"not_finite": "skip"}, schedule=BOTH, optim={"ema": "10%"})
    outcome, heard = run(made, tmp_path / "whole")
    expected = bad_steps(made)
    assert outcome.complete
    assert outcome.history.skipped == len(expected)
    by_segment = [
        sum(r.segment.start <= number < r.segment.start + r.segment.steps for number in expected) for r in heard.reports
    ]
    assert [r.skipped for r in heard.reports] == by_segment
    for report in heard.reports:
        assert all(loss is None or 0 < loss < 10 for loss in (report.ssl_loss, report.sl_loss))
        full = sum(count * made.plan.spec.batch for kind, count in report.segment.pattern if kind == "sl")
        if report.segment.kind == "sl":
            assert report.labelled == full - 24 * report.skipped
    for tensors in saved(tmp_path / "whole").values():
        assert_finite(tensors)
    for stop in (2, 1, None):
        rest, _ = run(made, tmp_path / "parts", stop_after=stop)
    assert rest.history.skipped == len(expected)
    one, other = (saved(tmp_path / name)[made.plan.num_steps] for name in ("whole", "parts"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.gpu
@pytest.mark.parametrize("option", OPTIONS)
def test_replayed_steps_are_skipped_alike(digits: DigitsOf, option: str, tmp_path: Path) -> None:
    speed, device = {"compile": "off"}, torch.device("cuda", 0)
    made = asked(digits, {"not_finite": "skip"}, schedule=BOTH, optim=OPTIONS[option], speed=speed)
    runtime = LocalRuntime(Cache(made.images, device), device, Watcher())
    task = Task("digits", made.plan, made.splits, made.rates(4), str(tmp_path), allow_import=(FACTORY,))
    outcome = execute(task, runtime)
    assert outcome.complete
    assert outcome.history.skipped == len(bad_steps(made))
    assert {report.skipped for report in outcome.history.reports} > {0}
    for tensors in saved(tmp_path).values():
        assert_finite(tensors)


def test_a_segment_of_skipped_steps_alone_has_no_loss(digits: DigitsOf) -> None:
    made = asked(digits, {"not_finite": "skip"}, schedule=SL)
    _, heard = run(made, None, steps=1)
    [first, *_] = bad_steps(made)
    report = heard.reports[first]
    assert (report.skipped, report.sl_loss, report.labelled, report.train_top1) == (1, None, 0, None)


def test_more_skipped_steps_than_allowed_end_the_run(digits: DigitsOf, tmp_path: Path) -> None:
    made = asked(digits, {"not_finite": "skip", "max_skipped": 1}, schedule=SL)
    message = r"^2 steps were left out since .* more than failures\.max_skipped=1; the last good checkpoint is step-0"
    with pytest.raises(FloatingPointError, match=message):
        run(made, tmp_path)
    for tensors in saved(tmp_path).values():
        assert_finite(tensors)


def test_a_loss_past_the_range_has_no_gradient_that_passes(digits: DigitsOf) -> None:
    guard = Guard(TrainState.fresh(asked(digits, {}).plan, CPU, How((FACTORY,))), world=1)
    for value, passes in ((1e20, False), (3.0, True)):
        x = torch.tensor(value, requires_grad=True)
        guard.marked(x.square()).backward()
        assert x.grad is not None
        assert bool(x.grad == 2 * value) == passes


# ---- roll back --------------------------------------------------------------------------------------------------


def diverging(digits: DigitsOf, share: float, **sections: Any) -> Digits:
    """A run that is not finite once its rates have summed up to a share of what they do in all."""
    plain = asked(digits, {}, schedule=SL)
    total = sum(rate(plain.plan, number) for number in range(plain.plan.num_steps))
    return asked(digits, {"not_finite": "roll_back"}, schedule=SL, backbone=backbone(limit=share * total), **sections)


@pytest.mark.parametrize("kept", [True, False], ids=["to a checkpoint", "to the start"])
def test_a_run_is_rolled_back_and_goes_on_at_half_the_rate(digits: DigitsOf, kept: bool, tmp_path: Path) -> None:
    made = diverging(digits, 0.9, checkpoint={"every": 3600})  # that of a stop alone, whatever the clock says
    if kept:
        run(made, tmp_path, stop_after=2)
    outcome, heard = run(made, tmp_path if kept else None)
    assert outcome.complete
    [back] = outcome.history.roll_backs
    assert back.step == (8 if kept else 0)
    assert back.reason.startswith("the loss is not finite in steps ")
    for report in outcome.history.reports:
        half = report.segment.start >= back.step
        planned = rate(made.plan, report.segment.start)
        assert report.segment.lr[0] == pytest.approx(planned * (0.5 if half else 1))
    done = [report.segment.start for report in outcome.history.reports]
    assert done == sorted(set(done)), "what was lost is not in the history"
    assert len(heard.reports) == len(done) + (-2 if kept else 2), "but it was told"
    assert any("on at 0.5 of the rate (roll-back 1 of 3)" in note for note in heard.notes)
    for tensors in saved(tmp_path).values():
        assert_finite(tensors)


def test_a_rolled_back_run_that_is_resumed_is_the_unbroken_one(digits: DigitsOf, tmp_path: Path) -> None:
    """Stopped right after it went back, before anything else was saved: what was decided is on the disk."""
    made = diverging(digits, 0.9, checkpoint={"every": 3600})  # those of a stop alone, whatever the clock says
    run(made, tmp_path / "whole", steps=2, stop_after=2)
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    whole, heard = run(made, tmp_path / "whole", steps=2)
    [back] = whole.history.roll_backs
    assert back.step == 4
    lost = len(heard.reports) + 2 - len(whole.history.reports)
    assert lost > 2
    part, _ = run(made, tmp_path / "parts", steps=2, stop_after=lost + 1)
    assert (part.history.done_steps, part.history.roll_backs) == (back.step + 2, (back,))
    for name in checkpoint.names(tmp_path / "parts")[:1]:  # as a kill right after the roll-back would leave it
        shutil.rmtree(tmp_path / "parts" / name)
    rest, again = run(made, tmp_path / "parts", steps=2)
    assert again.began.done_steps == back.step
    assert not again.notes, "it need not come to the same trouble again"
    assert rest.history.roll_backs == (back,)
    one, other = (saved(tmp_path / name)[made.plan.num_steps] for name in ("whole", "parts"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_run_is_rolled_back_only_so_often(digits: DigitsOf, tmp_path: Path) -> None:
    """Half the rate does not help where it is the data."""
    made = asked(digits, {"not_finite": "roll_back", "max_roll_backs": 2}, schedule=SL)
    message = r", after 2 roll-backs \(failures\.max_roll_backs\); the last good checkpoint is step-0"
    watcher = Watcher()
    with pytest.raises(FloatingPointError, match=message):
        run(made, tmp_path, watcher=watcher)
    assert [note.split("(")[-1] for note in watcher.notes] == ["roll-back 1 of 2)", "roll-back 2 of 2)"]


# ---- trials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_trial_that_is_not_finite_is_undone(digits: DigitsOf, policy: str) -> None:
    """It ends no run, and counts for none of its segments."""
    made = asked(digits, {"not_finite": policy}, schedule=SL, optim={"ema": "10%"})
    [first, *_] = bad_steps(made)
    state, runtime = TrainState.fresh(made.plan, CPU, How((FACTORY,))), made.runtime()
    feed, step = Feed(made.plan, made.splits, runtime), stepper(made.plan, made.plan.kinds, state, runtime)
    named = segment(made.plan, 0, 1, evaluate=False)
    report = run_segment(made.plan, named, state, step, feed, runtime)
    before = state.snapshot()
    tried = report.model_copy(update={"segment": named.model_copy(update={"trial": first + 2})})
    assert with_trial(made.plan, tried, state, step, feed, runtime).trial_top1 is not None
    assert all(torch.equal(value, before[name]) for name, value in state.snapshot().items())
    again = run_segment(made.plan, segment(made.plan, 1, 1, evaluate=False), state, step, feed, runtime)
    assert again.skipped == 0
