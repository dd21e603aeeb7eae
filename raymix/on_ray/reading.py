"""Reading with Ray Data: every image is fetched and decoded across the cluster, to be kept, checked or streamed."""

from __future__ import annotations

import math
import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, ExecutionResources
from ray.data.block import BlockAccessor

from raymix.data.frame import Frame, Pixels
from raymix.data.reading import Progress, read_all, read_part
from raymix.data.rows import Ids, Rows
from raymix.on_ray.hold import Kept, make
from raymix.spec import Source
from raymix.train.stream import CHUNK_BYTES

BLOCK_ROWS = 5_000  # smaller blocks cost more than they bring (measured: 10,000 to 17,000 images/s on two cores)
BLOCK_BYTES = 64 * 2**20  # decoded; several blocks are in the object store at once
_ADDING = 2  # blocks on their way into a holder
_STORE_SHARE = 0.5  # of the object store that streams may fill
_EXECUTIONS = 4  # that a worker has at once: one a stream, and the next one of a stream that nears its end
_CHUNKS_AT_ONCE = 3 * _EXECUTIONS  # of a worker's share: being decoded, waiting, being taken


def keep(rows: Rows, ids: Ids, frame: Frame, progress: Progress) -> tuple[Kept, dict[int, str]]:
    """Decodes `ids` once and keeps them on this node; also id -> cause of those that cannot be read."""
    holder = make(len(ids), frame)
    ray.get(holder.begin.remote(len(rows), ids))
    adding: list[Any] = []
    done = 0
    for block in _blocks(rows, ids, frame, _decode):
        adding.append(holder.add.remote(block))
        del block  # it is freed when it has been added
        if len(adding) > _ADDING:
            done += ray.get(adding.pop(0))
            progress(done, len(ids))
    for added in adding:
        done += ray.get(added)
        progress(done, len(ids))
    held, slots, skipped = ray.get(holder.images.remote())
    return Kept(holder, held, slots, f"raymix-{uuid.uuid4().hex[:12]}"), skipped


def check(rows: Rows, ids: Ids, frame: Frame, progress: Progress) -> dict[int, str]:
    """Decodes `ids` and keeps nothing but id -> cause of those that cannot be read."""
    skipped: dict[int, str] = {}
    done = 0
    for block in _blocks(rows, ids, frame, _check):
        columns = BlockAccessor.for_block(ray.get(block)).to_numpy(["id", "cause", "num"])
        bad = columns["id"] >= 0  # each block begins with a row that carries its number of rows alone
        skipped.update(zip(columns["id"][bad].tolist(), map(str, columns["cause"][bad]), strict=True))
        done += int(columns["num"].sum())
        progress(done, len(ids))
    return dict(sorted(skipped.items()))


class Streaming(NamedTuple):
    """What a worker needs to read by itself."""

    table: list[Any]  # a reference to the uri and source of every row; in a list, so that it is not fetched on the way
    sources: tuple[Source, ...]
    frame: Frame
    cpus: int  # that one worker's reading may use
    store: int  # bytes of the object store that it may fill
    chunk_bytes: int  # decoded, that it reads at once

    def start(self) -> StreamReader:
        """The reader of this process."""
        return StreamReader(ray.get(self.table[0]), self)


class StreamReader:
    """Reads chunks of rows with Ray Data, in order."""

    def __init__(self, table: pa.Table, streaming: Streaming) -> None:
        self._table, self._sources, self._frame = table, streaming.sources, streaming.frame
        options = DataContext.get_current().execution_options
        options.preserve_order = True
        options.resource_limits = ExecutionResources(cpu=streaming.cpus, object_store_memory=streaming.store)

    def __call__(self, chunks: Sequence[Ids]) -> Generator[Pixels, None, None]:
        """The pixels of each chunk of row ids, in that order.

        Raises:
            OSError: a row cannot be read any more.
        """
        tables = [self._table.take(chunk) for chunk in chunks]
        dataset = ray.data.from_arrow(tables).map_batches(
            _decode_all,
            batch_size=None,
            batch_format="numpy",
            fn_kwargs={"frame": self._frame, "sources": self._sources},
        )
        for bundle in dataset.iter_internal_ref_bundles():
            for block in bundle.block_refs:
                yield BlockAccessor.for_block(ray.get(block)).to_numpy(["pixels"])["pixels"]


def streaming(rows: Rows, frame: Frame, workers: int, cpus_per_worker: float, store: int) -> Streaming:
    """What the workers of a group need; `store`: bytes of the smallest node's object store."""
    free = ray.cluster_resources().get("CPU", 1) - workers * cpus_per_worker
    share = int(_STORE_SHARE * store / workers)
    table = pa.table({"uri": pa.array(rows.uris, pa.large_string()), "source": rows.source_of})
    return Streaming(
        table=[ray.put(table)],
        sources=rows.sources,
        frame=frame,
        cpus=max(1, int(free / workers)),
        store=share // _EXECUTIONS,
        chunk_bytes=min(CHUNK_BYTES, share // _CHUNKS_AT_ONCE),
    )


def _blocks(rows: Rows, ids: Ids, frame: Frame, function: Any) -> Iterator[Any]:
    """References to what `function` makes of `ids`, block by block, as they come."""
    size = min(BLOCK_ROWS, max(1, BLOCK_BYTES // frame.nbytes))
    cpus = int(ray.cluster_resources().get("CPU", 1))
    num_blocks = max(1, min(max(cpus, math.ceil(len(ids) / size)), math.ceil(len(ids) / 100)))
    tables = [_table(rows, block) for block in np.array_split(ids, num_blocks)]
    dataset = ray.data.from_arrow(tables).map_batches(
        function,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"frame": frame, "sources": rows.sources},
    )
    for bundle in dataset.iter_internal_ref_bundles():
        yield from bundle.block_refs


def _table(rows: Rows, ids: Ids) -> pa.Table:
    uris = [rows.uris[row] for row in ids]
    return pa.table({"id": ids, "uri": pa.array(uris, pa.large_string()), "source": rows.source_of[ids]})


def _rows(batch: dict[str, np.ndarray], sources: tuple[Source, ...]) -> tuple[Rows, Ids]:
    """The rows of a block, and their places in it."""
    num = len(batch["uri"])
    rows = Rows(
        uris=tuple(str(uri) for uri in batch["uri"]),
        labels=np.full(num, -1, dtype=np.int64),
        is_val=np.zeros(num, dtype=np.bool_),
        class_names=(),
        sources=sources,
        source_of=batch["source"],
    )
    return rows, np.arange(num)


def _decode(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One block, decoded; a row that cannot be read keeps its place, black, with the cause beside it."""
    part = read_part(*_rows(batch, sources), frame)
    num = len(batch["id"])
    causes = np.array([part.skipped.get(place, "") for place in range(num)], dtype=object)
    pixels = part.pixels
    if part.skipped:
        pixels = np.zeros((num, *frame.shape), frame.dtype)
        pixels[part.ids] = part.pixels
    return {"id": batch["id"], "cause": causes, "pixels": pixels}


def _check(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One block's unreadable rows, after a first row of id -1 that carries the number of rows."""
    skipped = read_part(*_rows(batch, sources), frame).skipped
    num = np.zeros(1 + len(skipped), dtype=np.int64)
    num[0] = len(batch["id"])
    return {
        "id": np.array([-1, *(int(batch["id"][place]) for place in skipped)], dtype=np.int64),
        "cause": np.array(["", *skipped.values()], dtype=object),
        "num": num,
    }


def _decode_all(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One chunk of rows that were found readable before."""
    return {"pixels": read_all(*_rows(batch, sources), frame)}
