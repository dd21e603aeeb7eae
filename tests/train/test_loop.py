"""The loop on real digits: it learns, its books balance, and how it is cut into segments changes no bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Digits, trained

from raymix.arms import seconds_of
from raymix.plan import positions
from raymix.policy import segments
from raymix.report.history import Rates
from raymix.train.execute import execute
from raymix.train.feed import Feed
from raymix.train.prepare import prepare
from raymix.train.task import Task

DigitsOf = Callable[..., Digits]
MIX = {"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 0.5}


def test_digits_are_learnt(digits: DigitsOf) -> None:
    """A few seconds of training leave chance, which is 10 %, far behind."""
    asked = digits(
        data={"fraction": 0.5, "holdout": 0.1, "augment": {"crop": [1, 1], "flip": False}},
        schedule={"ssl_epochs": 1, "sl_epochs": 6, "mix_ratio": 0.5},
        optim={"batch": 24, "lr": 4e-3, "warmup": 0.1},
        evaluate={"every": 0.2, "max_share": 1},
    )
    outcome, watcher = asked.run(rates=asked.rates(5))
    assert outcome.complete
    assert set(outcome.correct) == {"raw"}
    assert outcome.correct["raw"].mean() > 0.3
    for kind, loss in (("ssl", "ssl_loss"), ("mix", "ssl_loss"), ("sl", "sl_loss")):
        losses = [getattr(r, loss) for r in watcher.reports if r.segment.kind == kind]
        assert losses[-1] < losses[0], f"{loss} in {kind}"
    tops = [r.select_top1 for r in watcher.reports if r.select_top1 is not None]
    assert tops[-1] > 30
    assert tops[-1] > tops[0]


def test_simclr_learns(digits: DigitsOf) -> None:
    asked = digits(
        objective={"type": "simclr", "projector_width": 32, "output_width": 16},
        schedule={"ssl_epochs": 5, "sl_epochs": 0},
        evaluate={"every": 0},
    )
    _, watcher = asked.run(rates=asked.rates(9))
    losses = [r.ssl_loss for r in watcher.reports]
    assert losses[0] is not None
    assert losses[-1] is not None
    assert losses[-1] < losses[0]
    assert losses[-1] < 0.85 * math.log(47), "a view finds its partner among 47 better than by guessing"


def test_parts_of_a_mix_phase_are_steps_of_their_own(digits: DigitsOf) -> None:
    """Each is timed, and has its own price in the plan's seconds; the part that hides nothing reports no SSL loss."""
    objective = {"type": "mae", "mix_mask_ratio": [0.75, 0.5, 0], "decoder_width": 32, "decoder_depth": 1}
    asked = digits(objective=objective, schedule={**MIX, "mix_ratio": 1}, evaluate={"every": 0})
    [(_, first), (_, second), (_, third)] = asked.plan.phases[0].turns
    own = Rates(step_seconds={"mix": 1, "mix_2": 10, "mix_3": 100})
    assert seconds_of(asked.plan, own) == first + 10 * second + 100 * third
    state, runtime = asked.state(), asked.runtime()
    feed = Feed(asked.plan, asked.splits, runtime)
    _, rates = prepare(asked.plan, asked.plan.kinds, state, feed, runtime, None)
    assert set(rates.step_seconds) == {"mix", "mix_2", "mix_3"}
    _, watcher = asked.run(rates=Rates(step_seconds=dict.fromkeys(asked.plan.kinds, 2.0)))  # a step a segment
    for report in watcher.reports:
        [(kind, _)] = report.segment.pattern
        assert (report.ssl_loss is None) == (kind == "mix_3")
        assert report.sl_loss is not None
    assert {report.segment.kind for report in watcher.reports} == {"mix"}


# ---- segments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        MIX,
        {**MIX, "interleave": "alternate", "mix_ratio": 1, "alternate_steps": 2},
        {**MIX, "mix_ratio": 0, "sl_drop": 0.6},
    ],
    ids=["mix", "alternate", "sl_drop"],
)
def test_cutting_a_run_elsewhere_changes_no_bit(
    digits: DigitsOf, schedule: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    asked = digits(schedule=schedule, evaluate={"every": 0})
    finals = []
    for number, (seconds, steps) in enumerate([(2.0, 1000), (2.0, 1), (0.7, 10)]):
        monkeypatch.setattr(segments, "SEGMENT_SECONDS", seconds)
        _, watcher = asked.run(tmp_path / str(number), rates=asked.rates(steps))
        finals.append((len(watcher.reports), final_tensors(asked, tmp_path / str(number))))
    assert len({count for count, _ in finals}) == 3, "they are cut differently"
    plain = asked.state()
    trained(asked, plain, asked.runtime())
    for _, tensors in finals:
        assert_same(tensors, plain.snapshot())


def final_tensors(asked: Digits, folder: Any) -> dict[str, torch.Tensor]:
    from raymix.train import checkpoint

    state = asked.state()
    name, problems = checkpoint.newest(folder)
    assert name == f"step-{asked.plan.num_steps:09d}"
    assert not problems
    checkpoint.read(folder / name, state)
    return state.snapshot()


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def test_the_long_way_round_is_the_same_for_chunks_of_rows(digits: DigitsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row ids are made some steps at a time; how many is nobody's business."""
    from raymix.train import feed

    asked, runtime = digits(schedule=MIX), digits().runtime()
    monkeypatch.setattr(feed, "CHUNK", 2)
    states = []
    for chunk in (2, 256):
        monkeypatch.setattr(feed, "CHUNK", chunk)
        state = asked.state()
        trained(asked, state, runtime, steps=8)
        states.append(state.snapshot())
    assert_same(*states)


# ---- prepare ----------------------------------------------------------------------------------------------------


def test_prepare_leaves_no_trace(digits: DigitsOf) -> None:
    """Fresh and in the middle of a run: weights, moments and generators are as they were, bit by bit."""
    asked = digits(schedule={**MIX, "sl_drop": 0.5})
    state, runtime = asked.state(), asked.runtime()
    for steps in (0, 12):
        if steps:
            trained(asked, state, runtime, steps)
        before, generator = state.snapshot(), torch.get_rng_state()
        feed = Feed(asked.plan, asked.splits, runtime)
        _, rates = prepare(asked.plan, asked.plan.kinds, state, feed, runtime, None)
        assert_same(before, state.snapshot())
        assert torch.equal(generator, torch.get_rng_state())
        assert all(p.grad is None for p in state.model.parameters())
        assert rates.step_seconds.keys() == set(asked.plan.kinds) == {"ssl", "mix", "sl_drop", "sl"}
        assert all(0 < seconds < 5 for seconds in rates.step_seconds.values())
        assert rates.prepare_seconds > 0


def test_known_rates_are_kept(digits: DigitsOf) -> None:
    asked = digits()
    state, runtime = asked.state(), asked.runtime()
    feed, known = Feed(asked.plan, asked.splits, runtime), asked.rates(3)
    _, rates = prepare(asked.plan, asked.plan.kinds, state, feed, runtime, known)
    assert rates.step_seconds == known.step_seconds


def test_a_task_may_only_measure(digits: DigitsOf) -> None:
    asked = digits()
    outcome = execute(Task("digits", asked.plan, asked.splits, measure=("ssl", "sl_drop")), asked.runtime())
    assert outcome.history.rates.step_seconds.keys() == {"ssl", "sl_drop"}
    assert not outcome.complete
    assert outcome.correct == {}
    assert not outcome.history.reports


# ---- the books --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    [
        MIX,
        {**MIX, "interleave": "alternate", "mix_ratio": 1},
        {**MIX, "mix_ratio": 0, "sl_drop": 0.6},
        {"ssl_epochs": 1, "sl_epochs": 0},
    ],
    ids=["mix", "alternate", "sl_drop", "ssl"],
)
def test_reports_add_up_to_the_plan(digits: DigitsOf, schedule: dict[str, Any]) -> None:
    asked = digits(schedule=schedule, data={"fraction": 0.15, "label_fraction": 0.4})
    plan, batch = asked.plan, asked.plan.spec.optim.batch
    assert 0 < plan.facts.num_labelled < plan.facts.num_train
    outcome, watcher = asked.run(rates=asked.rates(4))
    assert tuple(watcher.reports) == outcome.history.reports
    assert sum(r.images for r in watcher.reports) == plan.num_steps * batch
    assert outcome.seen == positions(plan, plan.num_steps)
    assert sum(r.segment.steps for r in watcher.reports) == plan.num_steps
    for index, phase in enumerate(plan.phases):
        reports = [r for r in watcher.reports if r.segment.phase == index]
        mixed = sum(count for kind, count in phase.turns if kind == "mix")
        labelled = sum(count for kind, count in phase.turns if kind.startswith("sl"))
        found = sum(r.labelled for r in reports) - labelled * batch
        if mixed:  # a pass over all rows holds each label once; what is left of a pass is not known beforehand
            passes, rest = divmod(phase.steps * batch, plan.facts.num_train)
            assert passes * plan.facts.num_labelled <= found <= passes * plan.facts.num_labelled + rest
        else:
            assert found == 0
        for report in reports:
            kinds = {kind for kind, _ in report.segment.pattern}
            assert (report.ssl_loss is None) == (not kinds & {"ssl", "mix"})
            assert (report.sl_loss is None) == (kinds == {"ssl"})
            assert report.seconds >= report.data_seconds >= 0


def test_the_loss_reported_is_the_mean_over_the_steps_that_have_one(digits: DigitsOf) -> None:
    """With few labels most batches hold none; they have no CE, so they must not pull its mean towards 0."""
    asked = digits(
        data={"fraction": 0.5, "label_fraction": 0.03, "select": 0},
        schedule={"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 1},
        optim={"batch": 12, "lr": 1e-9, "label_smoothing": 0},
    )
    _, watcher = asked.run(rates=asked.rates(1000))
    (report,) = watcher.reports
    assert 0 < report.labelled < report.segment.steps, "some steps have no label"
    assert report.sl_loss == pytest.approx(math.log(10), abs=1e-3), "the classifier starts at zero and stays there"


def test_train_top1_counts_labelled_rows(digits: DigitsOf) -> None:
    asked = digits(data={"fraction": 0.15, "label_fraction": 0.3, "select": 0}, schedule={**MIX, "mix_ratio": 1})
    state = asked.state()
    stats = torch.stack(trained(asked, state, asked.runtime()))
    outcome, watcher = asked.run(rates=asked.rates(1000))
    (report,) = watcher.reports
    assert report.train_top1 == pytest.approx(100 * float(stats[:, 2].sum()) / report.labelled)
    assert report.ssl_loss == pytest.approx(float(stats[:, 0].mean()), rel=1e-5)
    assert outcome.seconds >= outcome.evaluate_seconds >= 0


def test_select_is_evaluated_as_often_as_asked(digits: DigitsOf) -> None:
    asked = digits(evaluate={"every": 0.25, "max_share": 1})
    _, watcher = asked.run(rates=asked.rates(1000))
    marks = [r.segment.start + r.segment.steps for r in watcher.reports if r.select_top1 is not None]
    num = asked.plan.num_steps
    labelled = asked.plan.phases[1].start  # before it, the classifier is what it was at the start
    assert marks == [mark for share in (0.25, 0.5, 0.75) if (mark := round(num * share)) > labelled]
    assert len(marks) == 2
    asked = digits(evaluate={"every": 0})
    _, watcher = asked.run(rates=asked.rates(1000))
    assert all(r.select_top1 is None for r in watcher.reports)


# ---- when it goes wrong -----------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run(digits: DigitsOf) -> None:
    asked = digits(
        optim={"batch": 24, "lr": 10, "warmup": 0, "betas": [0, 0]}, schedule={"ssl_epochs": 0, "sl_epochs": 3}
    )
    state, runtime = asked.state(), asked.runtime()
    with torch.no_grad():
        state.model.f.embed.weight.fill_(math.nan)
    feed = Feed(asked.plan, asked.splits, runtime)
    from raymix.plan import segment
    from raymix.train.loop import run_segment
    from raymix.train.stepper import stepper

    step = stepper(asked.plan, asked.plan.kinds, state, runtime)
    with pytest.raises(
        FloatingPointError, match=r"^the loss is not finite in steps 4 to 9: a lower optim\.lr may help$"
    ):
        run_segment(asked.plan, segment(asked.plan, 4, 6, evaluate=False), state, step, feed, runtime)


def test_images_in_read_only_memory_are_used_as_they_are(all_digits: Digits) -> None:
    """Ray's object store hands out arrays that must not be written; copying them would double the memory."""
    from raymix.train.cache import Cache

    pixels = all_digits.images.pixels
    pixels.flags.writeable = False
    try:
        cache = Cache(all_digits.images, torch.device("cpu"))
    finally:
        pixels.flags.writeable = True
    assert cache.pixels_NSSC.data_ptr() == pixels.ctypes.data
    ids = np.array([5, 0, 1796])
    assert np.array_equal(next(cache.batches(ids)).numpy(), pixels[ids])


def test_one_seed_is_one_model(digits: DigitsOf) -> None:
    """Whatever the process drew before, and without touching its generator; another seed is another model."""
    asked = digits()
    first = asked.state().snapshot()
    torch.rand(100)
    generator = torch.get_rng_state()
    assert_same(first, asked.state().snapshot())
    assert torch.equal(generator, torch.get_rng_state())
    other = digits(seed=1).state().snapshot()
    assert not torch.equal(first["model.f.embed.weight"], other["model.f.embed.weight"])


def test_rates_of_another_machine_do_not_change_the_result(digits: DigitsOf) -> None:
    asked = digits()
    slow = Rates(step_seconds={"ssl": 0.1, "mix": 3.0, "sl": 0.5})
    finals = [asked.run(rates=rates)[0].correct["raw"] for rates in (slow, asked.rates(50))]
    assert finals[0] is not None
    assert finals[1] is not None
    assert np.array_equal(*finals)
