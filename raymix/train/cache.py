"""The decoded images of a run, kept on the device or in host memory, by row id.

N rows, B batch, T steps, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from raymix.data.images import Images
from raymix.data.order import Order
from raymix.data.rows import Ids
from raymix.data.tiles import images_of
from raymix.plan import Stream
from raymix.spec import JobError
from raymix.train.supply import EVAL_BATCH, Source, as_tensor, to_device

DEVICE_SHARE = 0.4  # of the device's memory that images may take


class Cache:
    """Images (N, S, S, C), kept where `where` says (`auto`: on the device if they fit, else on the host).

    With tiles those are the rows, T of them after another for each image.

    `share` of the device is this process's, where several train on it.
    """

    def __init__(self, images: Images, device: torch.device, where: str = "auto", share: float = 1.0) -> None:
        self.device, self._slots = device, images.slots
        self._num_tiles = images.num_tiles
        host_NSSC = as_tensor(images.pixels).flatten(0, -4)
        fits = (
            device.type == "cuda"
            and host_NSSC.nbytes <= DEVICE_SHARE * share * torch.cuda.get_device_properties(device).total_memory
        )
        if where == "device" and device.type == "cuda" and not fits:
            problem = (
                f"{host_NSSC.nbytes:,} bytes of images are more than {DEVICE_SHARE * share:.0%} of the GPU's memory"
            )
            raise JobError("data.cache", problem, "use auto or host")
        self.on_device = fits and where != "host"
        self.pixels_NSSC = host_NSSC.to(device) if self.on_device else host_NSSC

    @property
    def where(self) -> str:
        """device or host."""
        return "device" if self.on_device else "host"

    def open(self, orders: Mapping[Stream, Order], ends: Mapping[Stream, int], rank: int, world: int) -> Cache:
        """Itself: rows are found by id."""
        return self

    def begin(self, positions: Mapping[Stream, int]) -> None:
        """There is nothing to read."""

    def wait(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """Nothing is opened for a task."""

    def steps(self, parts: Sequence[Source], ids_TB: Ids) -> Iterator[Tensor]:
        """A step's images (B, S, S, C) on the training device, step by step."""
        for slots_B in self._places(ids_TB):
            yield self._take(slots_B)

    def batches(self, ids: Ids, most: int = EVAL_BATCH) -> Iterator[Tensor]:
        """The images of some rows, up to `most` at a time."""
        for slots_B in torch.split(self._places(ids), most):
            yield self._take(slots_B)

    def _places(self, ids: Ids) -> Tensor:
        """Where rows lie, int64, on the device that holds the images."""
        found = self._slots[images_of(ids, self._num_tiles)]
        if self._num_tiles > 1:
            found = found * self._num_tiles + ids % self._num_tiles
        slots = torch.from_numpy(found)
        return to_device(slots, self.device) if self.on_device else slots

    def _take(self, slots_B: Tensor) -> Tensor:
        x_BSSC = self.pixels_NSSC.index_select(0, slots_B)
        return x_BSSC if self.on_device else to_device(x_BSSC, self.device)
