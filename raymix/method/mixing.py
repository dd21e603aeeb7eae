"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899) for the supervised loss.

B batch of this rank, C channels, H W pixels a side, T places of a table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from raymix.method import draw
from raymix.method.draw import Key
from raymix.method.filters import Box, inside
from raymix.spec import Augment as AugmentSpec

_PLACES = 4097  # of a table; between two of them the inverse is taken as straight


class Pair(NamedTuple):
    """What stands in a mixed image besides its own label."""

    label_B: Tensor  # int64 labels of the partners
    own_B: Tensor  # lambda: the share of the image's own label, 1 where it is not mixed; float32


class Mixing(nn.Module):
    """Mixes each labelled image of a batch with its partner, row b with row B - 1 - b, by a share from its own key."""

    table_T: Tensor
    cut_table_T: Tensor

    def __init__(self, spec: AugmentSpec) -> None:
        super().__init__()
        self.mixup, self.cutmix = spec.mixup > 0, spec.cutmix > 0
        self.register_buffer("table_T", _beta_table(spec.mixup or spec.cutmix), persistent=False)
        self.register_buffer("cut_table_T", _beta_table(spec.cutmix or spec.mixup), persistent=False)

    @torch.no_grad()
    def forward(self, x_BCHW: Tensor, y_B: Tensor, key_B: Key) -> tuple[Tensor, Pair]:
        """Normalised images (B, C, H, W), their labels and keys to mixed images and what is in them.

        A row without a label (-1), or whose partner has none, stays as it is.
        """
        u_B4 = draw.uniform(key_B, draw.MIX, 4)
        partner_B = y_B.flip(0)
        both_B = (y_B >= 0) & (partner_B >= 0)
        other = self._other(u_B4, x_BCHW.shape[2], x_BCHW.shape[3]) * both_B.view(-1, 1, 1, 1)
        x_BCHW = torch.lerp(x_BCHW, x_BCHW.flip(0), other)
        return x_BCHW, Pair(partner_B, 1 - other.mean((1, 2, 3)))

    def _other(self, u_B4: Tensor, height: int, width: int) -> Tensor:
        """The partner's share of each pixel, (B, 1, H, W); (B, 1, 1, 1) where all pixels have the same."""
        share_B, which_B = u_B4[:, 0], u_B4[:, 1]
        mixed_B111 = (1 - _quantile(self.table_T, share_B)).view(-1, 1, 1, 1)
        if not self.cutmix:
            return mixed_B111
        box = _box(1 - _quantile(self.cut_table_T, share_B), u_B4[:, 2], u_B4[:, 3], height, width)
        cut_B1HW = inside(box, height, width).to(torch.float32)
        if not self.mixup:
            return cut_B1HW
        return torch.where((which_B < 0.5).view(-1, 1, 1, 1), mixed_B111, cut_B1HW)


def build(spec: AugmentSpec) -> Mixing | None:
    """The mixing that a job asks for, None where it asks for none."""
    return Mixing(spec) if spec.mixup or spec.cutmix else None


def _box(share_B: Tensor, y_B: Tensor, x_B: Tensor, height: int, width: int) -> Box:
    """Boxes of that share of the area around points anywhere in the image, cut off at its edges as the paper has it."""
    half_B = share_B.sqrt() / 2
    row_B, column_B = (y_B * height).floor(), (x_B * width).floor()
    down_B, across_B = (half_B * height).floor(), (half_B * width).floor()
    return Box(
        top_B=(row_B - down_B).clamp(min=0),
        left_B=(column_B - across_B).clamp(min=0),
        bottom_B=(row_B + down_B).clamp(max=height),
        right_B=(column_B + across_B).clamp(max=width),
    )


def _beta_table(alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha) at equal steps from 0 to 1, float32 (T,)."""
    from scipy.special import betaincinv  # takes a while to import, and few jobs mix

    return torch.from_numpy(betaincinv(alpha, alpha, np.linspace(0, 1, _PLACES)).astype(np.float32))


def _quantile(table_T: Tensor, u_B: Tensor) -> Tensor:
    """The table at u in [0, 1), straight between its places."""
    place_B = u_B * (len(table_T) - 1)
    low_B = place_B.to(torch.int64)
    return torch.lerp(table_T[low_B], table_T[low_B + 1], place_B - low_B)
