"""Decoded images of many rows in one array, and what was skipped and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raymix.data.frame import Frame, Pixels
from raymix.data.rows import Ids


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows, read: `ids` int64 (n,) of the good ones, `pixels` (n, *Frame.shape), and id -> cause of the others."""

    ids: Ids
    pixels: Pixels
    skipped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answered:
    """Some rows, as a model sees them: `ids` int64 (n,) of the good ones, `values` float32 (n, K), others' causes."""

    ids: Ids
    values: NDArray[np.float32]
    skipped: dict[int, str]


@dataclass(frozen=True, eq=False)
class Images:
    """What a reader returns.

    Attributes:
        pixels: (n, *Frame.shape), good images by ascending row id, in whatever order they were read.
        slots: int64 over ALL rows: the place of a row in `pixels`, -1 where it is absent.
        skipped: row id -> cause, of the rows asked for that could not be read.
    """

    pixels: Pixels
    slots: Ids
    skipped: dict[int, str]

    @property
    def num_tiles(self) -> int:
        """T where pixels are (n, T, S, S, C), else 1."""
        return self.pixels.shape[1] if self.pixels.ndim == 5 else 1


class Assembly:
    """Images put together from parts that come in any order; each is copied into place once.

    Args:
        num_rows: of the whole index.
        ids: int64 row ids of all parts together.
        frame: how each image is kept.
        pixels: room for them, (len(ids), *Frame.shape); made here where there is none.
    """

    def __init__(self, num_rows: int, ids: Ids, frame: Frame, pixels: Pixels | None = None) -> None:
        self._ids = np.sort(ids)
        self._num_rows, self._num_read = num_rows, 0
        self._pixels = frame.empty(len(ids)) if pixels is None else pixels
        self._good = np.zeros(len(ids), dtype=np.bool_)
        self._skipped: dict[int, str] = {}

    def add(self, part: Part) -> None:
        """Copies a part into its place.

        Raises:
            ValueError: it holds rows that were not asked for.
        """
        places = self._places(part.ids)
        self._pixels[places] = part.pixels
        self.placed(part.ids, part.skipped)

    def placed(self, ids: Ids, skipped: dict[int, str]) -> None:
        """Rows whose pixels somebody else has put into their places, and rows that could not be read.

        Raises:
            ValueError: some were not asked for.
        """
        self._good[self._places(ids)] = True
        self._skipped.update(skipped)
        self._num_read += len(ids)

    def _places(self, ids: Ids) -> Ids:
        places = np.searchsorted(self._ids, ids)
        if (places >= len(self._ids)).any() or (self._ids[places] != ids).any():
            raise ValueError("a part holds rows that were not asked for")
        return places

    def images(self) -> Images:
        """All of them.

        Raises:
            ValueError: the parts did not cover the rows exactly.
        """
        num_read, num_asked = self._num_read, len(self._ids)
        if num_read + len(self._skipped) != num_asked or np.count_nonzero(self._good) != num_read:
            raise ValueError(f"{num_asked:,} rows asked for, {num_read:,} read and {len(self._skipped):,} skipped")
        _close_gaps(self._pixels, np.flatnonzero(~self._good))
        slots = np.full(self._num_rows, -1, dtype=np.int64)
        slots[self._ids[self._good]] = np.arange(num_read)
        return Images(pixels=self._pixels[:num_read], slots=slots, skipped=dict(sorted(self._skipped.items())))


def _close_gaps(pixels: Pixels, gaps: Ids) -> None:
    """Move images over the gaps, in place: a second array of this size may not fit."""
    until = np.append(gaps[1:], len(pixels))
    for moved, gap in enumerate(gaps):
        pixels[gap - moved : until[moved] - moved - 1] = pixels[gap + 1 : until[moved]]
