"""A backbone of one's own in which something goes wrong: at a white image, at a high rate, or for want of memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

FACTORY = "tests.planted:network"


class Network(nn.Module):
    """Two convolutions.

    Attributes:
        bad: what an all but white image makes of its tokens: "forward" NaN, "gradient" a NaN only when derived,
            "overflow" values whose square is infinite, "" nothing.
        probe: moves by the rate in each step; beyond `limit` the tokens are NaN.
        most: images of a step that fit into the memory of the only rank, or of the last one.
    """

    def __init__(self, channels: int, bad: str, limit: float, most: int, norm: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.probe = nn.Parameter(torch.zeros(1))
        self.bad, self.limit, self.most = bad, limit, most

    def forward(self, x: Tensor) -> Tensor:
        last = not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
        if self.training and last and len(x) > self.most:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {len(x)}.00 MiB. GPU 0 has a total capacity of 79.18 GiB."
            )
        z = self.conv2(F.relu(self.norm1(self.conv1(x))))
        z = Pushed.apply(z, self.probe)
        z = torch.where(self.probe.abs() > self.limit, torch.nan, 1.0) * z
        here = (x.mean((1, 2, 3)) > 0.5).float().view(-1, 1, 1, 1)
        if self.bad == "forward":
            z = z * torch.where(here > 0, torch.nan, 1.0)
        elif self.bad == "gradient":
            z = Spoilt.apply(z, here)
        elif self.bad == "overflow":
            z = z * torch.where(here > 0, 1e38, 1.0) * torch.where(here > 0, 1e3, 1.0)
        return z


class Spoilt(torch.autograd.Function):
    """The tokens as they are; the gradient is NaN where `here` is not 0."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, here: Tensor) -> Tensor:
        ctx.save_for_backward(here)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (here,) = ctx.saved_tensors
        return grads[0] * torch.where(here > 0, torch.nan, 1.0), None


class Pushed(torch.autograd.Function):
    """The tokens as they are; the probe is pushed up by Adam, at the rate."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, probe: Tensor) -> Tensor:
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        return grads[0], -grads[0].new_ones(1)


def network(
    image_size: int, num_channels: int, bad: str = "", limit: float = 1e9, most: int = 10**9, norm: bool = True
) -> nn.Module:
    return Network(num_channels, bad, limit, most, norm)


def backbone(**args: Any) -> dict[str, Any]:
    return {"type": "import", "factory": FACTORY, "args": args}
