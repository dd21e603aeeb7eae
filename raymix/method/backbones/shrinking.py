"""Parts of raymix's own ViT that leave it: hidden units of its perceptrons and heads of its attention.

While training they are masked: gates, buffers of 0 and 1 on the device, that every pass multiplies by. Afterwards they
are cut off, which gives the same logits by smaller matrices.

U hidden units of a block, H heads, D width of a head, E = H * D.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from raymix.method.backbones.base import Backbone
from raymix.method.backbones.vit import Block, Vit
from raymix.spec import Cut, JobError


def blocks_of(f: Backbone) -> list[Block]:
    """The blocks that parts can be taken out of.

    Raises:
        JobError: the backbone is not raymix's own ViT.
    """
    if not isinstance(f, Vit):
        raise JobError("shrink", "takes parts out of raymix's own ViT alone", "leave it out, or set backbone.type=vit")
    return [block for block in f.blocks if isinstance(block, Block)]


def add_gates(f: Backbone) -> None:
    """Gives every block gates, all open, where it has none."""
    for block in blocks_of(f):
        if block.units is None:
            weight = block.down.weight
            block.units = torch.ones(block.down.in_features, dtype=torch.float32, device=weight.device)
            block.channels = torch.ones(block.out.in_features, dtype=torch.float32, device=weight.device)


def is_masked(f: Backbone) -> bool:
    """Whether gates are closed; waits for the device."""
    return bool(torch.stack([(gate == 0).any() for gate in _gates(f)]).any())


def gradients(f: Backbone, losses: Iterable[Tensor]) -> list[Tensor]:
    """Of the gates of every unit and head, for each loss.

    Args:
        losses: Of K batches, each computed when it is asked for.

    Returns:
        For each block float64 (K, U) and (K, H), one after the other, on the CPU.
    """
    gates, numbers = _gates(f), [number for block in blocks_of(f) for number in size_of(block)]
    found: list[list[Tensor]] = [[] for _ in gates]
    with _derived(gates):
        for loss in losses:
            for kept, gradient, number in zip(found, torch.autograd.grad(loss, gates), numbers, strict=True):
                kept.append(gradient.cpu().double().view(number, -1).sum(1))  # the gate of a head stands there D times
    return [torch.stack(kept) for kept in found]


@torch.no_grad()
def close(f: Backbone, cut: Cut, found: list[Tensor]) -> None:
    """Closes the gates of what matters least in each block, so many as the cut says of those that are open.

    What a part matters is the squared gradient of its gate, over the batches: a first-order Taylor expansion of what
    the loss would change by without it (Molchanov et al. 2019, arXiv 1906.10771, their gates of 1). Of equal ones the
    first stay.

    Args:
        found: As `gradients` gives it.
    """
    for number, block in enumerate(blocks_of(f)):
        gates, values = _gates_of(block), [of.square().sum(0) for of in found[2 * number : 2 * number + 2]]
        parts = [gate.view(len(value), -1) for gate, value in zip(gates, values, strict=True)]
        left = cut.left(*(int(part[:, 0].sum()) for part in parts))
        for part, value, num in zip(parts, values, left, strict=True):
            closed = part[:, 0].cpu() == 0
            order = value.masked_fill(closed, -1.0).argsort(descending=True, stable=True)
            fresh = torch.zeros(len(value)).index_fill_(0, order[:num], 1.0)
            part.copy_(fresh[:, None].expand_as(part))


@torch.no_grad()
def cut_off(f: Backbone) -> None:
    """Takes what closed gates mask out of the matrices, and all gates away."""
    for block in blocks_of(f):
        unit, channel = (gate.nonzero()[:, 0] for gate in _gates_of(block))
        block.units = block.channels = None
        of_qkv = torch.cat([channel + part * block.out.in_features for part in range(3)])  # queries, keys, values
        block.heads = len(channel) // block.head_width
        block.qkv, block.out = _part(block.qkv, rows=of_qkv), _part(block.out, columns=channel)
        block.up, block.down = _part(block.up, rows=unit), _part(block.down, columns=unit)


def resize(f: Backbone, num_units: int, num_heads: int) -> None:
    """Cuts blocks to that size, whichever parts go: for weights of that size, which are to be loaded."""
    add_gates(f)
    for block in blocks_of(f):
        units, channels = _gates_of(block)
        units[num_units:] = 0
        channels[num_heads * block.head_width :] = 0
    cut_off(f)


def size_of(block: Block) -> tuple[int, int]:
    """Hidden units and heads of a block, masked ones included."""
    return block.down.in_features, block.heads


def _gates_of(block: Block) -> tuple[Tensor, Tensor]:
    assert block.units is not None
    assert block.channels is not None
    return block.units, block.channels


def _gates(f: Backbone) -> list[Tensor]:
    return [gate for block in blocks_of(f) for gate in _gates_of(block)]


@contextlib.contextmanager
def _derived(gates: list[Tensor]) -> Iterator[None]:
    """Within it losses can be derived by the gates."""
    for gate in gates:
        gate.requires_grad_(True)
    try:
        yield
    finally:
        for gate in gates:
            gate.requires_grad_(False)


def _part(layer: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None) -> nn.Linear:
    """The layer with some of its outputs (rows) and inputs (columns) alone; None: all."""
    weight = layer.weight if rows is None else layer.weight[rows]
    weight = weight if columns is None else weight[:, columns]
    made = nn.Linear(weight.shape[1], weight.shape[0], device="meta")  # without a draw from torch's generator
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = nn.Parameter((layer.bias if rows is None else layer.bias[rows]).detach().clone())
    return made
