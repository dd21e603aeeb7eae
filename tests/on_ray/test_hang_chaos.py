"""Workers that hang in every way: found, looked at and started again, and nothing of it is in the result."""

from __future__ import annotations

import copy
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import raymix
from raymix.failing.stacks import place
from raymix.on_ray.guard import STACKS_FOLDER
from tests.conftest import JOB
from tests.on_ray import hanging
from tests.on_ray.test_chaos import assert_each_step_once, num_steps_of, rows_of, tensors

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

WORKERS = 3
KINDS = ["stopped", "deadlock", "held", "read"]
TESTS = 5
SHORT = 5.0  # seconds of failures.hang where it is not the default
DEFAULT = 30.0
SLACK = 2.0  # until the last file is seen, on a busy machine


def job(storage: Path, **failures: Any) -> dict[str, Any]:
    order = str(storage / "order")
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage / "runs"),
        "data": {**JOB["data"], "image_size": 16},
        "backbone": {"type": "import", "factory": hanging.FACTORY, "args": {"order": order}},
        "schedule": {"ssl_epochs": 30, "sl_epochs": 30, "mix_ratio": 0.4},
        "checkpoint": {"every": "1s"},
        "evaluate": {"every": 0.1, "max_share": 1.0},
        "cluster": {"workers": WORKERS},
        "failures": {"max_restarts": 10, **failures},
    }


def run(asked: dict[str, Any]) -> Any:
    return raymix.run(asked, allow_import=(hanging.FACTORY,))


@pytest.fixture(scope="module")
def unbroken(attached: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    storage = tmp_path_factory.mktemp("unbroken")
    assert run(job(storage)).status == "done"
    assert not (storage / "runs" / "digits" / STACKS_FOLDER).exists(), "a false alarm"
    return storage / "runs" / "digits"


def workers() -> list[psutil.Process]:
    below = psutil.Process().children(recursive=True)
    return [process for process in below if process.cmdline()[:1] == ["ray::RayTrainWorker"]]


class Hangs(threading.Thread):
    """Makes workers of a run hang, one after another, at steps that are spread over it."""

    def __init__(self, storage: Path, kinds: list[str], num_steps: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._storage, self._folder = storage, storage / "runs" / "digits"
        self._kinds, self._num_steps, self._dice = kinds, num_steps, dice
        self.found = list[float]()  # seconds from each to the last worker's stacks
        self.ranks = list[int]()
        self.stopped = list[psutil.Process]()

    def run(self) -> None:
        for number, kind in enumerate(self._kinds):
            self._wait_for((number + 0.5) / (len(self._kinds) + 1) * self._num_steps)
            time.sleep(self._dice.uniform(0, 0.5))
            rank = self._dice.randrange(WORKERS)
            self.ranks.append(rank)
            since = self._hang(kind, rank)
            stacks = self._folder / STACKS_FOLDER / f"{number + 1:03d}"
            while len(list(stacks.glob("rank-*.txt"))) < WORKERS:
                time.sleep(0.02)
            self.found.append(time.monotonic() - since)

    def _wait_for(self, step: float) -> None:
        """Steps are done since the last start, and a checkpoint is there."""
        before = len(rows_of(self._folder))
        while True:
            rows = rows_of(self._folder)
            if len(rows) > before and rows[-1]["step"] >= step and list(self._folder.glob("checkpoints/step-*")):
                return
            before = min(before, len(rows))
            time.sleep(0.02)

    def _hang(self, kind: str, rank: int) -> float:
        if kind == "stopped":
            self.stopped.append(workers()[rank])  # some rank's
            self.stopped[-1].suspend()
            return time.monotonic()
        file = self._storage / "order"
        hanging.order(file, rank, kind)
        while file.exists():
            time.sleep(0.01)
        since = time.monotonic()
        for left in self._storage.glob("order.*"):
            left.unlink()
        return since


def assert_stacks(folder: Path, number: int, kind: str, rank: int) -> None:
    """Every worker's are there, and those of the one that hangs show where."""
    texts = [(folder / STACKS_FOLDER / f"{number:03d}" / f"rank-{of}.txt").read_text() for of in range(WORKERS)]
    places = [place(text) for text in texts]
    assert all(places), texts
    if kind == "stopped":
        assert sum(", stopped\n" in text for text in texts) == 1
    else:
        found = places[rank]
        assert found is not None
        assert "hanging.py" in texts[rank]
        assert not found.together


def hang(storage: Path, unbroken: Path, kinds: list[str], dice: random.Random, **failures: Any) -> list[float]:
    """Seconds until each hang was found, of a run that comes out as the unbroken one."""
    hangs = Hangs(storage, kinds, num_steps_of(unbroken), dice)
    hangs.start()
    report = run(job(storage, **failures))
    hangs.join(1)
    folder = storage / "runs" / "digits"
    assert (report.status, report.attempts, len(hangs.found)) == ("done", 1 + len(kinds), len(kinds))
    for number, (kind, rank) in enumerate(zip(kinds, hangs.ranks, strict=True), 1):
        assert_stacks(folder, number, kind, rank)
    assert_each_step_once(folder, num_steps_of(unbroken))
    assert tensors(folder) == tensors(unbroken)
    assert not any(process.is_running() for process in hangs.stopped)
    return hangs.found


@pytest.fixture(scope="module")
def seconds() -> list[float]:
    """Until each hang so far was found."""
    return []


@pytest.mark.parametrize("number", range(TESTS))
def test_hangs_are_found_and_cost_no_more_than_time(
    number: int,
    unbroken: Path,
    tmp_path: Path,
    seconds: list[float],
    rounds: Callable[[int, int], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = min(len(KINDS), rounds(TESTS * len(KINDS), 1) - number * len(KINDS))
    if left <= 0:
        pytest.skip("of the few none is left for this one")
    dice = random.Random(number)
    kinds = dice.sample(KINDS, len(KINDS))[:left]
    seconds += hang(tmp_path, unbroken, kinds, dice, hang=SHORT)
    told = capsys.readouterr().err
    assert told.count(f"stacks of the workers are in {tmp_path}") == left
    assert all(f"restart {restart} of 10 in " in told for restart in range(1, left + 1))
    with capsys.disabled():
        print(f"\n{len(seconds)} hangs found: p50 {np.median(seconds):.1f} s, max {max(seconds):.1f} s of {SHORT:g} s")
    assert max(seconds) < SHORT + SLACK


def test_a_hang_is_found_in_half_a_minute(unbroken: Path, tmp_path: Path, rounds: Callable[[int, int], int]) -> None:
    if rounds(1, 0) == 0:
        pytest.skip("takes a minute")
    (found,) = hang(tmp_path, unbroken, ["stopped"], random.Random(0))
    assert found < DEFAULT + SLACK
    print(f"found after {found:.1f} s")
