"""Work on many rows: what a block of them is, and threads that go through blocks.

`raymix.on_ray.blocks` does the same on a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from raymix.data.formats import fetch
from raymix.data.rows import Ids, RawImage, Rows
from raymix.report.check import Part

B = TypeVar("B")
R = TypeVar("R")

_FETCH_BYTES = 32 * 2**20  # held at a time of images as their format holds them, whatever their size
_FETCH_FIRST, _FETCH_MOST = 32, 512


class MapBlocks(Protocol):
    """Runs a function over blocks in parallel; the results come in any order, few of them waiting at a time.

    The function, the blocks and the results are plain data that pickles. An exception of the function ends it all.
    Who does not take all results closes the generator: left to the garbage collector, threads would work on meanwhile,
    and to end them from within it can deadlock (a thread that starts or ends needs a lock that its caller may hold).
    """

    def __call__(self, function: Callable[[B], R], blocks: Iterable[B]) -> Generator[R, None, None]: ...


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows of a whole, with all that is needed to read them and nothing else.

    Attributes:
        rows: these rows alone.
        ids: int64 (len,), which rows of the whole they are.
    """

    rows: Rows
    ids: Ids

    @classmethod
    def of(cls, rows: Rows, ids: Ids) -> Block:
        """The block of the rows `ids`, in that order."""
        return cls(rows.take(ids), ids)

    def __len__(self) -> int:
        return len(self.ids)


def fetched(rows: Rows) -> Iterator[tuple[Ids, list[RawImage | OSError]]]:
    """Places of rows and their images, or why there is none; as many at a time as their size allows."""
    start, num = 0, _FETCH_FIRST
    while start < len(rows):
        places = np.arange(start, min(start + num, len(rows)))
        raws = fetch(rows, places)
        yield places, raws
        start += len(places)
        num = max(1, min(_FETCH_MOST, _FETCH_BYTES * len(raws) // max(1, sum(map(num_bytes, raws)))))


def num_bytes(raw: RawImage | OSError) -> int:
    """Bytes of an image as its format holds it."""
    return len(raw) if isinstance(raw, bytes) else 0 if isinstance(raw, OSError) else raw.nbytes


def part_of(rows: Rows, row: int) -> Part:
    """Which part a row belongs to; unlabelled is a training row without a label."""
    return "val" if rows.is_val[row] else "train" if rows.labels[row] >= 0 else "unlabelled"


def encodable(path: str) -> str:
    """A path as JSON and Parquet can hold it: bytes of a file name that are not UTF-8 become \\udcXX."""
    return path.encode("utf-8", "backslashreplace").decode()


def num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_threads(function: Callable[[B], R], blocks: Iterable[B]) -> Generator[R, None, None]:
    """Runs a function over blocks on a thread for each core; see `MapBlocks`."""
    cores = num_cores()
    pool = ThreadPoolExecutor(max_workers=cores, thread_name_prefix="raymix-blocks")
    todo, waiting = iter(blocks), set[Future[Any]]()
    try:
        while True:
            # one block ahead of each thread: enough to keep it busy, and results do not pile up
            waiting |= {pool.submit(function, block) for block in islice(todo, max(0, 2 * cores - len(waiting)))}
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest
