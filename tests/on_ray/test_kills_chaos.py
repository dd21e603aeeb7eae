"""SIGKILL of workers at random ranks and steps: what comes out is what the unbroken run brought, bit by bit."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

import raymix
from raymix.on_ray.cluster import session_folder
from tests.on_ray.killing import (
    EVERY_SECONDS,
    SEGMENT_SECONDS,
    Heard,
    assert_each_step_once,
    final_of,
    killed_job,
    of_piece,
    percentile,
    rows_of,
    state_of,
    wait_until,
    workers_below,
)

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

KILLS_OF_A_RUN = 5
BACK_SECONDS = 20.0  # from a kill to a step that was not done before, on two cores
# all have ssl and sl phases
RUNS: dict[str, dict[str, Any]] = {
    "alternate": {"schedule": {"mix_ratio": 0.6, "interleave": "alternate", "alternate_steps": 5}},
    "joint": {"schedule": {"mix_ratio": 0.5}},
    "ema": {
        "schedule": {"mix_ratio": 0.4},
        "optim": {"batch": 96, "lr": 2e-3, "ema": 0.05, "accumulate": 2, "clip": 1.0},
    },
    "full": {"schedule": {"mix_ratio": 0.4, "shared_pass": "full"}},
    # small batches: without mix steps, a quiet machine would be done before the last kill
    "restart": {"schedule": {"mix_ratio": 0.0}, "optim": {"batch": 48, "lr": 2e-3, "restart": "phase"}},
}


class Kill(NamedTuple):
    """One SIGKILL and what became of it."""

    kind: str  # the phase that it hit
    rank: int  # of the workers, by their processes' numbers
    step: int  # the last one known to be done
    back: int  # where the next group began
    redone_seconds: float
    first_step: float  # seconds to the next group's first step
    useful: float  # seconds to a segment with steps that had not been done


class Killer(threading.Thread):
    """Kills a random worker whenever the run has come to one of the steps, and some time after it."""

    def __init__(self, heard: Heard, steps: list[int], draw: random.Random) -> None:
        super().__init__(name="killer", daemon=True)
        self.heard, self.steps, self.draw, self.kills = heard, steps, draw, list[Kill]()
        self.over = threading.Event()

    def run(self) -> None:
        for step in self.steps:
            if not self._kill(step):
                return

    def _kill(self, step: int) -> bool:
        heard = self.heard
        going = lambda: not self.over.is_set()  # noqa: E731
        wait_until(lambda: heard.begun, going)
        # a run that is killed again and again must come on in between
        before = self.kills[-1].step if self.kills else -1
        if not wait_until(lambda: heard.step >= step and heard.step > before and self._trained(), going):
            return False
        time.sleep(self.draw.uniform(0, SEGMENT_SECONDS))
        workers = workers_below(psutil.Process())
        if self.over.is_set() or len(workers) != 3:
            return False
        rank, groups = self.draw.randrange(3), len(heard.begun)
        at, done, kind = time.time(), heard.step, heard.segments[-1].kind
        spoil_rays_files()
        workers[rank].kill()
        if not wait_until(lambda: len(heard.begun) > groups, going):
            return False
        begun = heard.begun[groups]
        assert wait_until(lambda: heard.segments[-1].at > begun.at and heard.step > done, going)
        useful = next(s for s in heard.segments if s.at > begun.at and s.step > done)
        # what was done, but not heard of before the kill, stands in the checkpoint
        redone = heard.seconds_between(begun.step, done)
        self.kills.append(Kill(kind, rank, done, begun.step, redone, begun.at - at, useful.at - at))
        return True

    def _trained(self) -> bool:
        return bool(self.heard.segments) and self.heard.segments[-1].at > self.heard.begun[-1].at


def spoil_rays_files() -> None:
    """Whatever Ray Train has written of the run is emptied, and what it would go on from is no JSON."""
    for folder in Path(session_folder()).glob("raymix-*/raymix-*"):
        for path in folder.iterdir():
            os.truncate(path, 0)
        (folder / "checkpoint_manager_snapshot.json").write_text('{"checkpoint_results": [')


@pytest.fixture(scope="module")
def kills() -> list[Kill]:
    """All of this belt's so far."""
    return []


@pytest.mark.parametrize(("number", "name"), list(enumerate([*RUNS] * 4)))
def test_killed_workers_cost_no_more_than_time(
    number: int,
    name: str,
    attached: None,
    unbroken: Callable[..., Path],
    rounds: Callable[[int, int], int],
    kills: list[Kill],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = of_piece(number, KILLS_OF_A_RUN, rounds(100, 3))
    epochs = 4 + 4 * asked
    schedule = {**RUNS[name]["schedule"], "ssl_epochs": epochs, "sl_epochs": epochs}
    # evaluations cut the segments short, so that there is a checkpoint each second
    sections = {**RUNS[name], "schedule": schedule, "evaluate": {"every": 0.02, "max_share": 1.0}}
    whole = unbroken(**sections)
    draw, num_steps = random.Random(number), int(rows_of(whole)[-1]["step"])
    steps = sorted(draw.randrange(num_steps * 9 // 10) for _ in range(asked))
    killer = Killer(Heard(monkeypatch), steps, draw)
    killer.start()
    report = raymix.run(killed_job(tmp_path, **sections, failures={"max_restarts": 2 * asked}), quiet=True)
    killer.over.set()
    killer.join()
    tell(name, number, num_steps, killer.kills)
    kills += killer.kills
    assert len(killer.kills) == asked
    assert report.attempts == 1 + asked
    same(tmp_path / "digits", whole)
    assert all(kill.redone_seconds <= EVERY_SECONDS + SEGMENT_SECONDS for kill in killer.kills)


def test_the_way_back_is_short(kills: list[Kill]) -> None:
    """Over all kills of the tests above."""
    useful = [kill.useful for kill in kills]
    p50, p95 = percentile(useful, 0.5), percentile(useful, 0.95)
    print(f"{len(kills)} kills, to a useful step p50 {p50:.1f} s, p95 {p95:.1f} s")
    assert p95 <= BACK_SECONDS


def same(folder: Path, unbroken: Path) -> None:
    assert_each_step_once(folder)
    assert state_of(folder) == state_of(unbroken)
    assert final_of(folder) == final_of(unbroken)


def tell(name: str, seed: int, num_steps: int, kills: list[Kill]) -> None:
    for kill in kills:
        print(f"{name}: {kill}")
    useful, redone = [kill.useful for kill in kills], [kill.redone_seconds for kill in kills]
    steps = max(kill.step - kill.back for kill in kills)
    print(
        f"{name}, seed {seed}: {len(kills)} kills in {num_steps} steps, to a useful step "
        f"p50 {percentile(useful, 0.5):.1f} s, p95 {percentile(useful, 0.95):.1f} s; "
        f"redone: {steps} steps, {max(redone):.1f} s at most"
    )
