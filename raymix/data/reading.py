"""Decoded images of many rows in one array, what was skipped and why. Ray reads elsewhere and hands over the same."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

import numpy as np

from raymix.data.decode import decode_many, store_size
from raymix.data.formats import fetch
from raymix.data.frame import Frame, Pixels
from raymix.data.rows import Ids, Rows
from raymix.spec import Data, JobError

_PART = 256  # rows a thread takes at once
_SAMPLE = 64  # images whose size decides store_size


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows, read: `ids` int64 (n,) of the good ones, `pixels` (n, S, S, C), and id -> cause of the others."""

    ids: Ids
    pixels: Pixels
    skipped: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Images:
    """What a reader returns.

    Attributes:
        pixels: (n, S, S, C), good images by ascending row id, in whatever order they were read.
        slots: int64 over ALL rows: the place of a row in `pixels`, -1 where it is absent.
        skipped: row id -> cause, of the rows asked for that could not be read.
    """

    pixels: Pixels
    slots: Ids
    skipped: dict[int, str]

    @classmethod
    def from_parts(cls, num_rows: int, ids: Ids, frame: Frame, parts: Iterable[Part]) -> Images:
        """Assemble the parts of `ids`, which come in any order; each is copied into place once, then dropped.

        Raises:
            ValueError: the parts do not cover `ids` exactly.
        """
        ids = np.sort(ids)
        pixels = frame.empty(len(ids))
        good = np.zeros(len(ids), dtype=np.bool_)
        skipped: dict[int, str] = {}
        num_read = 0
        for part in parts:
            places = np.searchsorted(ids, part.ids)
            if (places >= len(ids)).any() or (ids[places] != part.ids).any():
                raise ValueError("a part holds rows that were not asked for")
            pixels[places] = part.pixels
            good[places] = True
            skipped.update(part.skipped)
            num_read += len(part.ids)
        if num_read + len(skipped) != len(ids) or np.count_nonzero(good) != num_read:
            raise ValueError(f"{len(ids):,} rows asked for, {num_read:,} read and {len(skipped):,} skipped")
        _close_gaps(pixels, np.flatnonzero(~good))
        slots = np.full(num_rows, -1, dtype=np.int64)
        slots[ids[good]] = np.arange(num_read)
        return cls(pixels=pixels[:num_read], slots=slots, skipped=dict(sorted(skipped.items())))


def _close_gaps(pixels: Pixels, gaps: Ids) -> None:
    """Move images over the gaps, in place: a second array of this size may not fit."""
    until = np.append(gaps[1:], len(pixels))
    for moved, gap in enumerate(gaps):
        pixels[gap - moved : until[moved] - moved - 1] = pixels[gap + 1 : until[moved]]


def read_part(rows: Rows, ids: Ids, frame: Frame) -> Part:
    """Fetch and decode some rows, on this thread."""
    pixels, good, bad = decode_many(fetch(rows, ids), frame)
    return Part(ids=ids[good], pixels=pixels, skipped={int(ids[position]): cause for position, cause in bad})


def read_local(rows: Rows, ids: Ids, frame: Frame, progress: Callable[[int, int], None] | None = None) -> Images:
    """Read `ids` with a thread for each core; `progress` is told rows done and rows in all."""
    blocks = [ids[i : i + _PART] for i in range(0, len(ids), _PART)]
    pool = ThreadPoolExecutor(max_workers=_num_cores(), thread_name_prefix="raymix-read")

    def parts() -> Iterable[Part]:
        done = 0
        # popped as they come, so that a part is freed once it is copied
        waiting = {pool.submit(read_part, rows, block, frame): len(block) for block in blocks}
        for future in as_completed(list(waiting)):
            done += waiting.pop(future)
            yield future.result()
            if progress:
                progress(done, len(ids))

    try:
        return Images.from_parts(len(rows), ids, frame, parts())
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for the rest


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sample_frame(rows: Rows, data: Data, ids: Ids) -> Frame:
    """How each image is kept, from up to 64 evenly spaced rows of `ids`."""
    if data.store_size != "auto":
        return Frame(data.store_size, data.channels)
    places = np.unique(np.linspace(0, len(ids) - 1, _SAMPLE).astype(np.int64)) if len(ids) else ids
    return Frame(store_size(data, fetch(rows, ids[places])), data.channels)


def causes(images: Images) -> dict[str, int]:
    """Cause -> number of images skipped for it, the most frequent first."""
    return dict(Counter(images.skipped.values()).most_common())


def check_bad(images: Images, rows: Rows, data: Data) -> None:
    """Refuse data of which too much is unreadable.

    Raises:
        JobError: the share is above data.max_bad_fraction, or nothing is left.
    """
    num_bad, num_all = len(images.skipped), len(images.skipped) + len(images.pixels)
    if not num_bad or (num_bad <= data.max_bad_fraction * num_all and num_bad < num_all):
        return
    counts = ", ".join(f"{cause} {count:,}" for cause, count in causes(images).items())
    first = rows.uris[min(images.skipped)]
    problem = f"{num_bad:,} of {num_all:,} images are unreadable ({counts}), first: {first}"
    raise JobError("data.max_bad_fraction", problem, "repair or remove them, or raise it")
