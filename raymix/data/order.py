"""Row order as a pure function: one endless stream a source of rows, the epochs' orders end to end.

Batch k holds positions kB to (k+1)B and rank r of W takes every W-th of them from its r-th on, so a restart, another
number of workers or a segment cut elsewhere changes nothing.

Images that are kept, or that lie in a file each, come in a full permutation an epoch. Images streamed out of larger
files (tar, Parquet) come in runs of neighbouring rows: 48 runs picked at random make a window, position i of it is of
run i mod 48, each run is shuffled. Every run is then read by one rank alone, for any number of workers that divides 48.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from raymix.data.rows import Ids
from raymix.data.splits import Splits
from raymix.data.tiles import images_of, tiles_of
from raymix.plan import SHARDS, Plan, Stream


class Order:
    """The stream `stream` over the rows `ids`, in the order that `seed` gives it.

    Args:
        ids: int64 row ids, sorted.
        run: neighbouring rows that are read together; 0 or 1 where any row is as cheap as its neighbour.
    """

    def __init__(self, ids: Ids, seed: int, stream: str, run: int = 0) -> None:
        self._ids = np.ascontiguousarray(ids, dtype=np.int64)
        self._seed = seed
        self._stream = stream
        self._run = run
        self._recent: dict[int, Ids] = {}

    def __len__(self) -> int:
        """Rows of an epoch."""
        return len(self._ids)

    @property
    def window(self) -> int:
        """Positions that share their runs; a part of them costs the reading of the whole."""
        return self._run * SHARDS if self._run > 1 else 1

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
            found[first:last] = self._epoch(epoch)[places[first:last]]
        return found, epochs

    def count(self, end: int, mask: NDArray[np.bool_]) -> int:
        """How many of the first `end` positions hold a row that `mask`, bool over all rows, picks."""
        if not len(self._ids):
            return 0
        epochs, rest = divmod(end, len(self._ids))
        whole = epochs * int(np.count_nonzero(mask[self._ids]))
        return whole + (int(np.count_nonzero(mask[self._epoch(epochs)[:rest]])) if rest else 0)

    def _epoch(self, epoch: int) -> Ids:
        """All ids in the order of one epoch; the last two are kept, for speed alone."""
        known = self._recent.get(epoch)
        if known is None:
            generator = self._generator(epoch)
            known = generator.permutation(self._ids) if self._run <= 1 else _in_runs(self._ids, self._run, generator)
            # a new dict instead of a change to the old one: a prefetching thread may be reading it
            self._recent = {**dict(list(self._recent.items())[-1:]), epoch: known}
        return known

    def _generator(self, *number: int) -> np.random.Generator:
        # crc32: a number for the stream's name that is the same in every process, unlike hash()
        return np.random.default_rng([self._seed, zlib.crc32(self._stream.encode()), *number])


class Balanced(Order):
    """The same with rare classes drawn more often: a class of n rows has a share of n^(1 - balance) of an epoch.

    `balance` 0.5 is square-root, 1 class-balanced sampling (Kang et al. 2020, arXiv 1910.09217). Each class is a stream
    of its own, its epochs' permutations end to end, of which every epoch takes the same number of rows. The epoch of a
    row is that of its class, so that one which comes twice in an epoch is augmented in two ways.

    Args:
        labels: int64, of each of `ids`; every class that there is has a row.
    """

    def __init__(self, ids: Ids, labels: Ids, seed: int, stream: str, balance: float) -> None:
        super().__init__(ids, seed, stream)
        self._classes = [self._ids[labels == label] for label in np.unique(labels)]
        shares = np.array([len(one) for one in self._classes]) ** (1 - balance)
        exact = shares / shares.sum() * len(ids)
        self._quotas = np.floor(exact + 1e-9).astype(np.int64)
        largest_first = np.argsort(self._quotas - exact, kind="stable")
        self._quotas[largest_first[: len(ids) - self._quotas.sum()]] += 1
        self._last: tuple[int, Ids, Ids] | None = None

    def rows(self, start: int, count: int) -> tuple[Ids, Ids]:
        """As `Order.rows`."""
        found = np.empty((2, count), dtype=np.int64)
        for epoch in range(start // len(self), -(-(start + count) // len(self))):
            first, end = max(start, epoch * len(self)), min(start + count, (epoch + 1) * len(self))
            part = slice(first - epoch * len(self), end - epoch * len(self))
            found[:, first - start : end - start] = [values[part] for values in self._drawn(epoch)]
        return found[0], found[1]

    def count(self, end: int, mask: NDArray[np.bool_]) -> int:
        """As `Order.count`."""
        epochs, rest = divmod(end, len(self))
        whole = 0
        for ids, quota in zip(self._classes, self._quotas, strict=True):
            turns, more = divmod(epochs * int(quota), len(ids))
            whole += turns * int(np.count_nonzero(mask[ids]))
            whole += int(np.count_nonzero(mask[self._of_class(ids, turns)[:more]])) if more else 0
        return whole + (int(np.count_nonzero(mask[self._drawn(epochs)[0][:rest]])) if rest else 0)

    def _drawn(self, epoch: int) -> tuple[Ids, Ids]:
        """Row ids of an epoch and the epochs of their classes; the last one is kept, for speed alone."""
        last = self._last
        if last is None or last[0] != epoch:
            found, turns = [], []
            for ids, quota in zip(self._classes, self._quotas, strict=True):
                places = np.arange(epoch * quota, (epoch + 1) * quota)
                turns.append(places // len(ids))
                found += [
                    self._of_class(ids, turn)[places[places // len(ids) == turn] % len(ids)]
                    for turn in np.unique(places // len(ids))
                ]
            mixed = self._generator(epoch).permutation(len(self))
            # one assignment: a prefetching thread may be reading it
            self._last = last = epoch, np.concatenate(found)[mixed], np.concatenate(turns)[mixed]
        return last[1:]

    def _of_class(self, ids: Ids, turn: int) -> Ids:
        return self._generator(int(turn), 1 + int(ids[0])).permutation(ids)


def orders(plan: Plan, splits: Splits) -> dict[Stream, Order]:
    """The order of each stream that has rows; with tiles, of their ids."""
    rows: dict[Stream, Ids] = {"all": splits.train, "labelled": splits.labelled, "unlabelled": splits.unlabelled}
    seed, balance, num_tiles = plan.spec.seed, plan.spec.data.balance, plan.facts.tiles
    found = {
        stream: Order(tiles_of(ids, num_tiles), seed, stream, plan.facts.run)
        for stream, ids in rows.items()
        if len(ids)
    }
    if balance and "labelled" in found:
        ids = tiles_of(splits.labelled, num_tiles)
        found["labelled"] = Balanced(ids, splits.labels[images_of(ids, num_tiles)], seed, "labelled", balance)
    return found


def _in_runs(ids: Ids, run: int, generator: np.random.Generator) -> Ids:
    """`ids` in windows of 48 runs; what fills no window is permuted as a whole, at the end."""
    num_runs = len(ids) // run
    picked = generator.permutation(num_runs)
    whole = num_runs // SHARDS * SHARDS
    runs = ids[: num_runs * run].reshape(num_runs, run)
    windows = runs[picked[:whole]].reshape(-1, SHARDS, run)
    shuffled = generator.permuted(windows, axis=2)
    rest = np.concatenate([runs[picked[whole:]].reshape(-1), ids[num_runs * run :]])
    # the last axis is the run now, so that position i of a window is of run i mod 48
    return np.concatenate([shuffled.transpose(0, 2, 1).reshape(-1), generator.permutation(rest)])
