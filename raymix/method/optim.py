"""One AdamW over everything that is trained, and the average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raymix.method.backbones import Layered
from raymix.spec import Optim


def build(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused, with weight decay on matrices and kernels alone.

    The rate is a tensor on the parameters' device: it changes every step, without waiting for the device and without
    being compiled in. Each factor of `optim.layer_decay` has groups and a rate of its own, see `set_rates`. Gradients
    that a step does not produce stay None, so idle parts neither decay nor drift. The moments are there from the start,
    so that a recorded step finds them where they will always be.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device, factors = parameters[0].device, _factors(model, optim.layer_decay)
    groups = []
    for factor in sorted({factors.get(p, 1.0) for p in parameters}, reverse=True):
        ours = [p for p in parameters if factors.get(p, 1.0) == factor]
        matrices, others = [p for p in ours if p.ndim in (2, 4)], [p for p in ours if p.ndim not in (2, 4)]
        lr = torch.tensor(optim.lr, dtype=torch.float32, device=device)
        groups += [
            {"params": matrices, "weight_decay": optim.weight_decay, "lr": lr, "factor": factor},
            {"params": others, "weight_decay": 0.0, "lr": lr, "factor": factor},  # one tensor: they share the rate
        ]
    optimizer = torch.optim.AdamW(groups, betas=optim.betas, fused=True, capturable=device.type == "cuda")
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def _factors(model: nn.Module, layer_decay: float) -> dict[nn.Parameter, float]:
    """By which a parameter's rate is smaller: layer_decay to the number of layers above it; 1 where none is named."""
    f = getattr(model, "f", None)
    if layer_decay == 1 or not isinstance(f, Layered):
        return {}
    return {parameter: layer_decay ** (f.num_blocks + 1 - depth) for parameter, depth in f.depths().items()}


@torch.no_grad()
def set_rates(optimizer: torch.optim.Optimizer, decayed: bool) -> None:
    """The rate of the first group, which has the factor 1, to all: in place, on the device.

    Layer-wise decay (BEiT, Bao et al. 2022, arXiv 2106.08254): `decayed` multiplies it by each group's factor. It is a
    means of fine-tuning, so SL steps alone have it: SSL and mix steps train all blocks alike.
    """
    first, *others = optimizer.param_groups
    for group in others:
        if group["lr"] is not first["lr"]:
            torch.mul(first["lr"], group["factor"] if decayed else 1.0, out=group["lr"])


def restart(optimizer: torch.optim.Optimizer) -> None:
    """Moments and step counts as they were at the start, in place."""
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()


def decay_of(half_life: float, num_steps: int) -> float:
    """What an average of the weights keeps at each step, where half of it is new after a share of `num_steps`."""
    return float(0.5 ** (1 / max(1.0, half_life * num_steps)))


@torch.no_grad()
def average(averaged: list[Tensor], weights: list[Tensor], new: float | Tensor) -> None:
    """averaged = (1 - new) * averaged + new * weights, in place (Polyak and Juditsky 1992).

    `new` may lie on the device, float32 (): 0 leaves them as they are.
    """
    torch._foreach_lerp_(averaged, weights, [new] * len(weights) if isinstance(new, Tensor) else new)
