"""Where a step's images come from: kept (`cache.py`) or streamed (`stream.py`). B batch of this rank, T steps.

A row is asked for by id where images are kept; where they are streamed, by its position, and in order. With tiles
those are the rows, and ids are theirs (`raymix.data.tiles`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from raymix.data.frame import Pixels
from raymix.data.order import Order
from raymix.data.rows import Ids
from raymix.plan import Stream

EVAL_BATCH = 1024  # rows that are evaluated at once, at most


class Source(NamedTuple):
    """A part of every batch of some consecutive steps: `rows` of a stream a step, over all ranks, from `start` on."""

    stream: Stream
    start: int
    rows: int


class Flow(Protocol):
    """The images of one task's steps."""

    def begin(self, positions: Mapping[Stream, int]) -> None:
        """Where streams that will be asked for soon go on: reading begins."""

    def wait(self) -> None:
        """Returns when what has begun is ready."""

    def steps(self, parts: Sequence[Source], ids_TB: Ids) -> Iterator[Tensor]:
        """A step's images (B, S, S, C) on the device, step by step; `ids_TB` are this rank's rows of `parts`."""

    def close(self) -> None:
        """Nothing more is asked for."""


class Supply(Protocol):
    """All images of a session, for one training process."""

    @property
    def where(self) -> str:
        """device, host or stream."""

    def open(self, orders: Mapping[Stream, Order], ends: Mapping[Stream, int], rank: int, world: int) -> Flow:
        """For a task that takes every stream up to its position in `ends`."""

    def batches(self, ids: Ids, most: int = EVAL_BATCH) -> Iterator[Tensor]:
        """The images of some rows, in that order, up to `most` at a time, on the device."""


def as_tensor(pixels: Pixels) -> Tensor:
    """Stored pixels as a tensor over the same memory; 16 bits as int16, since torch does little with uint16."""
    import warnings

    pixels = pixels.view(np.int16) if pixels.dtype == np.uint16 else pixels
    with warnings.catch_warnings():
        # memory that several processes share must not be written; torch warns of it, and nothing writes here
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(pixels)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device, without waiting for the copy, or for what the device has still to do.

    Out of memory that is not pinned a copy of more than 64 kB is waited for, and so is all that was asked for before.
    """
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)
