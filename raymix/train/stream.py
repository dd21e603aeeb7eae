"""Images that do not fit: read, decoded and handed on in the order of the steps, every epoch anew.

B batch of this rank, T steps, W ranks, S pixels a side. A rank takes the positions p of a stream with p mod W = rank.
With tiles, rows are tiles; an image is read and decoded once for all of its tiles that a chunk asks for.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from raymix.data.frame import Frame, Pixels
from raymix.data.keep import CHUNK_BYTES
from raymix.data.order import Order
from raymix.data.rows import Ids
from raymix.plan import Stream
from raymix.train.supply import EVAL_BATCH, Source, as_tensor, to_device

# chunks of ids of images -> the pixels of each chunk, in that order; closing the iterator ends the reading
Read = Callable[[Sequence[Ids]], Generator[Pixels, None, None]]

LEG_CHUNKS = 256  # that one execution of the reader serves, unless it is told otherwise
LEAD_CHUNKS = 12  # left at most when the next execution begins, so that nobody waits for its start
AHEAD_CHUNKS = 2  # read and not yet asked for, beside what the reader itself holds


class Streamed:
    """A supply that keeps nothing."""

    where = "stream"

    def __init__(
        self,
        frame: Frame,
        device: torch.device,
        read: Read,
        chunk_bytes: int = CHUNK_BYTES,
        leg_chunks: int | None = None,
    ) -> None:
        self.frame, self.device = frame, device
        self._read = read if frame.tile is None else partial(_of_tiles, read, frame.num_tiles)
        self._chunk_rows = max(1, chunk_bytes // frame.nbytes) * frame.num_tiles
        self._leg_chunks = max(2, leg_chunks or LEG_CHUNKS)

    def open(self, orders: Mapping[Stream, Order], ends: Mapping[Stream, int], rank: int, world: int) -> _Flow:
        """For a task that takes every stream up to its position in `ends`."""
        row = self.frame._replace(tile=None)
        taps = {
            stream: _Tap(order, rank, world, ends[stream], self._chunk_rows, self._leg_chunks, row, self._read)
            for stream, order in orders.items()
        }
        return _Flow(taps, self.device)

    def batches(self, ids: Ids, most: int = EVAL_BATCH) -> Iterator[Tensor]:
        """The images of some rows, in that order, up to `most` at a time."""
        size = min(most, self._chunk_rows)
        chunks = [ids[first : first + size] for first in range(0, len(ids), size)]
        for first in range(0, len(chunks), self._leg_chunks):
            for pixels in self._read(chunks[first : first + self._leg_chunks]):
                yield to_device(as_tensor(pixels), self.device)


def _of_tiles(read: Read, num_tiles: int, chunks: Sequence[Ids]) -> Generator[Pixels, None, None]:
    """The pixels of each chunk of ids of tiles."""
    asked = [np.unique(chunk // num_tiles, return_inverse=True) for chunk in chunks]
    with closing(read([images for images, _ in asked])) as reading:
        for pixels, chunk, (_, places) in zip(reading, chunks, asked, strict=True):
            yield pixels[places, chunk % num_tiles]


class _Flow:
    """The images of one task's steps."""

    def __init__(self, taps: Mapping[Stream, _Tap], device: torch.device) -> None:
        self._taps, self._device = taps, device

    def begin(self, positions: Mapping[Stream, int]) -> None:
        """Begins to read streams that will be asked for soon; those that are being read go on."""
        for stream, position in positions.items():
            if not self._taps[stream].is_open:
                self._taps[stream].start(position)

    def wait(self) -> None:
        """Returns when the first images of every stream that is being read are there.

        Raises:
            what the reader raised.
        """
        for tap in self._taps.values():
            tap.wait()

    def steps(self, parts: Sequence[Source], ids_TB: Ids) -> Iterator[Tensor]:
        """A step's images, step by step."""
        for step in range(len(ids_TB)):
            pixels = [self._taps[part.stream].take(part.start + step * part.rows, part.rows) for part in parts]
            x_BSSC = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
            assert len(x_BSSC) == ids_TB.shape[1]
            yield to_device(as_tensor(x_BSSC), self._device)

    def close(self) -> None:
        """Ends the reading."""
        for tap in self._taps.values():
            tap.close()


class _Tap:
    """This rank's images of one stream, from any position on."""

    def __init__(
        self,
        order: Order,
        rank: int,
        world: int,
        end: int,
        chunk_rows: int,
        leg_chunks: int,
        frame: Frame,
        read: Read,
    ) -> None:
        self._order, self._rank, self._world, self._end = order, rank, world, end
        self._frame, self._read, self._leg_chunks = frame, read, leg_chunks
        self._lead_chunks = min(LEAD_CHUNKS, leg_chunks // 2)
        # positions of a chunk over all ranks; whole windows, so that no run is read twice
        self._span = max(1, chunk_rows * world // order.window) * order.window
        self._position = -1
        self._plan: Iterator[Ids] = iter(())
        self._legs: deque[_Leg] = deque()
        self._chunk, self._used = frame.empty(0), 0

    @property
    def is_open(self) -> bool:
        """Whether it is being read."""
        return self._position >= 0

    def take(self, position: int, count: int) -> Pixels:
        """This rank's share of the `count` positions from `position` on, (count / W, S, S, C)."""
        if position != self._position:
            self.start(position)
        self._position = position + count
        wanted = count // self._world
        if len(self._chunk) - self._used >= wanted:
            self._used += wanted
            return self._chunk[self._used - wanted : self._used]
        taken, filled = self._frame.empty(wanted), 0
        while filled < wanted:
            if self._used == len(self._chunk):
                self._chunk, self._used = self._next(), 0
            share = min(wanted - filled, len(self._chunk) - self._used)
            taken[filled : filled + share] = self._chunk[self._used : self._used + share]
            filled, self._used = filled + share, self._used + share
        return taken

    def wait(self) -> None:
        """Returns when the first images are there."""
        if self._legs and not len(self._chunk):
            self._chunk = self._next()

    def close(self) -> None:
        """Ends the reading."""
        while self._legs:
            self._legs.popleft().close()
        self._chunk, self._used, self._position = self._frame.empty(0), 0, -1

    def start(self, position: int) -> None:
        """Begins to read at a position."""
        self.close()
        self._position, self._plan = position, self._chunks(position)
        self._add_leg()

    def _add_leg(self) -> None:
        chunks = list(islice(self._plan, self._leg_chunks))
        if chunks:
            self._legs.append(_Leg(self._read, chunks))

    def _next(self) -> Pixels:
        pixels = self._legs[0].next()
        if not self._legs[0].left:
            self._legs.popleft().close()
            if not self._legs:
                self._add_leg()
        elif self._legs[0].left <= self._lead_chunks and len(self._legs) == 1:
            self._add_leg()
        return pixels

    def _chunks(self, position: int) -> Iterator[Ids]:
        """This rank's rows from a position to the end, in pieces."""
        while position < self._end:
            stop = min(self._border(position), self._end)
            ids, _ = self._order.rows(position, stop - position)
            mine = ids[(self._rank - position) % self._world :: self._world]
            if len(mine):
                yield mine
            position = stop

    def _border(self, position: int) -> int:
        """Where the chunk of a position ends: windows are counted from the start of each epoch."""
        if self._order.window == 1:
            return position + self._span
        epoch, place = divmod(position, len(self._order))
        return epoch * len(self._order) + min(len(self._order), (place // self._span + 1) * self._span)


class _Leg:
    """One execution of the reader, in a thread of its own, a little ahead of who takes."""

    def __init__(self, read: Read, chunks: Sequence[Ids]) -> None:
        self.left = len(chunks)
        self._queue: queue.Queue[Pixels | BaseException] = queue.Queue(AHEAD_CHUNKS)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(read, chunks), name="raymix-stream", daemon=True)
        self._thread.start()

    def next(self) -> Pixels:
        """The next chunk's pixels.

        Raises:
            what the reader raised.
        """
        got = self._queue.get()
        if isinstance(got, BaseException):
            raise got
        self.left -= 1
        return got

    def close(self) -> None:
        """Ends the reading; returns when it has ended."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)  # a put that waits must not wait for ever
            except queue.Empty:
                continue

    def _run(self, read: Read, chunks: Sequence[Ids]) -> None:
        try:
            with closing(read(chunks)) as reading:
                for pixels in reading:
                    self._queue.put(pixels)
                    if self._closed.is_set():
                        break
        except BaseException as error:
            self._queue.put(error)
