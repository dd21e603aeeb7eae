"""Streamed images: the rows that kept images would give, in the same order, from any position, for any ranks."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from raymix.data.frame import Frame, Pixels
from raymix.data.order import Order
from raymix.data.reading import stream_local
from raymix.data.tiles import tiles_of
from raymix.plan import segment
from raymix.spec import Tile
from raymix.train import stream
from raymix.train.execute import execute
from raymix.train.feed import Feed
from raymix.train.stream import Streamed
from raymix.train.supply import Source
from raymix.train.task import Task

FRAME = Frame(2)
CPU = torch.device("cpu")


def drawn(ids: np.ndarray) -> Pixels:
    """Images that say which row they are."""
    pixels = FRAME.empty(len(ids))
    pixels.reshape(len(ids), -1)[:, :4] = ids.astype("<u4").view(np.uint8).reshape(-1, 4)
    return pixels


def named(x: torch.Tensor) -> np.ndarray:
    return x.numpy().reshape(len(x), -1)[:, :4].copy().view("<u4").reshape(-1).astype(np.int64)


class Reader:
    """Draws rows instead of reading them, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []
        self.closed = 0

    def __call__(self, chunks: Sequence[np.ndarray]) -> Generator[Pixels, None, None]:
        try:
            for chunk in chunks:
                self.asked.append(chunk)
                yield drawn(chunk)
        finally:
            self.closed += 1


def streamed(chunk_rows: int, reader: Any = None) -> Streamed:
    return Streamed(FRAME, CPU, reader or Reader(), chunk_rows * FRAME.nbytes)


def taken(supply: Streamed, order: Order, parts: list[tuple[int, int, int]], world: int, end: int) -> np.ndarray:
    """Rows of all ranks put together, as (start, rows a step, steps) ask for them one after another."""
    found = []
    flows = [supply.open({"all": order}, {"all": end}, rank, world) for rank in range(world)]
    for start, rows, steps in parts:
        ids = order.rows(start, rows * steps)[0].reshape(steps, rows)
        whole = np.empty_like(ids)
        for rank, flow in enumerate(flows):
            images = flow.steps((Source("all", start, rows),), ids[:, rank::world])
            whole[:, rank::world] = [named(x) for x in images]
        found.append(whole.reshape(-1))
    for flow in flows:
        flow.close()
    return np.concatenate(found)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("run", [0, 5])
@pytest.mark.parametrize("chunk_rows", [1, 7, 100, 5000])
def test_every_row_comes_in_order_from_any_position(
    world: int, run: int, chunk_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several epochs, chunks and executions; after a jump ahead and one back."""
    monkeypatch.setattr(stream, "LEG_CHUNKS", 5)
    monkeypatch.setattr(stream, "LEAD_CHUNKS", 2)
    order = Order(np.arange(10, 10 + 48 * 5 * 2 + 31), 0, "all", run)
    parts = [(0, 24, 30), (720, 24, 20), (1200, 12, 5), (24, 24, 3), (1572, 36, 2)]
    expected = np.concatenate([order.rows(start, rows * steps)[0] for start, rows, steps in parts])
    assert (taken(streamed(chunk_rows), order, parts, world, 1644) == expected).all()


def test_nothing_is_read_beyond_the_end_of_the_plan() -> None:
    reader, order = Reader(), Order(np.arange(100), 0, "all")
    taken(streamed(8, reader), order, [(0, 10, 25)], 1, 250)
    assert sum(map(len, reader.asked)) == 250


@pytest.mark.parametrize("world", [1, 3])
def test_each_run_is_asked_for_by_one_rank_at_once(world: int) -> None:
    """A run of neighbours lies in one piece of a file: read in parts it would be read as often."""
    reader, order = Reader(), Order(np.arange(480), 0, "all", run=5)
    taken(streamed(100, reader), order, [(0, 48, 20)], world, 960)
    pieces = [
        (run, count)
        for chunk in reader.asked
        for run, count in zip(*np.unique(chunk // 5, return_counts=True), strict=True)
    ]
    assert len(pieces) == 2 * 96
    assert {count for _, count in pieces} == {5}


@pytest.mark.parametrize("world", [1, 3])
def test_an_image_is_asked_for_once_for_all_of_its_tiles(world: int) -> None:
    """By one rank in an epoch, wherever its tiles stand in the order; a tile is what was asked for, and no other."""
    asked: list[np.ndarray] = []

    def tiles(chunks: Sequence[np.ndarray]) -> Generator[Pixels, None, None]:
        for chunk in chunks:
            asked.append(chunk)
            yield drawn(tiles_of(chunk, 6)).reshape(len(chunk), 6, *FRAME.shape)

    frame = FRAME._replace(tile=Tile(grid=(2, 3)))
    order = Order(tiles_of(np.arange(10, 10 + 96), 6), 0, "all", run=6)
    supply = Streamed(frame, CPU, tiles, 100 * FRAME.nbytes)
    parts = [(0, 48, 20), (960, 24, 8)]
    expected = np.concatenate([order.rows(start, rows * steps)[0] for start, rows, steps in parts])
    assert (taken(supply, order, parts, world, 1152) == expected).all()
    images, counts = np.unique(np.concatenate(asked), return_counts=True)
    assert images.tolist() == list(range(10, 106))
    assert (counts == 2).all(), "once in each of two epochs"
    asked.clear()
    ids = tiles_of(np.array([40, 11, 77, 12, 13]), 6)
    batches = list(supply.batches(ids, 12))
    assert (np.concatenate([named(x) for x in batches]) == ids).all()
    assert [chunk.tolist() for chunk in asked] == [[11, 40], [12, 77], [13]]


def test_what_goes_wrong_while_reading_comes_through() -> None:
    def broken(chunks: Sequence[np.ndarray]) -> Generator[Pixels, None, None]:
        yield drawn(chunks[0])
        raise OSError("a.jpg: truncated; it could be read when the run began")

    with pytest.raises(OSError, match=r"a\.jpg: truncated"):
        taken(streamed(10, broken), Order(np.arange(100), 0, "all"), [(0, 10, 5)], 1, 100)


def test_closing_ends_every_reader() -> None:
    reader, order = Reader(), Order(np.arange(10_000), 0, "all")
    flow = streamed(10, reader).open({"all": order}, {"all": 10_000}, 0, 1)
    next(iter(flow.steps((Source("all", 0, 10),), np.zeros((1, 10), np.int64))))
    assert any(thread.name == "raymix-stream" for thread in threading.enumerate())
    flow.close()
    assert reader.closed == 1
    assert not any(thread.name == "raymix-stream" for thread in threading.enumerate())
    assert sum(map(len, reader.asked)) < 200, "it reads a little ahead, not the epoch"


def test_the_next_execution_begins_before_the_last_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting to read takes its time; the steps must not wait for it."""
    monkeypatch.setattr(stream, "LEG_CHUNKS", 30)

    def slow(chunks: Sequence[np.ndarray]) -> Generator[Pixels, None, None]:
        time.sleep(0.2)
        yield from (drawn(chunk) for chunk in chunks)

    order, waited = Order(np.arange(600), 0, "all"), []
    flow = streamed(10, slow).open({"all": order}, {"all": 900}, 0, 1)
    for step in range(90):
        started = time.perf_counter()
        next(iter(flow.steps((Source("all", 10 * step, 10),), np.zeros((1, 10), np.int64))))
        waited.append(time.perf_counter() - started)
        time.sleep(0.03)
    flow.close()
    assert waited[0] > 0.15
    assert sum(wait > 0.1 for wait in waited) == 1, "of three executions, the first alone"


def test_evaluation_reads_rows_in_the_order_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([5, 3, 900, 4, 4])
    assert np.concatenate([named(x) for x in streamed(2).batches(ids)]).tolist() == ids.tolist()
    assert list(streamed(2).batches(ids[:0])) == []


def test_an_evaluation_is_read_in_executions_as_short_as_those_of_the_steps() -> None:
    reader, ids = Reader(), np.arange(10)
    supply = Streamed(FRAME, CPU, reader, 2 * FRAME.nbytes, leg_chunks=2)
    assert np.concatenate([named(x) for x in supply.batches(ids)]).tolist() == ids.tolist()
    assert [len(chunk) for chunk in reader.asked] == [2] * 5
    assert reader.closed == 3


def test_sixteen_bits_arrive_as_they_are() -> None:
    frame, values = Frame(2, "gray16"), np.array([0, 1, 32767, 32768, 65535, 5, 6, 7], np.uint16).reshape(2, 2, 2, 1)
    supply = Streamed(frame, CPU, lambda chunks: (values[chunk] for chunk in chunks))
    x = torch.cat(list(supply.batches(np.array([0, 1]))))
    assert x.dtype == torch.int16
    assert (x.numpy().view(np.uint16) == values).all()


@pytest.mark.parametrize("data", [{}, {"label_fraction": 0.4, "labelled_share": 0.25}])
def test_streamed_and_kept_images_train_alike(digits: Any, data: dict[str, Any]) -> None:
    """Real images, read by the local threads: the same weights, bit by bit."""
    asked = digits(schedule={"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0.5}, data=data)
    kept, _ = asked.run(rates=asked.rates(10))
    runtime = asked.runtime()
    frame = Frame(8)
    runtime.supply = Streamed(frame, CPU, lambda chunks: stream_local(asked.rows, frame, chunks), 100 * frame.nbytes)
    done = execute(Task("digits", asked.plan, asked.splits, asked.rates(10)), runtime)
    assert done.complete
    losses = [[(r.ssl_loss, r.sl_loss, r.train_top1) for r in run.history.reports] for run in (kept, done)]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 5
    assert np.array_equal(done.correct["raw"], kept.correct["raw"])
    assert done.seen == kept.seen


def test_a_batch_has_its_share_of_labelled_rows(digits: Any) -> None:
    """labelled_share 0.25 of 48: 12 rows of the labelled stream, 36 of the others, in every mix batch of any rank."""
    asked = digits(
        schedule={"ssl_epochs": 0.5, "sl_epochs": 1, "mix_ratio": 1},
        data={"label_fraction": 0.2, "labelled_share": 0.25},
        optim={"batch": 48},
    )
    runtime = asked.runtime()
    whole = _labels(asked, runtime, 0, 1)
    assert {(labels >= 0).sum() for labels in whole} == {12}
    for world in (2, 3, 4):
        ranks = [_labels(asked, runtime, rank, world) for rank in range(world)]
        for step, labels in enumerate(whole):
            together = np.empty_like(labels)
            for rank in range(world):
                together[rank::world] = ranks[rank][step]
            assert (together == labels).all()


def _labels(asked: Any, runtime: Any, rank: int, world: int) -> list[np.ndarray]:
    runtime.rank, runtime.world = rank, world
    feed = Feed(asked.plan, asked.splits, runtime)
    phase = next(phase for phase in asked.plan.phases if phase.kind == "mix")
    return [batch.y_B.numpy() for _, batch in feed.batches(segment(asked.plan, phase.start, phase.steps, False))]
