"""Part `stream`: images a second through raymix's stream, a DataLoader and bare Ray Data, two processes each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raymix.bench.figures import Asked, Figure, median_ratio
from raymix.bench.pictures import Pictures
from raymix.data.order import Order
from raymix.train.stream import Streamed
from raymix.train.supply import Source

BATCH = 256
NUM_PROCESSES = 2  # that read and decode, on each side
_MIN_CHUNKS = 4  # that are counted, however few images there are
_TAIL_CHUNKS = 3  # not counted: the reader has less to do ahead of the end


class Turn(NamedTuple):
    """One turn of one side, its first epoch left out."""

    rate: float  # images a second
    first: list[float]  # seconds until the first batch of each epoch


def bench_stream(pictures: Pictures, rounds: int, epochs: int) -> dict[str, Any]:
    """`rounds` turns of each side, of `epochs` counted epochs of raymix, about as long for the rivals.

    Returns:
        `rates` and seconds until the `first` batch of an epoch by side, and `figures`.
    """
    from raymix.on_ray.bench import ImageReader, started
    from raymix.on_ray.cluster import smallest_store
    from raymix.on_ray.reading import streaming

    loader = _loader(pictures)
    for _ in loader:  # starts its processes, before Ray's threads are here, and fills the system's file cache
        pass
    with started():
        stream = streaming(pictures.rows, pictures.frame, 1, 1, smallest_store())._replace(cpus=NUM_PROCESSES)
        reader = ImageReader(pictures.root, None if pictures.uniform else pictures.frame.size, NUM_PROCESSES)
        sides: dict[str, Callable[[], Turn]] = {
            "raymix": lambda: _stream_turn(pictures, stream, epochs),
            "DataLoader": lambda: _turn(lambda: map(_rows, loader), 2),
            "read_images": lambda: _turn(lambda: reader.epoch(BATCH), 1),
        }
        turns: dict[str, list[Turn]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, take in sides.items():
                turns[side].append(take())
    rates = {side: [turn.rate for turn in of_side] for side, of_side in turns.items()}
    first = {side: [seconds for turn in of_side for seconds in turn.first] for side, of_side in turns.items()}
    return {
        "figures": _figures(rates, first),
        "images": len(pictures.rows),
        "image_size": pictures.frame.size,
        "batch": BATCH,
        "processes": NUM_PROCESSES,
        "chunk_bytes": stream.chunk_bytes,
        "rates": rates,
        "first": first,
    }


def _figures(rates: dict[str, list[float]], first: dict[str, list[float]]) -> list[Figure]:
    median = {side: statistics.median(of_side) for side, of_side in rates.items()}
    figures = []
    for rival, name, least in (
        ("DataLoader", "DataLoader + ImageFolder", 1.0),
        ("read_images", "ray.data.read_images", 5.0),
    ):
        ratio = median_ratio(rates["raymix"], rates[rival])
        asked = Asked(">=", least)
        figures.append(Figure("streamed", "images/s", median["raymix"], name, median[rival], ratio, asked))
    asked = Asked("<=", 0.5, "measured")
    for what, of in (("longest", max), ("median", statistics.median)):
        mine, other = of(first["raymix"]), of(first["DataLoader"])
        name = f"first batch of an epoch, {what}"
        figures.append(Figure(name, "s", mine, "DataLoader + ImageFolder", other, mine / other, asked))
    return figures


def _stream_turn(pictures: Pictures, stream: Any, epochs: int) -> Turn:
    """Epochs end to end in one flow, as in a run.

    Images come in chunks: what is counted begins and ends where one arrives, so that no part of one is a gift.
    """
    cpu, size = torch.device("cpu"), stream.chunk_bytes
    supply = Streamed(pictures.frame, cpu, stream.start(), size, stream.leg_chunks)
    num, chunk = len(pictures.rows), max(1, size // pictures.frame.nbytes)
    begin = -(-num // chunk)
    end = max((1 + epochs) * num // chunk, begin + _MIN_CHUNKS)
    num_steps = -(-(end + _TAIL_CHUNKS) * chunk // BATCH)
    order = Order(pictures.ids, 0, "all")
    flow = supply.open({"all": order}, {"all": num_steps * BATCH}, 0, 1)
    ids_TB = order.rows(0, num_steps * BATCH)[0].reshape(-1, BATCH)
    times = [time.perf_counter()]
    for _ in flow.steps((Source("all", 0, BATCH),), ids_TB):
        times.append(time.perf_counter())
    flow.close()

    def arrival(position: int) -> int:
        return position // BATCH + 1  # the place in `times` of the batch that holds it

    counted = times[arrival(end * chunk)] - times[arrival(begin * chunk)]
    starts = [arrival(position) for position in range(num, end * chunk, num)]
    return Turn((end - begin) * chunk / counted, [times[place] - times[place - 1] for place in starts])


def _turn(epoch: Callable[[], Iterator[int]], epochs: int) -> Turn:
    """Some epochs of a rival whose processes are there already."""
    first, num, started = [], 0, time.perf_counter()
    for _ in range(epochs):
        asked = time.perf_counter()
        for place, rows in enumerate(epoch()):
            if place == 0:
                first.append(time.perf_counter() - asked)
            num += rows
    return Turn(num / (time.perf_counter() - started), first)


def _loader(pictures: Pictures) -> torch.utils.data.DataLoader[Any]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    size = pictures.frame.size
    resized = [] if pictures.uniform else [v2.Resize(size), v2.CenterCrop(size)]
    return torch.utils.data.DataLoader(
        ImageFolder(pictures.root, transform=v2.Compose([*resized, v2.PILToTensor()])),
        batch_size=BATCH,
        shuffle=True,
        num_workers=NUM_PROCESSES,
        persistent_workers=True,
    )


def _rows(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[0])
