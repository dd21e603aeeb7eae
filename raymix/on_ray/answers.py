"""Images through a trained model with Ray Data: tasks read and decode, actors hold the model; answers come in order."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.block import BlockAccessor

from raymix.data.frame import Frame, Pixels
from raymix.data.images import Answered
from raymix.data.reading import read_part
from raymix.data.rows import Ids, Rows
from raymix.on_ray.cluster import connect, disconnect, hush_data
from raymix.on_ray.reading import BLOCK_BYTES, rows_of, table_of
from raymix.spec import Cluster, Source

_LEAST_ROWS = 1_024  # of a block, unless its bytes forbid it

Compute = Callable[[Pixels], NDArray[np.float32]]


@contextmanager
def ray_for_answers(cluster: Cluster, verbose: bool) -> Generator[None, None, None]:
    """Ray as `cluster` says it; shut down afterwards where it was not there before.

    Raises:
        JobError: nothing answers at the address, or it has less than is asked for.
    """
    owned = connect(cluster, verbose)
    try:
        if not verbose:
            hush_data()
        yield
    finally:
        if owned:
            disconnect()


def answers_on_ray(
    compute: Compute, rows: Rows, ids: Ids, frame: Frame, batch: int, cluster: Cluster
) -> Generator[Answered, None, None]:
    """What `compute` makes of `ids`, block by block, in their order; it travels to `cluster.workers` actors once.

    A task or an actor that dies is run again; an error of `compute` is raised here.
    """
    context = DataContext.get_current()
    before, context.execution_options.preserve_order = context.execution_options.preserve_order, True
    num_actors = ActorPoolStrategy(min_size=cluster.min_workers, max_size=cluster.max_workers)
    most = min(max(batch, _LEAST_ROWS), BLOCK_BYTES // frame.nbytes, -(-len(ids) // cluster.max_workers))
    size = max(1, most)  # small enough that every actor gets some
    places = (np.arange(first, min(first + size, len(ids))) for first in range(0, len(ids), size))
    tables = [table_of(rows, ids, some) for some in places]
    held = ray.put(compute)
    try:
        dataset = (
            ray.data.from_arrow(tables)
            .map_batches(
                _read, batch_size=None, batch_format="numpy", fn_kwargs={"frame": frame, "sources": rows.sources}
            )
            .map_batches(
                _Answering,
                batch_size=None,
                batch_format="numpy",
                fn_constructor_args=(batch, cluster.cpus_per_worker),
                fn_kwargs={"held": [held]},
                compute=num_actors,
                num_cpus=cluster.cpus_per_worker,
                num_gpus=cluster.gpus_per_worker or None,
            )
        )
        for bundle in dataset.iter_internal_ref_bundles():
            for block in bundle.block_refs:
                yield _answered(block)
    finally:
        context.execution_options.preserve_order = before


def _answered(block: Any) -> Answered:
    columns = BlockAccessor.for_block(ray.get(block)).to_numpy(["id", "cause", "values"])
    good = columns["cause"] == ""
    bad = zip(columns["id"][~good].tolist(), map(str, columns["cause"][~good]), strict=True)
    # copies: a reference to a block of Ray Data would outlive the block, which its executor frees
    return Answered(columns["id"][good], columns["values"][good], dict(bad))


def _read(batch: dict[str, np.ndarray], frame: Frame, sources: tuple[Source, ...]) -> dict[str, np.ndarray]:
    """One block, decoded; an image that cannot be read is black, with the cause beside it."""
    rows, places = rows_of(batch, sources)
    part = read_part(rows, places, frame)
    pixels = frame.empty(len(places))
    pixels[part.ids] = part.pixels
    causes = np.full(len(places), "", dtype=object)
    for place, cause in part.skipped.items():
        causes[place], pixels[place] = cause, 0
    return {"id": batch["id"], "cause": causes, "pixels": pixels}


class _Answering:
    """A model in a process of its own, which it fetches with the first block.

    `held`: a reference to it, in a list, so that it is not fetched on the way; an actor that was given it when it was
    made could not be made again (Ray 2.60 warns of that).
    """

    def __init__(self, batch: int, cpus: float) -> None:
        import torch

        torch.set_num_threads(max(1, int(cpus)))
        self._compute: Compute | None = None
        self._batch = batch

    def __call__(self, block: dict[str, np.ndarray], held: list[Any]) -> dict[str, np.ndarray]:
        compute: Compute = self._compute or ray.get(held[0])
        self._compute, pixels = compute, block["pixels"]
        parts = [compute(pixels[start : start + self._batch]) for start in range(0, len(pixels), self._batch)]
        return {"id": block["id"], "cause": block["cause"], "values": np.concatenate(parts)}
