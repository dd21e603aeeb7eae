"""Blocks of rows on Ray: the same results as from threads, errors as they were raised."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from raymix.data.blocks import Block, map_threads
from raymix.data.check import check_block, gathered, summary
from raymix.data.formats import index_data
from raymix.data.prepare import shards_of
from raymix.data.shardfile import WORK, Writing, write_shard
from raymix.on_ray.blocks import map_ray, ray_for_blocks
from raymix.spec import Cluster, Data, DigitsSource, JobError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]

DATA = Data(train=DigitsSource(format="digits"))


def doubled(number: int) -> int:
    return 2 * number


def refuses(number: int) -> int:
    if number == 7:
        raise JobError("DIR", "no space left", "make room")
    return number


def test_every_result_once_and_blocks_as_they_are_needed() -> None:
    begun = []

    def numbers() -> Iterator[int]:
        for number in range(300):
            begun.append(number)
            yield number

    results = map_ray(doubled, numbers())
    first = next(results)
    assert len(begun) < 50
    assert sorted([first, *results]) == list(range(0, 600, 2))


def test_an_error_is_the_one_that_was_raised() -> None:
    with pytest.raises(JobError) as caught:
        list(map_ray(refuses, range(1000)))
    assert str(caught.value) == "DIR: no space left (make room)"
    assert type(caught.value) is JobError


def test_check_is_the_same_as_with_threads() -> None:
    rows = index_data(DATA)
    blocks = [Block.of(rows, ids) for ids in np.array_split(np.arange(len(rows)), 9)]
    reports = [
        summary(rows, gathered(len(rows), map_blocks(partial(check_block, channels="rgb"), blocks)), DATA, 1.0)
        for map_blocks in (map_ray, map_threads)
    ]
    assert reports[0] == reports[1]


def test_shards_are_the_same_as_with_threads(tmp_path: Path) -> None:
    rows = index_data(DATA)
    writing = Writing(size=None, codec="jpeg", quality=None, channels="rgb")
    for name, map_blocks in (("ray", map_ray), ("threads", map_threads)):
        (tmp_path / name / WORK).mkdir(parents=True)
        function = partial(write_shard, folder=str(tmp_path / name), writing=writing)
        assert len(list(map_blocks(function, shards_of(rows, 300, seed=0)))) == 6
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).glob("*.parquet")}
        for name in ("ray", "threads")
    ]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 6


def test_ray_that_was_there_stays() -> None:
    import ray

    with ray_for_blocks(Cluster(workers=512), verbose=False):  # what training asks for stays out of it
        pass
    assert ray.is_initialized()
