"""Changes of colour with a strength for each image: jitter, greyscale, hue, solarise.

B batch, C channels (3, or 1 of grey images), H W pixels a side; pixels are float32 from 0 to 255.
"""

from __future__ import annotations

import torch
from torch import Tensor


def jitter(x_BCHW: Tensor, bright_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Brightness, contrast and saturation times their factors, in this order; saturation 0 is greyscale."""
    bright, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in (bright_B, contrast_B, saturation_B))
    x_BCHW = x_BCHW * bright
    mean_B111 = _luma(x_BCHW).mean((2, 3), keepdim=True)
    x_BCHW = mean_B111 + (x_BCHW - mean_B111) * contrast
    if x_BCHW.shape[1] > 1:
        gray_B1HW = _luma(x_BCHW)
        x_BCHW = gray_B1HW + (x_BCHW - gray_B1HW) * saturation
    return x_BCHW.clamp(0, 255)


def turn_hue(x_BCHW: Tensor, turns_B: Tensor) -> Tensor:
    """Hue moved by a part of the colour circle; value and saturation (HSV) stay."""
    red, green, blue = x_BCHW.unbind(1)
    top_BHW = x_BCHW.amax(1)
    chroma_BHW = top_BHW - x_BCHW.amin(1)
    some_BHW = chroma_BHW.clamp(min=1e-6)  # grey has no hue: its chroma of 0 takes whatever comes out below to nothing
    # in sixths of the circle, from red
    hue_BHW = torch.where(
        top_BHW == red,
        (green - blue) / some_BHW,
        torch.where(top_BHW == green, 2 + (blue - red) / some_BHW, 4 + (red - green) / some_BHW),
    )
    hue_BHW = hue_BHW + 6 * turns_B.view(-1, 1, 1)
    corner_3 = torch.arange(5, 0, -2, device=x_BCHW.device).view(3, 1, 1)  # of red, green and blue
    away_BCHW = (hue_BHW[:, None] + corner_3).remainder(6)
    lack_BCHW = torch.minimum(away_BCHW, 4 - away_BCHW).clamp(0, 1)
    return top_BHW[:, None] - chroma_BHW[:, None] * lack_BCHW


def solarize(x_BCHW: Tensor, where_B: Tensor) -> Tensor:
    """Pixels of 128 and more inverted in the images of `where_B` (bool)."""
    return torch.where((x_BCHW >= 128) & where_B.view(-1, 1, 1, 1), 255 - x_BCHW, x_BCHW)


def _luma(x_BCHW: Tensor) -> Tensor:
    """Brightness as ITU-R 601 weighs it, (B, 1, H, W)."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
