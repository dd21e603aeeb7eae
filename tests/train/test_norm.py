"""BatchNorm's running statistics before an evaluation: those of clean training images, the same on every rank."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from ranks import NUM, GlooRuntime
from small_runs import Digits
from torch import Tensor, nn

from raymix.data.order import Order
from raymix.method.backbones import Backbone
from raymix.method.steps import Model
from raymix.train.evaluate import evaluate
from raymix.train.norm import NUM_BATCHES, settle

DigitsOf = Callable[..., Digits]
NORMS = ("norm1.running_mean", "norm1.running_var", "norm2.running_mean", "norm2.running_var")


class ActedNorm(nn.BatchNorm2d):
    """Does more than normalise, as timm's BatchNormAct2d."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Convolutional(Backbone):
    """Two convolutions, each with its BatchNorm, and dropout, which evaluation leaves out."""

    def __init__(self, sync: bool = False) -> None:
        super().__init__()
        self.width, self.patch, self.num_patches, self.drops, self.token_shape = 12, 2, 16, False, (1, 3, 1, 1)
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm1 = nn.SyncBatchNorm(8, momentum=0.0) if sync else nn.BatchNorm2d(8, momentum=0.0)
        self.norm2 = ActedNorm(12, momentum=0.0)
        self.drop = nn.Dropout(0.2)

    def forward(self, x_BCHW: Tensor, *_: Any, **__: Any) -> Tensor:
        x = self.drop(F.relu(self.norm1(self.conv1(x_BCHW))))
        return self.norm2(self.conv2(x)).flatten(2).transpose(1, 2)

    def regions(self) -> list[nn.Module]:
        return []


def model_of(digits: Digits, sync: bool = False) -> Model:
    """The digits' model on the convolutional backbone, the same weights every time."""
    model = digits.state().model
    torch.manual_seed(0)
    model.f, model.h = Convolutional(sync), nn.Sequential(nn.Flatten(), nn.Linear(16 * 12, 10))  # type: ignore[assignment]
    return model


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
    before = evaluate(asked.plan, model, splits.val, splits.labels, runtime).mean()
    settle(asked.plan, model, splits.train, runtime)
    after = evaluate(asked.plan, model, splits.val, splits.labels, runtime).mean()
    assert after > 0.9
    assert before < after - 0.05


# ---- three ranks --------------------------------------------------------------------------------------------------


def test_three_ranks_agree_with_one(all_digits: Digits, digits_job: dict[str, Any], tmp_path: Path) -> None:
    """Also where 3 does not divide the batches, 50, and where a rank has none."""
    whole = all_digits.asked({**digits_job, "optim": {"batch": 24}})
    runs = [whole.with_splits(replace(whole.splits, train=whole.splits.train[:rows])) for rows in (1200, 50)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, runs, str(tmp_path)), nprocs=NUM)  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(NUM)]
    for run, asked in enumerate(runs):
        model = model_of(asked)
        settle(asked.plan, model, asked.splits.train, asked.runtime())
        for name in NORMS:
            torch.testing.assert_close(found[0][run][name], model.f.state_dict()[name], rtol=1e-6, atol=1e-7)
            assert all(torch.equal(other[run][name], found[0][run][name]) for other in found[1:]), name


def _rank(rank: int, port: int, runs: list[Digits], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=NUM)
    settled = []
    for digits in runs:
        model = model_of(digits, sync=True)  # which must not wait for ranks that have fewer batches
        settle(digits.plan, model, digits.splits.train, GlooRuntime(digits))
        settled.append(model.f.state_dict())
    torch.save(settled, f"{folder}/{rank}.pt")
    dist.destroy_process_group()
