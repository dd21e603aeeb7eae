"""Changes of colour with a strength for each image: jitter, greyscale, hue, solarise.

B batch, C channels (3, or 1 of grey images), H W pixels a side; pixels are float32 from 0 to 255.
"""

from __future__ import annotations

import torch
from torch import Tensor


def jitter(x_BCHW: Tensor, bright_B: Tensor, contrast_B: Tensor, saturation_B: Tensor) -> Tensor:
    """Brightness, contrast and saturation times their factors, in this order; saturation 0 is greyscale."""
    bright, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in (bright_B, contrast_B, saturation_B))
    x_BCHW = x_BCHW * bright  # ours from here on: what follows works in place
    mean_B111 = _luma(x_BCHW).mean((2, 3), keepdim=True)
    x_BCHW.sub_(mean_B111).mul_(contrast).add_(mean_B111)
    if x_BCHW.shape[1] > 1:
        gray_B1HW = _luma(x_BCHW)
        x_BCHW.sub_(gray_B1HW).mul_(saturation).add_(gray_B1HW)
    return x_BCHW.clamp_(0, 255)


def turn_hue(x_BCHW: Tensor, turns_B: Tensor) -> Tensor:
    """Hue moved by a part of the colour circle; value and saturation (HSV) stay."""
    red, green, blue = x_BCHW.unbind(1)
    top_BHW = torch.maximum(torch.maximum(red, green), blue)
    chroma_BHW = top_BHW - torch.minimum(torch.minimum(red, green), blue)
    is_red, is_green = top_BHW == red, top_BHW == green
    # in sixths of the circle: from red at 0, green at 2 or blue at 4; grey has a chroma of 0 and takes any hue
    hue_BHW = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    hue_BHW.div_(chroma_BHW.clamp(min=1e-6)).add_(torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0)))
    hue_BHW.add_(6 * turns_B.view(-1, 1, 1))
    corner_C11 = torch.arange(5, 0, -2, device=x_BCHW.device).view(3, 1, 1)  # of red, green and blue
    # a channel lacks all the chroma within a sixth of the place opposite to it, none within a sixth of its own
    lack_BCHW = (hue_BHW[:, None] + corner_C11).remainder_(6).sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(top_BHW[:, None], lack_BCHW, chroma_BHW[:, None], value=-1)


def solarize(x_BCHW: Tensor, where_B: Tensor) -> Tensor:
    """Pixels above half of the range inverted, in the images of `where_B` (bool)."""
    bound_B = torch.where(where_B, 255.0, 510.0)  # 510 - x is never below x
    return torch.minimum(x_BCHW, bound_B.view(-1, 1, 1, 1) - x_BCHW)


def _luma(x_BCHW: Tensor) -> Tensor:
    """Brightness as ITU-R 601 weighs it, (B, 1, H, W)."""
    if x_BCHW.shape[1] == 1:
        return x_BCHW
    red, green, blue = x_BCHW.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
