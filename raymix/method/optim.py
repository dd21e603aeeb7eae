"""One AdamW over everything that is trained."""

from __future__ import annotations

import torch
from torch import nn

from raymix.spec import Optim


def build(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused, with weight decay on matrices alone.

    The rate is a tensor on the parameters' device: it changes every step, without waiting for the device and without
    being compiled in. Gradients that a step does not produce stay None, so idle parts neither decay nor drift.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2]
    others = [p for p in parameters if p.ndim != 2]
    device = parameters[0].device
    lr = torch.tensor(optim.lr, dtype=torch.float32, device=device)
    groups = [
        {"params": matrices, "weight_decay": optim.weight_decay, "lr": lr},
        {"params": others, "weight_decay": 0.0, "lr": lr},  # one tensor: the groups share the rate
    ]
    return torch.optim.AdamW(groups, betas=optim.betas, fused=True, capturable=device.type == "cuda")
