"""What the backbone sees of an image: augmentation on the device, whole batches at a time, without host randomness.

Every random number is a function of the row's key, and no branch depends on one, so that a restart gives the same
pixels and a step can be compiled or captured as a CUDA graph.

B batch, C channels, S pixels a side as stored, H W pixels a side as seen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method import color, draw, filters
from raymix.method.draw import Key
from raymix.spec import Augment as AugmentSpec

# ImageNet's channel means and deviations, on the 0..255 scale of stored images
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_RATIO = math.log(4 / 3)  # aspect ratios from 3/4 to 4/3 (Szegedy et al. 2015)


class Drawn(NamedTuple):
    """The numbers in [0, 1) that make a view, a row for each image; None: nothing of that is asked for."""

    crop_B5: Tensor
    color_B6: Tensor | None
    filter_B3: Tensor | None
    erase_B5: Tensor | None


class Augment(nn.Module):
    """One setting of augmentation, drawn from each row's key. `num_channels`: 3, or 1 for grey images."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, spec: AugmentSpec, image_size: int, num_channels: int = 3) -> None:
        super().__init__()
        self.spec, self.image_size = spec, image_size
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        if num_channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        self.register_buffer("mean_C11", mean, persistent=False)
        self.register_buffer("std_C11", std, persistent=False)

    def normalise(self, x_BCHW: Tensor) -> Tensor:
        """Pixels of 0..255 to zero mean and unit deviation."""
        return (x_BCHW - self.mean_C11) / self.std_C11

    @torch.no_grad()
    def forward(self, x_BSSC: Tensor, key_B: Key, view: int = 0) -> Tensor:
        """Stored images (B, S, S, C) to an augmented, normalised float32 view (B, C, H, W).

        `view` picks independent draws of the same row.
        """
        with torch.autocast(x_BSSC.device.type, enabled=False):  # in bf16 a crop is off by up to an eighth of a pixel
            return self.change(x_BSSC, self._drawn(key_B, view))

    def change(self, x_BSSC: Tensor, drawn: Drawn) -> Tensor:
        """The view that follows from the numbers drawn for it; what is compiled, since it is the same in every step."""
        x_BCHW = self._crop(pixels(x_BSSC), drawn.crop_B5)
        if drawn.color_B6 is not None:
            x_BCHW = self._color(x_BCHW, drawn.color_B6)
        if drawn.filter_B3 is not None:
            x_BCHW = self._filter(x_BCHW, drawn.filter_B3)
        x_BCHW = self.normalise(x_BCHW)
        return x_BCHW if drawn.erase_B5 is None else self._erase(x_BCHW, drawn.erase_B5)

    def _drawn(self, key_B: Key, view: int) -> Drawn:
        spec = self.spec
        return Drawn(
            draw.uniform(key_B, draw.CROP + view, 5),
            draw.uniform(key_B, draw.COLOR + view, 6) if spec.color or spec.grayscale or spec.hue else None,
            draw.uniform(key_B, draw.FILTER + view, 3) if spec.blur or spec.solarize else None,
            draw.uniform(key_B, draw.ERASE + view, 5) if spec.erase else None,
        )

    @torch.no_grad()
    def clean(self, x_BSSC: Tensor) -> Tensor:
        """Stored images to their normalised centre (B, C, H, W), for evaluation."""
        edge = (x_BSSC.shape[1] - self.image_size) // 2
        return self.normalise(pixels(x_BSSC[:, edge : edge + self.image_size, edge : edge + self.image_size]))

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

    def _color(self, x_BCHW: Tensor, u_B6: Tensor) -> Tensor:
        """Brightness, contrast and saturation jitter, greyscale, hue jitter."""
        spec = self.spec
        left_out_B = u_B6[:, 5] >= spec.color_share
        if spec.color or spec.grayscale:
            factor_B3 = (1 + spec.color * (2 * u_B6[:, :3] - 1)).masked_fill(left_out_B[:, None], 1)
            bright_B, contrast_B, saturation_B = factor_B3.unbind(1)
            saturation_B = saturation_B.masked_fill(u_B6[:, 3] < spec.grayscale, 0)
            x_BCHW = color.jitter(x_BCHW, bright_B, contrast_B, saturation_B)
        if spec.hue:
            x_BCHW = color.turn_hue(x_BCHW, (spec.hue * (2 * u_B6[:, 4] - 1)).masked_fill(left_out_B, 0))
        return x_BCHW

    def _filter(self, x_BCHW: Tensor, u_B3: Tensor) -> Tensor:
        """Blur and solarise."""
        spec, size = self.spec, self.image_size
        blur_B, sigma_B, solarize_B = u_B3.unbind(1)
        if spec.blur:
            sigma_B = filters.sigma(size, sigma_B).masked_fill(blur_B >= spec.blur, 0)
            x_BCHW = filters.blur(x_BCHW, sigma_B, filters.radius(size))
        return color.solarize(x_BCHW, solarize_B < spec.solarize) if spec.solarize else x_BCHW

    def _erase(self, x_BCHW: Tensor, u_B5: Tensor) -> Tensor:
        """A rectangle in the mean colour, which is zero once normalised."""
        box = filters.erased(u_B5[:, 1:], self.image_size)
        is_erased_B = (u_B5[:, 0] < self.spec.erase).view(-1, 1, 1, 1)
        return x_BCHW.masked_fill(filters.inside(box, self.image_size, self.image_size) & is_erased_B, 0)


def pixels(x_BSSC: Tensor) -> Tensor:
    """Stored images (B, S, S, C) as float32 (B, C, S, S) from 0 to 255.

    uint8, or 16-bit images as their bits lie in int16: torch does little with uint16.
    """
    x_BCSS = x_BSSC.permute(0, 3, 1, 2)
    if x_BCSS.dtype == torch.uint8:
        return x_BCSS.to(torch.float32)
    return x_BCSS.to(torch.int32).bitwise_and(0xFFFF) / 257
