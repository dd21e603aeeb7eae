"""Modules as a user writes them: tokens that can be left out, a map, one vector an image, and what is no backbone."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """Patches, each seen by itself and then by all others; `keep` leaves the rest out."""

    def __init__(self, image_size: int, num_channels: int, width: int) -> None:
        super().__init__()
        self.patch, self.num_patches = 8, (image_size // 8) ** 2
        self.embed = nn.Conv2d(num_channels, width, 8, 8)
        self.position = nn.Parameter(torch.randn(1, self.num_patches, width))
        self.mix = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        z = self.embed(x).flatten(2).transpose(1, 2) + self.position
        if keep is not None:
            z = z.gather(1, keep[:, :, None].expand(-1, -1, z.shape[2]))
        mixed: Tensor = self.mix(z, z, z, need_weights=False)[0]
        return z + mixed


def tokens(image_size: int, num_channels: int, width: int = 16) -> nn.Module:
    """(B, L, D), any of them left out."""
    return Tokens(image_size, num_channels, width)


def conv(image_size: int, num_channels: int) -> nn.Module:
    """(B, D, h, w)."""
    return nn.Sequential(
        nn.Conv2d(num_channels, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, padding=1)
    )


def vector(image_size: int, num_channels: int) -> nn.Module:
    """(B, D)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(num_channels * image_size**2, 16))


class Stubborn(nn.Module):
    """Computes with its weights while it is made, and holds a tensor that torch does not know of."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_channels, 4, 8, 8)
        self.scale = torch.tensor([self.conv.weight.abs().max().item()])

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.conv(x) / self.scale
        return z


def stubborn(image_size: int, num_channels: int) -> nn.Module:
    """What cannot be on the meta device."""
    return Stubborn(num_channels)


def number(image_size: int, num_channels: int) -> int:
    """No module."""
    return image_size


def pair(image_size: int, num_channels: int) -> nn.Module:
    """Two outputs."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * self.scale, x

    return Pair()


def miscounted(image_size: int, num_channels: int) -> nn.Module:
    """Says that it has more tokens than it gives."""
    made = Tokens(image_size, num_channels, 16)
    made.num_patches += 1
    return made
