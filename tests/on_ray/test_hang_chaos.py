"""Workers that hang in every way: found, looked at and started again, and nothing of it is in the result."""

from __future__ import annotations

import copy
import random
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import raymix
from raymix.failing.stacks import place
from raymix.on_ray.guard import STACKS_FOLDER
from tests.conftest import JOB
from tests.on_ray.halting import FACTORY, order
from tests.on_ray.hanging import Hangs
from tests.on_ray.killing import assert_each_step_once, rows_of, state_of

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

WORKERS = 3
KINDS = ["stopped", "deadlock", "held", "read"]
TESTS = 5
SHORT = 5.0  # seconds of failures.hang where it is not the default
DEFAULT = 30.0
SLACK = 2.0  # until the last file is seen, on a busy machine


def job(storage: Path, **failures: Any) -> dict[str, Any]:
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage / "runs"),
        "data": {**JOB["data"], "image_size": 16},
        "backbone": {"type": "import", "factory": FACTORY, "args": {"order": str(storage / "order")}},
        "schedule": {"ssl_epochs": 20, "sl_epochs": 20, "mix_ratio": 0.4},
        "checkpoint": {"every": "1s"},
        "evaluate": {"every": 0.1, "max_share": 1.0},
        "cluster": {"workers": WORKERS},
        "failures": {"max_restarts": 10, **failures},
    }


def run(asked: dict[str, Any]) -> Any:
    return raymix.run(asked, allow_import=(FACTORY,))


@pytest.fixture(scope="module")
def unbroken(attached: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    storage = tmp_path_factory.mktemp("unbroken")
    assert run(job(storage)).status == "done"
    assert not (storage / "runs" / "digits" / STACKS_FOLDER).exists(), "a false alarm"
    return storage / "runs" / "digits"


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
        assert "halting.py" in texts[rank]
        assert not found.together


def hang(storage: Path, unbroken: Path, kinds: list[str], dice: random.Random, **failures: Any) -> list[float]:
    """Seconds until each hang was found, of a run that comes out as the unbroken one."""
    hangs = Hangs(storage, WORKERS, kinds, int(rows_of(unbroken)[-1]["step"]), dice)
    hangs.start()
    report = run(job(storage, **failures))
    hangs.join(1)
    folder = storage / "runs" / "digits"
    assert (report.status, report.attempts, len(hangs.found)) == ("done", 1 + len(kinds), len(kinds))
    for number, (kind, rank) in enumerate(zip(kinds, hangs.ranks, strict=True), 1):
        assert_stacks(folder, number, kind, rank)
    assert_each_step_once(folder)
    assert state_of(folder) == state_of(unbroken)
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


def test_an_error_that_comes_again_at_the_same_step_is_not_tried_again(
    attached: None, tmp_path: Path, rounds: Callable[[int, int], int], capsys: pytest.CaptureFixture[str]
) -> None:
    if rounds(1, 0) == 0:
        pytest.skip("starts two groups")
    asked = job(tmp_path)
    asked["cluster"] = {"workers": 1}

    def fail() -> None:
        while not rows_of(tmp_path / "runs" / "digits"):
            time.sleep(0.02)
        order(tmp_path / "order", 0, "raise")  # from then on at every step, and while steps are prepared

    threading.Thread(target=fail, daemon=True).start()
    with pytest.raises(raymix.RunFailed) as end:
        run(asked)
    told, host = capsys.readouterr().err, r"\(\S+, process \d+\)"
    error = f"worker 0 {host} failed with ValueError: asked to fail"
    assert re.search(f"^{error}; restart 1 of 10 in 1 s$", told, re.MULTILINE), told
    assert re.search(
        f"^digits: {error}: twice in a row after step \\d+, so it is not tried again; --resume", str(end.value)
    )
