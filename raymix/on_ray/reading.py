"""Reading with Ray Data: every image is fetched and decoded once, across the cluster, and kept as uint8."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data.block import BlockAccessor

from raymix.data.reading import Images, Part, read_part
from raymix.data.rows import Ids, Rows

BLOCK_ROWS = 5_000  # smaller blocks cost more than they bring (measured: 10,000 to 17,000 images/s on two cores)


def read(rows: Rows, ids: Ids, size: int, progress: Callable[[int, int], None]) -> Any:
    """A reference to the `Images` of `ids`, owned by this process, so that it outlives every worker."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    num_blocks = max(1, min(max(cpus, math.ceil(len(ids) / BLOCK_ROWS)), math.ceil(len(ids) / 100)))
    tables = [_table(rows, block) for block in np.array_split(ids, num_blocks)]
    dataset = ray.data.from_arrow(tables).map_batches(
        _decode,
        batch_size=None,
        batch_format="numpy",
        fn_kwargs={"size": size, "formats": rows.formats},
    )
    blocks, done = [], 0
    for bundle in dataset.iter_internal_ref_bundles():
        blocks += bundle.block_refs
        done += bundle.num_rows() or 0
        progress(done, len(ids))
    return ray.remote(_assemble).options(num_cpus=0).remote(len(rows), ids, size, *blocks)


def _table(rows: Rows, ids: Ids) -> pa.Table:
    uris = [rows.uris[row] for row in ids]
    return pa.table({"id": ids, "uri": pa.array(uris, pa.large_string()), "is_val": rows.is_val[ids]})


def _decode(batch: dict[str, np.ndarray], size: int, formats: Any) -> dict[str, np.ndarray]:
    """One block: fetched and decoded; a row that cannot be read keeps its place, black, with the cause beside it."""
    num = len(batch["id"])
    rows = Rows(
        uris=tuple(str(uri) for uri in batch["uri"]),
        labels=np.full(num, -1, dtype=np.int64),
        is_val=batch["is_val"],
        class_names=(),
        formats=formats,
    )
    part = read_part(rows, np.arange(num), size)
    pixels = np.zeros((num, size, size, 3), dtype=np.uint8)
    pixels[part.ids] = part.pixels
    causes = np.array([part.skipped.get(place, "") for place in range(num)], dtype=object)
    return {"id": batch["id"], "cause": causes, "pixels": pixels}


def _assemble(num_rows: int, ids: Ids, size: int, *blocks: Any) -> Images:
    """All blocks in one array, which every worker of a node maps without a copy."""

    def parts() -> Iterator[Part]:
        for block in blocks:
            columns = BlockAccessor.for_block(block).to_numpy(["id", "cause", "pixels"])
            good = columns["cause"] == ""
            bad = {
                int(row): str(cause) for row, cause in zip(columns["id"][~good], columns["cause"][~good], strict=True)
            }
            yield Part(columns["id"][good], columns["pixels"][good], bad)

    return Images.from_parts(num_rows, ids, size, parts())
