"""The order of rows is a pure function of seed, stream and position."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from raymix.data.formats import index_data
from raymix.data.order import Order, orders
from raymix.data.splits import facts, split
from raymix.jobfile import load_spec
from raymix.plan import resolve

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
def test_workers_in_turn_are_one_stream(workers: int) -> None:
    batch, steps = 12, 20
    whole = Order(IDS, 3, "labelled").rows(0, batch * steps)[0]
    found = np.empty_like(whole)
    for rank in range(workers):
        order = Order(IDS, 3, "labelled")
        parts = [order.rows(step * batch, batch)[0][rank::workers] for step in range(steps)]
        found[rank::workers] = np.concatenate(parts)
    assert (found == whole).all()


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


# ---- runs: images streamed out of larger files ------------------------------------------------------------------


MANY = np.arange(1000, 1000 + 48 * 5 * 4 + 77, dtype=np.int64)  # four whole windows of runs of 5, and a rest


def test_runs_make_an_epoch_a_permutation_of_its_own() -> None:
    order = Order(MANY, 3, "all", run=5)
    parts = order.rows(0, 3 * len(MANY))[0].reshape(3, -1)
    assert (np.sort(parts, axis=1) == MANY).all()
    assert len({tuple(part) for part in parts}) == 3
    assert order.window == 240


def test_a_window_consists_of_whole_runs_and_each_run_has_a_residue_of_its_own() -> None:
    order, num = Order(MANY, 3, "all", run=5), len(MANY)
    for epoch in range(3):
        for window in range(4):
            start = epoch * num + 240 * window
            ids = order.rows(start, 240)[0]
            assert len(set((ids - 1000) // 5)) == 48
            for residue in range(48):
                assert len(set((ids[residue::48] - 1000) // 5)) == 1
    firsts = {tuple((order.rows(epoch * num, 48)[0] - 1000) // 5) for epoch in range(3)}
    assert len(firsts) == 3, "other runs come first in another epoch"


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 8, 12, 16, 24, 48])
def test_no_run_is_read_by_two_ranks(workers: int) -> None:
    order = Order(MANY, 3, "all", run=5)
    for start in (0, len(MANY)):  # the second epoch begins at a position that is no multiple of 48
        ids = order.rows(start, 960)[0]
        readers = [set((ids[rank::workers] - 1000) // 5) for rank in range(workers)]
        for window in range(4):
            inside = [set((ids[240 * window :][:240][rank::workers] - 1000) // 5) for rank in range(workers)]
            assert sum(map(len, inside)) == 48
        assert len(set.union(*readers)) == 192


@pytest.mark.parametrize("run", [0, 1, 5, 1000])
def test_any_cut_gives_the_same_sequence_in_runs(run: int) -> None:
    whole = Order(MANY, 3, "all", run).rows(0, 4000)[0]
    order = Order(MANY, 3, "all", run)
    for start in (3999, 0, 1036, 1037, 1038, 239, 240, 241, 5):
        for count in (0, 1, 239, 1037, 1038):
            count = min(count, 4000 - start)
            assert (order.rows(start, count)[0] == whole[start : start + count]).all()


def test_runs_of_one_row_are_the_full_permutation_of_kept_images() -> None:
    assert (Order(MANY, 3, "all", 1).rows(0, 3000)[0] == Order(MANY, 3, "all").rows(0, 3000)[0]).all()


@pytest.mark.parametrize("run", [0, 5])
def test_count_is_what_the_sequence_holds(run: int) -> None:
    order, mask = Order(MANY, 3, "all", run), np.random.default_rng(0).random(3000) < 0.3
    whole = order.rows(0, 3500)[0]
    for end in (0, 1, 500, len(MANY), len(MANY) + 1, 3500):
        assert order.count(end, mask) == np.count_nonzero(mask[whole[:end]])
    assert Order(np.array([], dtype=np.int64), 0, "all").count(5, mask) == 0


def test_tiles_of_an_image_have_its_label_and_all_of_them_come_once_in_an_epoch() -> None:
    section = {"format": "digits"}
    data = {"train": section, "tile": {"grid": [2, 3]}, "image_size": 8}
    spec = load_spec({"name": "x", "data": data, "backbone": {"patch": 2}})
    rows = index_data(spec.data)
    splits = split(rows, spec.data, 0)
    known = facts(rows, splits)
    assert (known.tiles, known.num_train, known.num_val) == (6, 6 * len(splits.train), len(splits.val))
    assert known.num_images == len(rows)
    assert sum(known.class_rows) == known.num_labelled == 6 * len(splits.labelled)
    found = orders(resolve(spec, known), splits)["all"]
    ids = found.rows(0, len(found))[0]
    assert sorted(ids) == [6 * row + tile for row in splits.train for tile in range(6)]
    assert len(set(ids[:96] // 6)) > 80, "tiles are mixed, not only images"


def test_rare_classes_are_drawn_more_often_by_tile_too() -> None:
    section = {"train": {"format": "digits"}, "tile": {"grid": [1, 2]}, "image_size": 8, "balance": 1.0}
    spec = load_spec({"name": "x", "data": section, "backbone": {"patch": 2}})
    rows = index_data(spec.data)
    splits = split(rows, spec.data, 0)
    ids = orders(resolve(spec, facts(rows, splits)), splits)["labelled"].rows(0, 1000)[0]
    assert set(ids % 2) == {0, 1}
    counts = np.bincount(rows.labels[ids // 2])
    assert counts.max() - counts.min() < 40
