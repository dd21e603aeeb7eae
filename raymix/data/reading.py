"""Reading in this process, by threads: to keep, to check, to stream. `raymix.on_ray.reading` does the same on Ray."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import numpy as np

from raymix.data.blocks import fetched, map_threads, num_cores
from raymix.data.decode import decode_many, store_size
from raymix.data.formats import fetch
from raymix.data.frame import Frame, Pixels
from raymix.data.images import Assembly, Images, Part
from raymix.data.rows import Ids, Rows
from raymix.spec import Data, JobError

Progress = Callable[[int, int], None]  # rows done, rows in all

_PART = 256  # rows, or tiles of them, that a thread takes at once
_AHEAD = 256 * 2**20  # bytes of decoded images that wait for a model
_SAMPLE = 64  # images whose size decides store_size


def read_part(rows: Rows, ids: Ids, frame: Frame) -> Part:
    """Fetch and decode some rows, on this thread."""
    pixels, good, bad = decode_many(fetch(rows, ids), frame)
    return Part(ids=ids[good], pixels=pixels, skipped={int(ids[position]): cause for position, cause in bad})


def read_local(rows: Rows, ids: Ids, frame: Frame, progress: Progress | None = None) -> Images:
    """Reads `ids` with a thread for each core; `progress` is told rows done and rows in all."""
    assembly = Assembly(len(rows), ids, frame)
    with closing(_parts(rows, ids, frame, progress)) as parts:
        for part in parts:
            assembly.add(part)
    return assembly.images()


def read_in_order(rows: Rows, ids: Ids, frame: Frame, size: int) -> Generator[Part, None, None]:
    """The rows `ids`, `size` at a time and in that order, read ahead by a thread for each core as far as `_AHEAD`."""
    cores = num_cores()
    ahead = max(1, min(2 * cores, _AHEAD // (size * frame.nbytes)))
    pool = ThreadPoolExecutor(max_workers=cores, thread_name_prefix="raymix-read")
    waiting: deque[Future[Part]] = deque()
    try:
        for first in range(0, len(ids), size):
            waiting.append(pool.submit(_read_few, rows, ids[first : first + size], frame))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_few(rows: Rows, ids: Ids, frame: Frame) -> Part:
    """As `read_part`, with few of the images as their format holds them in memory at a time."""
    pixels, good, skipped = frame.empty(len(ids)), np.zeros(len(ids), dtype=np.bool_), dict[int, str]()
    done = 0
    for places, raws in fetched(rows.take(ids)):
        decoded, is_good, bad = decode_many(raws, frame)
        pixels[done : done + len(decoded)] = decoded
        done += len(decoded)
        good[places] = is_good
        skipped.update({int(ids[places[position]]): cause for position, cause in bad})
    return Part(ids=ids[good], pixels=pixels[:done], skipped=skipped)


def check_local(rows: Rows, ids: Ids, frame: Frame, progress: Progress | None = None) -> dict[int, str]:
    """Reads `ids` and keeps nothing but id -> cause of those that cannot be read."""
    skipped: dict[int, str] = {}
    with closing(_parts(rows, ids, frame, progress)) as parts:
        for part in parts:
            skipped.update(part.skipped)
    return dict(sorted(skipped.items()))


def stream_local(rows: Rows, frame: Frame, chunks: Sequence[Ids]) -> Generator[Pixels, None, None]:
    """The pixels of each chunk of row ids, in that order, read ahead by a thread for each core.

    Raises:
        OSError: a row cannot be read any more.
    """
    pool = ThreadPoolExecutor(max_workers=num_cores(), thread_name_prefix="raymix-stream")
    waiting: deque[list[Future[Pixels]]] = deque()
    try:
        for chunk in chunks:
            blocks = np.array_split(chunk, -(-len(chunk) // _part_rows(frame)))
            waiting.append([pool.submit(read_all, rows, block, frame) for block in blocks])
            if len(waiting) > 2:
                yield np.concatenate([future.result() for future in waiting.popleft()])
        while waiting:
            yield np.concatenate([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(cancel_futures=True)


def read_all(rows: Rows, ids: Ids, frame: Frame) -> Pixels:
    """The pixels of rows that were found readable before, in that order.

    Raises:
        OSError: one cannot be read any more.
    """
    pixels, good, bad = decode_many(fetch(rows, ids), frame)
    if not good.all():
        position, cause = bad[0]
        uri = rows.uris[ids[position]]
        raise OSError(f"{uri}: {cause}; it could be read when the run began")
    return pixels


def _parts(rows: Rows, ids: Ids, frame: Frame, progress: Progress | None) -> Generator[Part, None, None]:
    """The parts of `ids` as they come, from a thread for each core."""
    size = _part_rows(frame)
    blocks = (ids[first : first + size] for first in range(0, len(ids), size))
    done = 0
    with closing(map_threads(lambda block: read_part(rows, block, frame), blocks)) as parts:
        for part in parts:
            done += len(part.ids) + len(part.skipped)
            yield part
            if progress:
                progress(done, len(ids))


def _part_rows(frame: Frame) -> int:
    return max(1, _PART // frame.num_tiles)


def sample_frame(rows: Rows, data: Data, ids: Ids) -> Frame:
    """How each image is kept, from up to 64 evenly spaced rows of `ids`."""
    if data.store_size != "auto":
        return Frame(data.store_size, data.channels, data.region, data.tile)
    places = np.unique(np.linspace(0, len(ids) - 1, _SAMPLE).astype(np.int64)) if len(ids) else ids
    return Frame(store_size(data, fetch(rows, ids[places])), data.channels, data.region, data.tile)


def causes(skipped: Mapping[int, str]) -> dict[str, int]:
    """Cause -> number of images skipped for it, the most frequent first."""
    return dict(Counter(skipped.values()).most_common())


def check_bad(skipped: Mapping[int, str], num_all: int, rows: Rows, data: Data) -> None:
    """Refuses data of which too much is unreadable: `skipped` of `num_all` rows.

    Raises:
        JobError: the share is above data.max_bad_fraction, or nothing is left.
    """
    num_bad = len(skipped)
    if not num_bad or (num_bad <= data.max_bad_fraction * num_all and num_bad < num_all):
        return
    counts = ", ".join(f"{cause} {count:,}" for cause, count in causes(skipped).items())
    first = rows.uris[min(skipped)]
    problem = f"{num_bad:,} of {num_all:,} images are unreadable ({counts}), first: {first}"
    raise JobError("data.max_bad_fraction", problem, "repair or remove them, or raise it")
