"""What the backbone sees of an image: augmentation on the device, whole batches at a time, without host randomness.

B batch, C channels, S pixels a side as stored, H W pixels a side as seen.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method import draw
from raymix.method.draw import Key
from raymix.spec import Augment as AugmentSpec

# ImageNet's channel means and deviations, on the 0..255 scale of stored images
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_RATIO = math.log(4 / 3)  # aspect ratios from 3/4 to 4/3 (Szegedy et al. 2015)


class Augment(nn.Module):
    """Random resized crop, flip, colour jitter and greyscale, drawn from each row's key."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, spec: AugmentSpec, image_size: int) -> None:
        super().__init__()
        self.spec, self.image_size = spec, image_size
        self.register_buffer("mean_C11", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def normalise(self, x_BCHW: Tensor) -> Tensor:
        """Pixels of 0..255 to zero mean and unit deviation."""
        return (x_BCHW - self.mean_C11) / self.std_C11

    @torch.no_grad()
    def forward(self, x_BSSC: Tensor, key_B: Key, view: int = 0) -> Tensor:
        """Stored uint8 images (B, S, S, C) to an augmented, normalised float32 view (B, C, H, W).

        `view` picks independent draws of the same row.
        """
        x_BCSS = x_BSSC.permute(0, 3, 1, 2).to(torch.float32)
        x_BCHW = self._crop(x_BCSS, draw.uniform(key_B, draw.CROP + view, 5))
        if self.spec.color or self.spec.grayscale:
            x_BCHW = self._color(x_BCHW, draw.uniform(key_B, draw.COLOR + view, 4))
        return self.normalise(x_BCHW)

    @torch.no_grad()
    def clean(self, x_BSSC: Tensor) -> Tensor:
        """Stored uint8 images to their normalised centre (B, C, H, W), for evaluation."""
        edge = (x_BSSC.shape[1] - self.image_size) // 2
        x_BHWC = x_BSSC[:, edge : edge + self.image_size, edge : edge + self.image_size]
        return self.normalise(x_BHWC.permute(0, 3, 1, 2).to(torch.float32))

    def _crop(self, x_BCSS: Tensor, u_B5: Tensor) -> Tensor:
        """Random resized crop and flip as one affine sampling."""
        smallest, largest = self.spec.crop
        area_B, ratio_B, left_B, top_B, flip_B = u_B5.unbind(1)
        area_B = smallest + (largest - smallest) * area_B
        root_B = torch.exp((ratio_B - 0.5) * _RATIO)  # square root of the aspect ratio
        # where a side would leave the image the ratio gives way, so that the area is what was drawn
        width_B = (area_B.sqrt() * root_B).clamp(max=1).maximum(area_B)
        height_B = area_B / width_B
        # affine_grid's frame runs from -1 to 1: a crop of width w may stand anywhere within +-(1 - w)
        x_B = (2 * left_B - 1) * (1 - width_B)
        y_B = (2 * top_B - 1) * (1 - height_B)
        if self.spec.flip:
            width_B = torch.where(flip_B < 0.5, width_B, -width_B)
        zero_B = torch.zeros_like(x_B)
        theta_B23 = torch.stack((width_B, zero_B, x_B, zero_B, height_B, y_B), 1).view(-1, 2, 3)
        size = [x_BCSS.shape[0], x_BCSS.shape[1], self.image_size, self.image_size]
        grid_BHW2 = F.affine_grid(theta_B23, size, align_corners=False)
        return F.grid_sample(x_BCSS, grid_BHW2, mode="bilinear", padding_mode="border", align_corners=False)

    def _color(self, x_BCHW: Tensor, u_B4: Tensor) -> Tensor:
        """Brightness, contrast and saturation jitter, and greyscale."""
        factor_B3 = 1 + self.spec.color * (2 * u_B4[:, :3] - 1)
        bright, contrast, saturation = (factor_B3[:, i].view(-1, 1, 1, 1) for i in range(3))
        x_BCHW = x_BCHW * bright
        mean_B111 = _luma(x_BCHW).mean((2, 3), keepdim=True)
        x_BCHW = mean_B111 + (x_BCHW - mean_B111) * contrast
        gray_B1HW = _luma(x_BCHW)
        keep = torch.where(u_B4[:, 3].view(-1, 1, 1, 1) < self.spec.grayscale, torch.zeros_like(saturation), saturation)
        return (gray_B1HW + (x_BCHW - gray_B1HW) * keep).clamp(0, 255)


def _luma(x_BCHW: Tensor) -> Tensor:
    """Brightness as ITU-R 601 weighs it, (B, 1, H, W)."""
    red, green, blue = x_BCHW.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
