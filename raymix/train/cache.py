"""The decoded images of a run, on the device or in host memory, by row id.

N rows, B batch, S pixels a side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raymix.data.reading import Images
from raymix.spec import JobError

DEVICE_SHARE = 0.4  # of the device's memory that images may take


class Cache:
    """Images (N, S, S, 3) uint8, kept where `where` says (`auto`: on the device if they fit, else on the host)."""

    def __init__(self, images: Images, device: torch.device, where: str = "auto") -> None:
        self.device, self._slots = device, images.slots
        pixels = images.pixels if images.pixels.flags.writeable else _readable(images.pixels)
        host_NSSC = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels)
        fits = (
            device.type == "cuda"
            and host_NSSC.nbytes <= DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory
        )
        if where == "device" and device.type == "cuda" and not fits:
            problem = f"{host_NSSC.nbytes:,} bytes of images are more than {DEVICE_SHARE:.0%} of the GPU's memory"
            raise JobError("data.cache", problem, "use auto or host")
        self.on_device = fits and where != "host"
        self.pixels_NSSC = host_NSSC.to(device) if self.on_device else host_NSSC

    def slots(self, ids: np.ndarray) -> Tensor:
        """Where rows lie in the cache, int64, on the device that holds the images."""
        slots = torch.from_numpy(self._slots[ids])
        return slots.to(self.device, non_blocking=True) if self.on_device else slots

    def take(self, slots_B: Tensor) -> Tensor:
        """Images (B, S, S, 3) uint8 on the training device."""
        x_BSSC = self.pixels_NSSC.index_select(0, slots_B)
        if self.on_device or self.device.type == "cpu":
            return x_BSSC
        return x_BSSC.pin_memory().to(self.device, non_blocking=True)


def _readable(pixels: np.ndarray) -> Tensor:
    """A tensor over memory that must not be written (Ray's object store shares it between processes)."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that writing would be undefined; nothing writes here
        return torch.from_numpy(pixels)
