"""Reading with Ray Data: every image is fetched and decoded across the cluster, to be kept, checked or streamed."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, ExecutionResources
from ray.data.block import BlockAccessor
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.data.frame import Frame, Pixels
from raymix.data.images import Assembly, Part
from raymix.data.keep import CHUNK_BYTES
from raymix.data.reading import Progress, read_all, read_part
from raymix.data.rows import Ids, Rows
from raymix.on_ray.hold import Held, Kept, Memory
from raymix.plan import SHARDS
from raymix.spec import Source

BLOCK_ROWS = 5_000  # smaller blocks cost more than they bring (measured: 10,000 to 17,000 images/s on two cores)
BLOCK_BYTES = 64 * 2**20  # decoded; of another node, several blocks are in the object store at once
_PART_ROWS = 256  # or tiles of rows, decoded before they are copied into place
_STORE_SHARE = 0.5  # of the object store that streams may fill
_EXECUTIONS = 3  # of a worker, that fill the object store at once: a stream, what comes after it, another stream
_LEAST_CHUNKS, _MOST_CHUNKS = 4, 64  # of an execution


def keep(rows: Rows, ids: Ids, frame: Frame, progress: Progress) -> tuple[Memory, Kept, dict[int, str]]:
    """Decodes `ids` once into memory of this process; also id -> cause of those that cannot be read."""
    ids = np.sort(ids)
    memory = Memory(len(ids), frame)
    assembly = Assembly(len(rows), ids, frame, memory.held.room(0, len(ids)))
    done = 0
    for block in _blocks(rows, ids, frame, _decode, {"room": memory.held}):
        accessor = BlockAccessor.for_block(ray.get(block))
        columns = accessor.to_numpy(["id", "cause"])
        good = columns["cause"] == ""
        bad = zip(columns["id"][~good].tolist(), map(str, columns["cause"][~good]), strict=True)
        if "pixels" in accessor.column_names():
            pixels = accessor.to_numpy(["pixels"])["pixels"]
            assembly.add(Part(columns["id"][good], pixels if good.all() else pixels[good], dict(bad)))
        else:
            assembly.placed(columns["id"][good], dict(bad))
        done += len(good)
        progress(done, len(ids))
    images = assembly.images()
    return memory, Kept.of(memory, images), images.skipped


def check(rows: Rows, ids: Ids, frame: Frame, progress: Progress) -> dict[int, str]:
    """Decodes `ids` and keeps nothing but id -> cause of those that cannot be read."""
    skipped: dict[int, str] = {}
    done = 0
    for block in _blocks(rows, ids, frame, _check, {}):
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
    leg_chunks: int  # that one execution of Ray Data reads

    def start(self) -> StreamReader:
        """The reader of this process."""
        node = ray.get_runtime_context().get_node_id()
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        options = {"num_cpus": 0, "max_concurrency": 2 * _EXECUTIONS, "scheduling_strategy": where}
        return StreamReader(ray.remote(_Executions).options(**options).remote(self))


class StreamReader:
    """Reads chunks of rows with Ray Data, in order; the executions run in a process beside this one."""

    def __init__(self, executions: Any) -> None:
        self._executions = executions

    def __call__(self, chunks: Sequence[Ids]) -> Generator[Pixels, None, None]:
        """The pixels of each chunk of row ids, in that order.

        Raises:
            OSError: a row cannot be read any more.
        """
        for pixels in self._executions.read.options(num_returns="streaming").remote(chunks):
            yield ray.get(pixels)


class _Executions:
    """Ray Data's executors of one worker.

    An executor that waits for room keeps its thread spinning, and would take Python's lock from the steps. So it has a
    process of its own, and never waits: what one execution reads fits into the object store.
    """

    def __init__(self, streaming: Streaming) -> None:
        self._table: pa.Table = ray.get(streaming.table[0])
        self._options = {"frame": streaming.frame, "sources": streaming.sources}
        options = DataContext.get_current().execution_options
        options.preserve_order = True
        options.resource_limits = ExecutionResources(cpu=streaming.cpus, object_store_memory=streaming.store)

    def read(self, chunks: Sequence[Ids]) -> Iterator[Pixels]:
        """The decoded chunks, in order, as they come.

        They are copied: a reference to a block of Ray Data would outlive the block, which its executor frees. A chunk
        is a block, unless Ray Data finds it too large and cuts it, as it may the tiles of a window of images.
        """
        tables = [self._table.take(chunk) for chunk in chunks]
        dataset = ray.data.from_arrow(tables).map_batches(
            _decode_all, batch_size=None, batch_format="numpy", fn_kwargs=self._options
        )
        sizes, parts = iter(map(len, chunks)), list[Pixels]()
        size = next(sizes, 0)
        for bundle in dataset.iter_internal_ref_bundles():
            for block in bundle.block_refs:
                parts.append(BlockAccessor.for_block(ray.get(block)).to_numpy(["pixels"])["pixels"])
                if sum(map(len, parts)) == size:
                    yield parts[0] if len(parts) == 1 else np.concatenate(parts)
                    size, parts = next(sizes, 0), []


def streaming(rows: Rows, frame: Frame, workers: int, cpus_per_worker: float, store: int) -> Streaming:
    """What the workers of a group need; `store`: bytes of the smallest node's object store."""
    free = ray.cluster_resources().get("CPU", 1) - workers * cpus_per_worker
    share = int(_STORE_SHARE * store / workers)
    # tiles come in windows of whole images, which a chunk does not cut
    window = SHARDS * frame.nbytes // workers if frame.tile is not None else 0
    chunk_bytes = min(CHUNK_BYTES, share // (_EXECUTIONS * _LEAST_CHUNKS))
    table = pa.table({"uri": pa.array(rows.uris, pa.large_string()), "source": rows.source_of})
    return Streaming(
        table=[ray.put(table)],
        sources=rows.sources,
        frame=frame,
        cpus=max(1, int(free / workers)),
        store=share,
        chunk_bytes=chunk_bytes,
        leg_chunks=max(1, min(_MOST_CHUNKS, share // (_EXECUTIONS * max(chunk_bytes, window, frame.nbytes)))),
    )


def _blocks(rows: Rows, ids: Ids, frame: Frame, function: Any, options: dict[str, Any]) -> Iterator[Any]:
    """References to what `function` makes of `ids`, block by block, as they come."""
    size = min(BLOCK_ROWS, max(1, BLOCK_BYTES // frame.nbytes))
    cpus = int(ray.cluster_resources().get("CPU", 1))
    most = math.ceil(len(ids) * frame.num_tiles / 100)
    num_blocks = max(1, min(max(cpus, math.ceil(len(ids) / size)), most, len(ids)))
    tables = [table_of(rows, ids, places) for places in np.array_split(np.arange(len(ids)), num_blocks)]
    dataset = ray.data.from_arrow(tables).map_batches(
        function,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"frame": frame, "sources": rows.sources, **options},
    )
    for bundle in dataset.iter_internal_ref_bundles():
        yield from bundle.block_refs


def table_of(rows: Rows, ids: Ids, places: Ids) -> pa.Table:
    """The rows at some places of `ids`, as a task is given them."""
    uris = pa.array([rows.uris[row] for row in ids[places]], pa.large_string())
    return pa.table({"id": ids[places], "place": places, "uri": uris, "source": rows.source_of[ids[places]]})


def rows_of(batch: dict[str, np.ndarray], sources: tuple[Source, ...]) -> tuple[Rows, Ids]:
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


def _decode(
    batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...], room: Held
) -> dict[str, np.ndarray]:
    """One block, decoded; a row that cannot be read keeps its place, with the cause beside it.

    On the node that holds the images the pixels go straight into their memory; from another one they travel along.
    """
    rows, places = rows_of(batch, sources)
    here = room.is_here()
    pixels = room.room(int(batch["place"][0]), int(batch["place"][-1]) + 1) if here else frame.empty(len(places))
    causes = np.full(len(places), "", dtype=object)
    size = max(1, _PART_ROWS // frame.num_tiles)
    for first in range(0, len(places), size):
        part = read_part(rows, places[first : first + size], frame)
        pixels[part.ids] = part.pixels
        for place, cause in part.skipped.items():
            causes[place] = cause
            pixels[place] = 0
    found = {"id": batch["id"], "cause": causes}
    return found if here else {**found, "pixels": pixels}


def _check(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One block's unreadable rows, after a first row of id -1 that carries the number of rows."""
    skipped = read_part(*rows_of(batch, sources), frame).skipped
    num = np.zeros(1 + len(skipped), dtype=np.int64)
    num[0] = len(batch["id"])
    return {
        "id": np.array([-1, *(int(batch["id"][place]) for place in skipped)], dtype=np.int64),
        "cause": np.array(["", *skipped.values()], dtype=object),
        "num": num,
    }


def _decode_all(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One chunk of rows that were found readable before."""
    return {"pixels": read_all(*rows_of(batch, sources), frame)}
