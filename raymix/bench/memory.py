"""Part `memory`: what images cost that are kept on the host, by number of workers, and what streaming costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from raymix.bench.figures import Asked, Figure
from raymix.bench.pictures import Pictures
from raymix.bench.resident import Watch, measurable, settled, shared
from raymix.data.order import Order
from raymix.spec import JobError
from raymix.train.stream import Streamed
from raymix.train.supply import Source

WORKERS = (1, 4)
_BATCH = 256
_MIB = 2**20
_WARM_ROWS = 400  # enough for every CPU's process to be started and to import what reading needs


def bench_memory(pictures: Pictures, cache_bytes: int, stream_bytes: int, store: int) -> dict[str, Any]:
    """`cache_bytes` of images kept, then `stream_bytes` streamed through an object store of `store` bytes.

    Returns:
        `cache` and `stream`, in bytes beyond what the processes took before they read anything, and `figures`.

    Raises:
        JobError: the system does not tell.
    """
    if not measurable():
        raise JobError("--part", "memory is measured on Linux alone", "name the other parts")
    cache = _cache(pictures.times(max(1, cache_bytes // pictures.frame.nbytes)))
    stream = _stream(pictures.times(max(1, stream_bytes // pictures.frame.nbytes)), store)
    return {"figures": [*_cache_figures(cache), _stream_figure(stream)], "cache": cache, "stream": stream}


def _cache_figures(cache: dict[str, Any]) -> Iterator[Figure]:
    size, rival = cache["image_bytes"], "uint8 bytes of the images"
    asked = Asked("<=", 1.1)
    for num, steady in cache["steady_bytes"].items():
        what = f"kept on the host, {num} worker{'s' if num > 1 else ''}"
        yield Figure(what, "MiB", steady / _MIB, rival, size / _MIB, steady / size, asked)
    peak = cache["peak_bytes"]
    yield Figure("kept on the host, peak while reading", "MiB", peak / _MIB, rival, size / _MIB, peak / size)


def _stream_figure(stream: dict[str, Any]) -> Figure:
    allowed = stream["object_store_bytes"] + 2**30
    what, rival = "streamed, peak", "object store + 1 GiB"
    ratio = stream["peak_bytes"] / allowed
    return Figure(what, "MiB", stream["peak_bytes"] / _MIB, rival, allowed / _MIB, ratio, Asked("<", 1.0))


def _cache(pictures: Pictures) -> dict[str, Any]:
    from raymix.on_ray.bench import Mappers, started
    from raymix.on_ray.reading import keep

    with started():
        mappers = Mappers(max(WORKERS))
        few = pictures.times(_WARM_ROWS)
        keep(few.rows, few.ids, few.frame, _silent)[0].close()
        before, before_store = settled(), shared("plasma")
        with Watch() as watch:
            memory, kept, _ = keep(pictures.rows, pictures.ids, pictures.frame, _silent)
        steady, in_store = {}, {}
        for num in WORKERS:
            mappers.map(kept, num)
            steady[num] = settled() - before
            in_store[num] = shared("plasma") - before_store
        mappers.close()
        memory.close()
    return {
        "image_bytes": pictures.nbytes,
        "before_bytes": before,
        "steady_bytes": steady,
        "of_it_object_store_bytes": in_store,
        "peak_bytes": watch.peak - before,
    }


def _stream(pictures: Pictures, store: int) -> dict[str, Any]:
    from raymix.on_ray.bench import started
    from raymix.on_ray.cluster import smallest_store
    from raymix.on_ray.reading import streaming

    with started(store):
        told = streaming(pictures.rows, pictures.frame, 1, 1, smallest_store())
        read = told.start()
        for _ in read(np.array_split(np.arange(_WARM_ROWS) % len(pictures.rows), 8)):
            pass
        before = settled()
        with Watch() as watch:
            _epoch(pictures, Streamed(pictures.frame, torch.device("cpu"), read, told.chunk_bytes, told.leg_chunks))
        num_bytes = smallest_store()
    return {
        "image_bytes": pictures.nbytes,
        "object_store_bytes": num_bytes,
        "before_bytes": before,
        "peak_bytes": watch.peak - before,
    }


def _epoch(pictures: Pictures, supply: Streamed) -> None:
    """All images once."""
    order, batch = Order(pictures.ids, 0, "all"), min(_BATCH, len(pictures.rows))
    num_steps = len(pictures.rows) // batch
    flow = supply.open({"all": order}, {"all": num_steps * batch}, 0, 1)
    ids_TB = order.rows(0, num_steps * batch)[0].reshape(-1, batch)
    for _ in flow.steps((Source("all", 0, batch),), ids_TB):
        pass
    flow.close()


def _silent(done: int, total: int) -> None:
    """Progress for nobody."""
