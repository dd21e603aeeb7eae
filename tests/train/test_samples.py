"""Sample images at the end of a run: the rows as they are, and what the objective makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_runs import Digits

from raymix.plan import Plan, segment
from raymix.report.history import History, Rates, SegmentReport
from raymix.train import samples as module
from raymix.train.samples import NUM, samples
from raymix.train.state import TrainState
from raymix.train.task import Samples

DigitsOf = Callable[..., Digits]
SIMCLR = {"type": "simclr", "projector_width": 24, "output_width": 8}


def after(asked: Digits, *kinds: str) -> TrainState:
    """The state before any step, with a history of segments of these kinds."""
    state = asked.state()
    found = [report_of(asked.plan, phase) for phase, one in enumerate(asked.plan.phases) if one.kind in kinds]
    state.history = History(rates=Rates(step_seconds={}), reports=tuple(found))
    return state


def report_of(plan: Plan, phase: int) -> SegmentReport:
    whole = plan.phases[phase]
    return SegmentReport(
        segment=segment(plan, whole.start, 1, evaluate=False),
        seconds=1.0,
        data_seconds=0.0,
        images=1,
        labelled=0,
        ssl_loss=None,
        sl_loss=None,
        train_top1=None,
    )


def shown(asked: Digits, *kinds: str) -> Samples:
    found = samples(asked.plan, after(asked, *kinds), asked.splits, asked.runtime())
    assert found is not None
    return found


def test_the_end_of_a_run_has_rows_that_were_never_trained_on(digits: DigitsOf) -> None:
    asked = digits()
    outcome, _ = asked.run()
    found = outcome.samples
    assert found is not None
    ids = asked.splits.val[np.linspace(0, len(asked.splits.val) - 1, NUM).round().astype(int)]
    assert np.array_equal(found.labels, asked.rows.labels[ids])
    assert list(found.pictures) == ["image", "masked", "reconstructed"]
    assert np.array_equal(found.pictures["image"], asked.images.pixels[asked.images.slots[ids]]), "as they are"
    assert found.predicted is not None
    assert found.predicted.shape == (NUM,)


@pytest.mark.parametrize("options", [{}, {"ssl_pass": "full"}, {"decode_from": 2}])
def test_hidden_patches_are_grey_and_the_others_as_they_were(digits: DigitsOf, options: dict[str, object]) -> None:
    objective = {"type": "mae", "mask_ratio": 0.75, "decoder_width": 32, "decoder_depth": 1}
    found = shown(digits(objective={**objective, **options}), "ssl", "mix", "sl")
    image, masked, drawn = (found.pictures[name] for name in ("image", "masked", "reconstructed"))
    grey = np.array([124, 116, 104])
    hidden = (masked == grey).all(-1)
    assert hidden.mean() == pytest.approx(0.75)
    assert np.array_equal(masked[~hidden], image[~hidden])
    assert np.array_equal(drawn[~hidden], image[~hidden])
    assert not np.array_equal(drawn[hidden], image[hidden])
    patches = hidden.reshape(NUM, 4, 2, 4, 2)
    assert np.array_equal(patches.all((2, 4)), patches.any((2, 4))), "whole patches"


def test_a_decoder_that_draws_what_there_is_gives_the_image_back(digits: DigitsOf) -> None:
    asked = digits(objective={"type": "mae", "decoder_width": 32, "decoder_depth": 1, "norm_pixels": False})
    state = after(asked, "ssl")
    model = state.model
    images = next(iter(asked.runtime().supply.batches(asked.splits.val[:1])))
    value = model.a.clean(images).mean()
    with torch.no_grad():
        model.g.draw.weight.zero_()
        model.g.draw.bias.fill_(value)
    found = samples(asked.plan, state, asked.splits, asked.runtime())
    assert found is not None
    hidden = (found.pictures["masked"] != found.pictures["image"]).any(-1)
    pixel = (value * model.a.std_C11 + model.a.mean_C11).round().flatten().numpy()
    assert np.array_equal(np.unique(found.pictures["reconstructed"][hidden], axis=0), pixel[None])


def test_nothing_is_shown_of_what_was_not_learnt(digits: DigitsOf) -> None:
    asked = digits()
    assert list(shown(asked, "sl").pictures) == ["image"]
    assert shown(asked, "ssl").predicted is None
    assert shown(asked, "mix").predicted is not None
    assert samples(asked.plan, after(asked), asked.splits, asked.runtime()) is None, "no step was done"


def test_without_val_select_is_shown_and_without_both_nothing(digits: DigitsOf) -> None:
    asked = digits()
    none = np.zeros(0, dtype=np.int64)
    state = after(asked, "sl")
    found = samples(asked.plan, state, replace(asked.splits, val=none), asked.runtime())
    assert found is not None
    assert np.isin(found.labels, asked.rows.labels[asked.splits.select]).all()
    assert samples(asked.plan, state, replace(asked.splits, val=none, select=none), asked.runtime()) is None


def test_simclr_shows_its_two_views(digits: DigitsOf) -> None:
    found = shown(digits(objective=SIMCLR), "ssl")
    first, second = found.pictures["first view"], found.pictures["second view"]
    assert first.shape == second.shape == found.pictures["image"].shape
    assert not np.array_equal(first, second)


def test_large_images_are_shown_small(digits: DigitsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_SIDE", 4)
    found = shown(digits(), "ssl", "sl")
    assert {picture.shape for picture in found.pictures.values()} == {(NUM, 4, 4, 3)}


def test_looking_changes_nothing(digits: DigitsOf) -> None:
    asked = digits()
    state = after(asked, "ssl", "mix", "sl")
    before = state.snapshot()
    samples(asked.plan, state, asked.splits, asked.runtime())
    assert all(torch.equal(value, before[name]) for name, value in state.tensors().items())
