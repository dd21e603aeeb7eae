"""The running statistics of BatchNorm, estimated anew before the model is evaluated or saved.

While training they stay as they are: an average over masked, augmented and clean batches, of weights that have changed
since, would describe none of them. Here they become those of clean training images under the present weights, as in
"precise BatchNorm" (Wu and Johnson 2021, arXiv 2105.07576, section 3).

B images of a batch, S pixels a side as stored, C channels of a layer, K batches of this rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raymix.data.order import Order
from raymix.data.rows import Ids
from raymix.method.steps import Model
from raymix.plan import Plan
from raymix.train.compiling import eager
from raymix.train.runtime import Runtime
from raymix.train.stepper import autocast_dtype
from raymix.train.supply import EVAL_BATCH

NUM_BATCHES = 50

Moments = NDArray[np.float64]  # (K, 3, C): values a channel, their mean and variance, of each batch


@torch.no_grad()
def settle(plan: Plan, model: Model, ids: Ids, runtime: Runtime) -> None:
    """Sets the running mean and variance of the backbone's BatchNorm layers, the same on every rank.

    They are those of up to 50 batches without augmentation: the first of the job's own order of `ids`, the training
    rows or their tiles. A batch lies on one rank as a whole, so the number of ranks changes nothing. Nothing is read
    without such layers. The model is left in evaluation mode; nothing else of it changes.
    """
    layers = {name: layer for name, layer in model.f.named_modules() if _is_settled(layer)}
    if not layers:
        return
    model.eval()
    size = min(plan.spec.batch, EVAL_BATCH)
    num = max(1, min(NUM_BATCHES, len(ids) // size))
    rows, _ = Order(ids, plan.spec.seed, "all", plan.facts.run).rows(0, num * size)
    mine = rows.reshape(num, size)[runtime.rank :: runtime.world]
    dtype = autocast_dtype(plan, runtime.device)
    with (
        eager(),
        _measured(layers) as measured,
        torch.autocast(runtime.device.type, dtype, enabled=dtype is not None),
    ):
        for x_BSSC in _of_size(runtime.supply.batches(mine.reshape(-1)), size):
            runtime.pulse.moves += 1
            model.f(model.a.clean(x_BSSC))
    local = {name: torch.stack(seen).double().cpu().numpy() for name, seen in measured.items() if seen}
    ranks: list[dict[str, Moments]] = runtime.gather(local)
    for name, layer in layers.items():
        if parts := [found[name] for found in ranks if name in found]:
            _set(layer, np.concatenate(parts))


def _is_settled(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


@contextmanager
def _measured(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Within it each layer normalises by the batch's own statistics, and these are kept: (3, C) a pass.

    The batch's statistics stand in for the running ones, and the layer runs in evaluation mode: layers that do more
    than normalise are served too, no counter moves, and SyncBatchNorm waits for nobody.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}

    def hook(name: str) -> Any:
        def measure(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            x = arguments[0].float()
            over = [dim for dim in range(x.ndim) if dim != 1]
            variance_C, mean_C = torch.var_mean(x, over, correction=0)
            assert isinstance(layer.running_mean, Tensor)
            assert isinstance(layer.running_var, Tensor)
            layer.running_mean.copy_(mean_C)
            layer.running_var.copy_(variance_C)
            kept[name].append(torch.stack((torch.full_like(mean_C, x.numel() / len(mean_C)), mean_C, variance_C)))

        return measure

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _of_size(pieces: Iterator[Tensor], size: int) -> Iterator[Tensor]:
    """The same images, `size` at a time, however they come."""
    held: Tensor | None = None
    for piece in pieces:
        held = piece if held is None else torch.cat((held, piece))
        while len(held) >= size:
            yield held[:size]
            held = held[size:]


def _set(layer: nn.Module, moments: Moments) -> None:
    """Mean and variance over all batches: the variance within them and between them, unbiased as torch has it."""
    num_C, mean_KC, variance_KC = moments[:, 0].sum(0), moments[:, 1], moments[:, 2]
    share_KC = moments[:, 0] / num_C
    mean_C = (share_KC * mean_KC).sum(0)
    variance_C = (share_KC * (variance_KC + (mean_KC - mean_C) ** 2)).sum(0) * num_C / np.maximum(num_C - 1, 1)
    for buffer, values_C in ((layer.running_mean, mean_C), (layer.running_var, variance_C)):
        assert isinstance(buffer, Tensor)
        buffer.copy_(torch.from_numpy(values_C))  # in place: a recorded step knows where it lies
