"""BatchNorm's running statistics before an evaluation: those of clean training images, the same on every rank."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from normed import NORMS, model_of
from ranks import Ranks
from small_runs import Digits
from torch import Tensor

from raymix.data.order import Order
from raymix.method.steps import Model
from raymix.train.evaluate import evaluate
from raymix.train.norm import NUM_BATCHES, settle

DigitsOf = Callable[..., Digits]


def batches_of(digits: Digits, model: Model) -> list[Tensor]:
    """The clean batches that count, made anew."""
    size = digits.plan.spec.optim.batch
    num = min(NUM_BATCHES, len(digits.splits.train) // size)
    rows, _ = Order(digits.splits.train, digits.plan.spec.seed, "all").rows(0, num * size)
    pixels = torch.from_numpy(digits.images.pixels[digits.images.slots[rows]])
    return [model.a.clean(x_BSSC) for x_BSSC in pixels.split(size)]


@torch.no_grad()
def test_they_are_the_statistics_of_clean_training_images(digits: DigitsOf) -> None:
    asked = digits({}, optim={"batch": 24})
    model = model_of(asked)
    rival = copy.deepcopy(model.f)
    settle(asked.plan, model, asked.splits.train, asked.runtime())
    batches = batches_of(asked, model)
    assert len(batches) == NUM_BATCHES
    seen = model.f.conv1(torch.cat(batches)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(model.f.norm1.running_mean, seen.mean(1))
    torch.testing.assert_close(model.f.norm1.running_var, seen.var(1))
    # of a deeper layer: what each batch, normalised by its own statistics, brings to it
    for layer in (rival.norm1, rival.norm2):
        layer.momentum = None  # torch's cumulative average
    rival.train()
    rival.drop.eval()
    second: list[Tensor] = []
    rival.conv2.register_forward_hook(lambda _, __, output: second.append(output))
    for batch in batches:
        rival(batch)
    torch.testing.assert_close(model.f.norm2.running_mean, rival.norm2.running_mean)
    torch.testing.assert_close(model.f.norm2.running_var, torch.cat(second).transpose(0, 1).flatten(1).var(1))


def test_nothing_else_changes_and_again_is_the_same(digits: DigitsOf) -> None:
    asked = digits()
    model = model_of(asked).train()
    before = copy.deepcopy(model.state_dict())
    settle(asked.plan, model, asked.splits.train, asked.runtime())
    once = copy.deepcopy(model.state_dict())
    changed = {name for name, value in once.items() if not torch.equal(value, before[name])}
    assert changed == {f"f.{name}" for name in NORMS}
    settle(asked.plan, model, asked.splits.train, asked.runtime())
    assert all(torch.equal(value, once[name]) for name, value in model.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_without_batchnorm_nothing_is_read(digits: DigitsOf) -> None:
    asked, runtime = digits(), digits().runtime()

    def batches(ids: np.ndarray) -> Iterator[Tensor]:
        raise AssertionError("images were read")

    runtime.supply.batches = batches  # type: ignore[method-assign]
    state = asked.state()
    before = state.snapshot()
    settle(asked.plan, state.model, asked.splits.train, runtime)
    assert all(torch.equal(value, before[name]) for name, value in state.tensors().items())
    with pytest.raises(AssertionError, match="images were read"):
        settle(asked.plan, model_of(asked), asked.splits.train, runtime)


@pytest.mark.parametrize("piece", [7, 24, 1000])
def test_however_the_images_come(digits: DigitsOf, piece: int) -> None:
    """Streamed images come in pieces of their own size."""
    asked = digits()
    whole, model, runtime = model_of(asked), model_of(asked), asked.runtime()
    settle(asked.plan, whole, asked.splits.train, runtime)
    batches = runtime.supply.batches

    def in_pieces(ids: np.ndarray) -> Iterator[Tensor]:
        return (x for part in batches(ids) for x in part.split(piece))

    runtime.supply.batches = in_pieces  # type: ignore[method-assign]
    settle(asked.plan, model, asked.splits.train, runtime)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_trained_model_is_worth_what_it_learnt(digits: DigitsOf) -> None:
    """Running statistics that nobody set make a good model useless, and settled ones do not."""
    asked = digits({}, optim={"batch": 64})
    model, splits, runtime = model_of(asked), asked.splits, asked.runtime()
    optimizer = torch.optim.AdamW([*model.f.parameters(), *model.h.parameters()], lr=0.01)
    order = Order(splits.train, 0, "all")
    model.train()
    for step in range(120):
        rows, _ = order.rows(64 * step, 64)
        x = model.a.clean(torch.from_numpy(asked.images.pixels[asked.images.slots[rows]]))
        F.cross_entropy(model.h(model.f(x)), torch.from_numpy(splits.labels[rows])).backward()
        optimizer.step()
        optimizer.zero_grad()
    before = evaluate(asked.plan, model, splits.val, splits.labels, runtime).correct.mean()
    settle(asked.plan, model, splits.train, runtime)
    after = evaluate(asked.plan, model, splits.val, splits.labels, runtime).correct.mean()
    assert after > 0.9
    assert before < after - 0.05


# ---- three ranks --------------------------------------------------------------------------------------------------


def test_three_ranks_agree_with_one(ranks: Ranks) -> None:
    """Also where 3 does not divide the batches, 50, and where a rank has none."""
    for run, asked in enumerate(ranks.normed):
        model = model_of(asked)
        settle(asked.plan, model, asked.splits.train, asked.runtime())
        found = [settled[run] for settled in ranks.settled]
        for name in NORMS:
            torch.testing.assert_close(found[0][name], model.f.state_dict()[name], rtol=1e-6, atol=1e-7)
            assert all(torch.equal(other[name], found[0][name]) for other in found[1:]), name
