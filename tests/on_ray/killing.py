"""What the belts of kills share: a job, what a run is heard to do, and what it leaves."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from raymix import conduct
from raymix.plan import Plan
from raymix.report.history import History, SegmentReport
from raymix.train import checkpoint
from raymix.watch.jsonl import JsonlSink
from tests.conftest import JOB

SECONDS = 150.0  # a test that waits longer has failed
SEGMENT_SECONDS = 2.0
EVERY_SECONDS = 1.0  # from checkpoint to checkpoint


def killed_job(storage: Path, **sections: Any) -> dict[str, Any]:
    """Three workers, at which the buckets of a DDP that was wrapped anew would show in the last bits."""
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage),
        "schedule": {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.4},
        "checkpoint": {"every": f"{EVERY_SECONDS:g}s"},
        "evaluate": {"every": 0.1, "max_share": 1.0},
        "cluster": {"workers": 3},
        **copy.deepcopy(sections),
    }


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl so far."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be on its way


def state_of(folder: Path) -> tuple[str, str]:
    """Name and sha256 of the newest checkpoint's tensors: weights, their averages, moments of the optimizer.

    Random numbers have no state: each is drawn from a row's key, or from the step.
    """
    name, skipped = checkpoint.newest(folder / "checkpoints")
    assert name is not None
    assert skipped == []
    return name, hashlib.sha256((folder / "checkpoints" / name / checkpoint.TENSORS).read_bytes()).hexdigest()


def final_of(folder: Path) -> dict[str, Any]:
    """What a finished run's report says that it came to."""
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "done"
    assert report["final"]["num_val"] > 0
    final: dict[str, Any] = report["final"]
    return final


def assert_each_step_once(folder: Path) -> None:
    """metrics.jsonl goes on where the checkpoint was, and misses nothing."""
    done = 0
    for row in rows_of(folder):
        done += row["images"] // JOB["optim"]["batch"]
        assert row["step"] == done
    phases = json.loads((folder / "plan.json").read_text())["phases"]
    assert done == sum(phase["steps"] for phase in phases)


class Begun(NamedTuple):
    """A worker group came to its first step."""

    at: float  # time.time()
    step: int  # done before it


class Segment(NamedTuple):
    """A segment was reported."""

    at: float
    step: int  # done with it
    kind: str
    seconds: float


class Heard:
    """All that the runs of this process tell their folders, as it comes."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.segments = list[Begun](), list[Segment]()
        heard = self

        class Hearing(JsonlSink):
            def begin(self, run: str, plan: Plan, history: History) -> None:
                super().begin(run, plan, history)
                heard.begun.append(Begun(history.attempts[-1].began_at, history.done_steps))

            def segment(self, run: str, report: SegmentReport) -> None:
                super().segment(run, report)
                done, now = report.segment, time.time()
                heard.segments.append(Segment(now, done.start + done.steps, done.kind, report.cost_seconds))

        patch.setattr(conduct, "JsonlSink", Hearing)

    @property
    def step(self) -> int:
        """Steps that are known to be done."""
        return self.segments[-1].step if self.segments else 0

    def seconds_between(self, first: int, last: int) -> float:
        """What the steps from `first` to `last` took when they were done the first time."""
        seen = {segment.step: segment.seconds for segment in reversed(self.segments)}
        return sum(seconds for step, seconds in seen.items() if first < step <= last)


def wait_until(true: Callable[[], Any], alive: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Waits until something is so; False: it ended before."""
    until = time.monotonic() + seconds
    while not true():
        if not alive():
            return False
        assert time.monotonic() < until
        time.sleep(0.02)
    return True


def workers_below(process: psutil.Process) -> list[psutil.Process]:
    """The training workers among what a process has started."""
    found = []
    for child in process.children(recursive=True):
        try:
            if child.cmdline()[:1] == ["ray::RayTrainWorker"]:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda child: child.pid)


def of_piece(number: int, size: int, total: int) -> int:
    """How many of `total` fall to one of the tests that do `size` each; it is skipped where none is left."""
    left = min(size, total - number * size)
    if left <= 0:
        pytest.skip("of the few none is left for this piece")
    return left


def percentile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))
