"""Part `read`: reading all images once, to keep them, against a bare loop on one core."""

from __future__ import annotations

import io
import statistics
import time
from typing import Any

import numpy as np
from PIL import Image

from raymix.bench.figures import Asked, Figure
from raymix.bench.pictures import Pictures
from raymix.data.blocks import num_cores
from raymix.data.keep import room_of_machine

_BARE_IMAGES = 10_000  # that the loop decodes in a turn


def bench_read(pictures: Pictures, num: int, rounds: int) -> dict[str, Any]:
    """`num` images, those of `pictures` over and over, in `rounds` turns; Ray's start is not counted, Ray Data's is.

    Returns:
        `rates` by side, `cores`, and `figures`; the ratio is of the rate per core.
    """
    from raymix.on_ray.bench import started
    from raymix.on_ray.reading import keep

    uris = pictures.rows.uris[:_BARE_IMAGES]
    many = pictures.times(min(num, room_of_machine() // 2 // pictures.frame.nbytes))
    rates: dict[str, list[float]] = {"raymix": [], "bare": []}
    _bare(uris)  # fills the system's file cache
    with started():
        for _ in range(rounds):
            begun = time.perf_counter()
            memory, _, skipped = keep(many.rows, many.ids, many.frame, lambda done, total: None)
            rates["raymix"].append(len(many.rows) / (time.perf_counter() - begun))
            assert not skipped, skipped
            memory.close()
            rates["bare"].append(_bare(uris))
    cores = num_cores()
    ratio = statistics.median(mine / other for mine, other in zip(*rates.values(), strict=True)) / cores
    mine, bare = (statistics.median(of_side) for of_side in rates.values())
    what = f"decoded and kept, on {cores} core{'s' if cores > 1 else ''}"
    asked = Asked(">=", 0.5)
    return {
        "figures": [Figure(what, "images/s", mine, "PIL loop on one core (ratio: per core)", bare, ratio, asked)],
        "images": len(many.rows),
        "cores": cores,
        "rates": rates,
    }


def _bare(uris: tuple[str, ...]) -> float:
    """Images a second of the shortest loop that reads and decodes."""
    begun = time.perf_counter()
    for uri in uris:
        with open(uri, "rb") as file:
            np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
    return len(uris) / (time.perf_counter() - begun)
