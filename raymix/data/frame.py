"""How a decoded image is kept: its side, its channels, its bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.spec import NUM_CHANNELS, Channels, Region, Tile, boxes_of

Pixels = NDArray[Any]  # uint8, or uint16 where channels are gray16: (N, *Frame.shape), or one image without N


class Frame(NamedTuple):
    """What is kept of every image: the middle square of `region` (None: of all), at `size` pixels a side.

    With `tile` the middle square of each tile of that region.
    """

    size: int
    channels: Channels = "rgb"
    region: Region | None = None
    tile: Tile | None = None

    @property
    def num_tiles(self) -> int:
        """T: tiles of an image, 1 without them."""
        return 1 if self.tile is None else self.tile.num

    @property
    def boxes(self) -> tuple[Region | None, ...]:
        """The T parts whose middle squares are kept; None: all of the image."""
        return boxes_of(self.region, self.tile)

    @property
    def num_channels(self) -> int:
        """C: 3 for rgb, else 1."""
        return NUM_CHANNELS[self.channels]

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 for gray16."""
        return np.dtype(np.uint16 if self.channels == "gray16" else np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (S, S, C), with tiles (T, S, S, C)."""
        square = self.size, self.size, self.num_channels
        return square if self.tile is None else (self.num_tiles, *square)

    @property
    def nbytes(self) -> int:
        """Bytes of one image, all of its tiles."""
        return self.num_tiles * self.size * self.size * self.num_channels * self.dtype.itemsize

    def empty(self, num: int) -> Pixels:
        """Room for `num` images, (num, *shape)."""
        return np.empty((num, *self.shape), self.dtype)
