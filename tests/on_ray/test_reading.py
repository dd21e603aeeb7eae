"""Images read on Ray: kept once a node, checked, and streamed in order, as the local reader has them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.data import DataContext

from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.order import Order
from raymix.data.reading import read_local
from raymix.data.rows import Rows
from raymix.jobfile import load_spec
from raymix.on_ray import reading
from raymix.on_ray.cluster import ENVIRONMENT
from raymix.on_ray.hold import Memory
from raymix.spec import Tile
from raymix.train.stream import Streamed
from raymix.train.supply import Source
from tests.on_ray.conftest import tree_job

pytestmark = pytest.mark.ray

FRAME = Frame(16)


def rows_of(root: Path) -> Rows:
    return index_data(load_spec(tree_job(root, 2)).data)


def silent(done: int, total: int) -> None: ...


@pytest.mark.usefixtures("attached")
def test_images_are_kept_as_the_local_reader_has_them(damaged: Path) -> None:
    rows = rows_of(damaged)
    ids = np.arange(1, len(rows))  # not the first one: ids and positions differ
    seen: list[tuple[int, int]] = []
    memory, kept, skipped = reading.keep(rows, ids, FRAME, lambda done, total: seen.append((done, total)))
    found, expected = kept.on_this_node(), read_local(rows, ids, FRAME)
    assert (found.pixels == expected.pixels).all()
    assert (found.slots == expected.slots).all()
    assert skipped == expected.skipped
    assert sorted(skipped.values()) == ["empty", "not an image", "truncated"]
    assert seen[-1] == (len(ids), len(ids))
    assert seen == sorted(seen)
    assert not found.pixels.flags.writeable
    memory.close()


@pytest.mark.usefixtures("attached")
def test_checking_finds_what_reading_would(damaged: Path) -> None:
    rows, seen = rows_of(damaged), list[tuple[int, int]]()
    skipped = reading.check(rows, np.arange(len(rows)), FRAME, lambda done, total: seen.append((done, total)))
    assert skipped == read_local(rows, np.arange(len(rows)), FRAME).skipped
    assert seen[-1] == (120, 120)
    assert reading.check(rows, np.array([0, 1]), FRAME, silent) == {}


@ray.remote(num_cpus=1)
def _streamed(streaming: Any, orders: list[Order], rank: int, world: int, steps: int, batch: int) -> list[np.ndarray]:
    """What one rank takes of each order, from the second step on: (steps - 1, batch / world, S, S, C)."""
    found = []
    for order in orders:
        supply = Streamed(streaming.frame, torch.device("cpu"), streaming.start(), 10 * streaming.frame.nbytes)
        flow = supply.open({"all": order}, {"all": steps * batch}, rank, world)
        ids = order.rows(batch, (steps - 1) * batch)[0].reshape(-1, batch)[:, rank::world]
        found.append(np.stack([x.numpy() for x in flow.steps((Source("all", batch, batch),), ids)]))
        flow.close()
    return found


@pytest.mark.usefixtures("attached")
def test_three_ranks_stream_the_rows_of_the_order(damaged: Path) -> None:
    """Of two runs, over two epochs, in blocks of ten rows; each rank reads its own share by itself."""
    rows, world, steps, batch = rows_of(damaged), 3, 20, 12
    expected = read_local(rows, np.arange(len(rows)), FRAME)
    good = np.setdiff1d(np.arange(len(rows)), list(expected.skipped))
    orders = [Order(good, 5, "all", run) for run in (0, 2)]
    streaming = reading.streaming(rows, FRAME, world, 1, 100 * 2**20)
    ranks = ray.get([_streamed.remote(streaming, orders, rank, world, steps, batch) for rank in range(world)])
    for number, order in enumerate(orders):
        ids = order.rows(batch, (steps - 1) * batch)[0].reshape(-1, batch)
        for rank in range(world):
            assert (ranks[rank][number] == expected.pixels[expected.slots[ids[:, rank::world]]]).all()


@pytest.mark.usefixtures("attached")
def test_a_chunk_that_ray_cuts_into_blocks_comes_whole(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiles of a window of large images are more than a block of Ray Data holds."""
    rows, frame = rows_of(damaged), FRAME._replace(tile=Tile(grid=(4, 4)))
    expected = read_local(rows, np.arange(len(rows)), frame)
    good = np.setdiff1d(np.arange(len(rows)), list(expected.skipped))
    streaming = reading.streaming(rows, frame, 1, 1, 100 * 2**20)
    chunks = [good[40:100], good[:3], good[10:40]]
    context = DataContext.get_current()
    monkeypatch.setattr(context, "execution_options", copy.deepcopy(context.execution_options))
    monkeypatch.setattr(context, "target_max_block_size", 10 * frame.nbytes)
    found = list(reading._Executions(streaming).read(chunks))
    for pixels, chunk in zip(found, chunks, strict=True):
        assert (pixels == expected.pixels[expected.slots[chunk]]).all()


@pytest.mark.usefixtures("attached")
def test_a_row_that_turns_unreadable_is_named(damaged: Path) -> None:
    rows = rows_of(damaged)
    streaming = reading.streaming(rows, FRAME, 1, 1, 100 * 2**20)
    with pytest.raises(Exception, match=r"class0/003.jpg: empty; it could be read when the run began"):
        list(streaming.start()([np.array([1, 2, 3])]))


# ---- two nodes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A head and a second node, which alone has a resource called `second`."""
    from ray.cluster_utils import Cluster

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    if ray.is_initialized():
        pytest.skip("a Ray is there already: run this file alone")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    cluster.add_node(num_cpus=1, resources={"second": 1}, object_store_memory=100 * 2**20)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@ray.remote(num_cpus=1, resources={"second": 0.1})
def _elsewhere(kept: Any) -> tuple[str, int, np.ndarray]:
    images = kept.on_this_node()
    return ray.get_runtime_context().get_node_id(), os.getpid(), images.pixels.copy()


@pytest.mark.chaos
@pytest.mark.usefixtures("two_nodes")
def test_every_node_holds_its_images_once(damaged: Path) -> None:
    rows = rows_of(damaged)
    memory, kept, _ = reading.keep(rows, np.arange(len(rows)), FRAME, silent)
    here = kept.on_this_node()
    found = ray.get([_elsewhere.remote(kept) for _ in range(2)])
    assert all(node != kept.held.node for node, _, _ in found)
    assert all((pixels == here.pixels).all() for _, _, pixels in found)
    memory.close()


@pytest.mark.usefixtures("attached")
def test_memory_leaves_nothing_that_outlives_it() -> None:
    """Anonymous memory, not a file in /dev/shm that a kill would leave there."""
    before = set(os.listdir("/dev/shm"))
    memory = Memory(10, FRAME)
    assert memory.held.path.startswith(f"/proc/{os.getpid()}/fd/")
    memory.held.room(3, 5)[:] = 7
    assert memory.held.images()[2:6, 0, 0, 0].tolist() == [0, 7, 7, 0]
    assert set(os.listdir("/dev/shm")) == before
    path = memory.held.path
    memory.close()
    assert not os.path.exists(path)
