"""The order of rows is a pure function of seed, stream and position."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from raymix.data.order import Order

IDS = np.arange(100, 137, dtype=np.int64)


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    ids, epochs = Order(IDS, 3, "all").rows(0, 37 * 5)
    assert (ids.dtype, epochs.dtype) == (np.int64, np.int64)
    assert epochs.tolist() == np.repeat(np.arange(5), 37).tolist()
    parts = ids.reshape(5, 37)
    assert (np.sort(parts, axis=1) == IDS).all()
    assert len({tuple(part) for part in parts}) == 5


def test_any_start_and_any_cut_give_the_same_sequence() -> None:
    whole_ids, whole_epochs = Order(IDS, 3, "all").rows(0, 400)
    order = Order(IDS, 3, "all")
    for start in (399, 200, 0, 36, 37, 38, 111, 5):  # back and forth: what is cached must not matter
        for count in (0, 1, 36, 37, 38, 75, 400 - start):
            count = min(count, 400 - start)
            ids, epochs = order.rows(start, count)
            assert (ids == whole_ids[start : start + count]).all()
            assert (epochs == whole_epochs[start : start + count]).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_concatenated_are_one_stream(workers: int) -> None:
    batch, steps = 12, 20
    orders = [Order(IDS, 3, "labelled") for _ in range(workers)]
    local = batch // workers
    parts = [
        order.rows(step * batch + rank * local, local)[0] for step in range(steps) for rank, order in enumerate(orders)
    ]
    assert (np.concatenate(parts) == Order(IDS, 3, "labelled").rows(0, batch * steps)[0]).all()


def test_seed_stream_and_process() -> None:
    first = Order(IDS, 3, "all").rows(0, 37)[0]
    assert (Order(IDS, 4, "all").rows(0, 37)[0] != first).any()
    assert (Order(IDS, 3, "labelled").rows(0, 37)[0] != first).any()
    code = (
        "import numpy as np; from raymix.data.order import Order;"
        "print(*Order(np.arange(100, 137), 3, 'all').rows(0, 37)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(i) for i in first]


def test_few_rows_and_none() -> None:
    ids, epochs = Order(np.array([7]), 0, "all").rows(3, 4)
    assert (ids.tolist(), epochs.tolist()) == ([7] * 4, [3, 4, 5, 6])
    with pytest.raises(ValueError, match="'labelled' has no rows"):
        Order(np.array([], dtype=np.int64), 0, "labelled").rows(0, 1)


@pytest.mark.bench
def test_speed() -> None:
    order = Order(np.arange(100_000), 0, "all")
    start = time.perf_counter()
    order.rows(50_000, 100_000)
    assert time.perf_counter() - start < 0.02
