"""How a decoded image is kept: its side, its channels, its bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.spec import NUM_CHANNELS, Channels, Region

Pixels = NDArray[Any]  # uint8, or uint16 where channels are gray16: (N, S, S, C), or one image without N


class Frame(NamedTuple):
    """What is kept of every image: the middle square of `region` (None: of all), at `size` pixels a side."""

    size: int
    channels: Channels = "rgb"
    region: Region | None = None

    @property
    def num_channels(self) -> int:
        """C: 3 for rgb, else 1."""
        return NUM_CHANNELS[self.channels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 for gray16."""
        return np.dtype(np.uint16 if self.channels == "gray16" else np.uint8)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(S, S, C)."""
        return self.size, self.size, self.num_channels

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size * self.num_channels * self.dtype.itemsize

    def empty(self, num: int) -> Pixels:
        """Room for `num` images, (num, S, S, C)."""
        return np.empty((num, *self.shape), self.dtype)
