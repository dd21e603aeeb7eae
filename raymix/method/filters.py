"""Blur and random erasing, with parameters for each image.

B batch, C channels, H W pixels a side, T taps of the kernel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGMA = (0.1, 2.0)  # pixels, as SimCLR has them at 224 px (arXiv 2002.05709, appendix A)
_AREA = (0.02, 0.33)  # share of the image (Zhong et al. 2017, arXiv 1708.04896)
_RATIO = (math.log(0.3), math.log(3.3))  # height over width


def sigma(size: int, u_B: Tensor) -> Tensor:
    """Deviations of the blur in pixels, for images of `size` a side."""
    smallest, largest = (s * max(1.0, size / 224) for s in _SIGMA)
    return smallest + (largest - smallest) * u_B


def radius(size: int) -> int:
    """Pixels on each side that the kernel reaches: a tenth of the image in all, or three deviations if these are less.

    On small images the cut is what keeps the blur in proportion.
    """
    return max(1, min(size // 20, math.ceil(3 * _SIGMA[1] * max(1.0, size / 224))))


def blur(x_BCHW: Tensor, sigma_B: Tensor, radius: int) -> Tensor:
    """Gaussian blur, mirrored at the edges; an image whose sigma is 0 stays as it is, to the bit."""
    B, C, H, W = x_BCHW.shape
    square_T = torch.arange(-radius, radius + 1, device=x_BCHW.device).square()
    # a sigma this small leaves the middle tap alone
    weight_BT = torch.exp(-square_T / (2 * sigma_B.clamp(min=1e-3).square())[:, None])
    weight_BT = weight_BT / weight_BT.sum(1, keepdim=True)
    kernel_GT = weight_BT.repeat_interleave(C, 0)  # a group for each channel of each image
    x_1GHW = F.pad(x_BCHW.reshape(1, B * C, H, W), (radius,) * 4, mode="reflect")
    x_1GHW = F.conv2d(x_1GHW, kernel_GT[:, None, None, :], groups=B * C)
    x_1GHW = F.conv2d(x_1GHW, kernel_GT[:, None, :, None], groups=B * C)
    return x_1GHW.view(B, C, H, W)


class Box(NamedTuple):
    """A rectangle in each image, in whole pixels; int64 or float (B,)."""

    top_B: Tensor
    left_B: Tensor
    bottom_B: Tensor  # the first row below it
    right_B: Tensor


def inside(box: Box, height: int, width: int) -> Tensor:
    """Which pixels lie in the box of their image, bool (B, 1, H, W)."""
    top, left, bottom, right = (edge.view(-1, 1, 1, 1) for edge in box)
    row_H1 = torch.arange(height, device=top.device).view(-1, 1)
    column_W = torch.arange(width, device=top.device)
    return (row_H1 >= top) & (row_H1 < bottom) & (column_W >= left) & (column_W < right)


def erased(u_B4: Tensor, size: int) -> Box:
    """Rectangles of random area, shape and place that lie within images of `size` pixels a side."""
    area_B, ratio_B, top_B, left_B = u_B4.unbind(1)
    area_B = _AREA[0] + (_AREA[1] - _AREA[0]) * area_B
    ratio_B = torch.exp(_RATIO[0] + (_RATIO[1] - _RATIO[0]) * ratio_B)
    # where a side would leave the image the ratio gives way, so that the area is what was drawn
    height_B = (area_B * ratio_B).sqrt().clamp(max=1).maximum(area_B)
    rows_B = (height_B * size).round().clamp(min=1)
    columns_B = (area_B / height_B * size).round().clamp(min=1)
    top_B = (top_B * (size + 1 - rows_B)).floor()
    left_B = (left_B * (size + 1 - columns_B)).floor()
    return Box(top_B, left_B, top_B + rows_B, left_B + columns_B)
