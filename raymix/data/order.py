"""Row order as a pure function: one endless stream a source, the epochs' permutations end to end.

Batch k holds positions kB to (k+1)B and rank r of W takes its r-th W-th, so a restart, another number of workers or a
segment cut elsewhere changes nothing.
"""

from __future__ import annotations

import zlib

import numpy as np

from raymix.data.rows import Ids


class Order:
    """The stream `stream` over the rows `ids`, in the order that `seed` gives it."""

    def __init__(self, ids: Ids, seed: int, stream: str) -> None:
        self._ids = np.ascontiguousarray(ids, dtype=np.int64)
        self._seed = seed
        self._stream = stream
        self._recent: dict[int, Ids] = {}

    def rows(self, start: int, count: int) -> tuple[Ids, Ids]:
        """Row ids and epoch numbers of the positions [start, start + count), each int64 (count,).

        Raises:
            ValueError: the stream has no rows.
        """
        assert min(start, count) >= 0, (start, count)
        num_rows = len(self._ids)
        if not num_rows:
            raise ValueError(f"the stream '{self._stream}' has no rows")
        positions = np.arange(start, start + count, dtype=np.int64)
        epochs, places = np.divmod(positions, num_rows)
        found = np.empty(count, dtype=np.int64)
        for epoch in range(start // num_rows, -(-(start + count) // num_rows)):
            first = max(start, epoch * num_rows) - start
            last = min(start + count, (epoch + 1) * num_rows) - start
            found[first:last] = self._permutation(epoch)[places[first:last]]
        return found, epochs

    def _permutation(self, epoch: int) -> Ids:
        """All ids in the order of one epoch; the last two are kept, for speed alone."""
        known = self._recent.get(epoch)
        if known is None:
            # crc32: a number for the stream's name that is the same in every process, unlike hash()
            generator = np.random.default_rng([self._seed, zlib.crc32(self._stream.encode()), epoch])
            known = generator.permutation(self._ids)
            # a new dict instead of a change to the old one: a prefetching thread may be reading it
            self._recent = {**dict(list(self._recent.items())[-1:]), epoch: known}
        return known
