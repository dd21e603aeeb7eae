"""One AdamW over everything that is trained, and the average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raymix.spec import Optim


def build(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused, with weight decay on matrices and kernels alone.

    The rate is a tensor on the parameters' device: it changes every step, without waiting for the device and without
    being compiled in. Gradients that a step does not produce stay None, so idle parts neither decay nor drift. The
    moments are there from the start, so that a recorded step finds them where they will always be.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim in (2, 4)]
    others = [p for p in parameters if p.ndim not in (2, 4)]
    device = parameters[0].device
    lr = torch.tensor(optim.lr, dtype=torch.float32, device=device)
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay, "lr": lr},
        {"params": others, "weight_decay": 0.0, "lr": lr},  # one tensor: the groups share the rate
    ]
    optimizer = torch.optim.AdamW(groups, betas=optim.betas, fused=True, capturable=device.type == "cuda")
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def restart(optimizer: torch.optim.Optimizer) -> None:
    """Moments and step counts as they were at the start, in place."""
    for state in optimizer.state.values():
        for value in state.values():
            value.zero_()


def decay_of(half_life: float, num_steps: int) -> float:
    """What an average of the weights keeps at each step, where half of it is new after a share of `num_steps`."""
    return float(0.5 ** (1 / max(1.0, half_life * num_steps)))


@torch.no_grad()
def average(averaged: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """averaged = decay * averaged + (1 - decay) * weights, in place (Polyak and Juditsky 1992)."""
    torch._foreach_lerp_(averaged, weights, 1 - decay)
