"""Runs on scikit-learn's digits through LocalRuntime: what the tests of raymix.train share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.images import Images
from raymix.data.reading import read_local, stream_local
from raymix.data.rows import Rows
from raymix.data.splits import Splits, facts, split
from raymix.jobfile import load_spec
from raymix.local import LocalRuntime
from raymix.plan import Decision, Plan, resolve
from raymix.report.history import History, Rates, SegmentReport
from raymix.report.run import RunReport
from raymix.spec import Tile
from raymix.train.cache import Cache
from raymix.train.execute import execute
from raymix.train.feed import Feed
from raymix.train.state import TrainState
from raymix.train.stepper import stepper
from raymix.train.stream import Streamed
from raymix.train.supply import Supply
from raymix.train.task import Outcome, Task

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Digits:
    """The decoded digits, and a plan on them once a job is asked."""

    rows: Rows
    images: Images
    splits: Splits
    plan: Plan

    def asked(self, job: dict[str, Any]) -> Digits:
        """The same images under another job."""
        spec = load_spec(job)
        splits = split(self.rows, spec.data, spec.seed)
        return replace(self, splits=splits, plan=resolve(spec, facts(self.rows, splits)))

    def with_splits(self, splits: Splits) -> Digits:
        """Other splits, and the plan that follows from them."""
        return replace(self, splits=splits, plan=resolve(self.plan.spec, facts(self.rows, splits)))

    def runtime(self, stop_after: int | None = None) -> LocalRuntime:
        """A fresh process, as it were; told to stop after that many segments."""
        watcher = Watcher(stop_after)
        supply: Supply = Cache(self.images, CPU)
        if self.plan.spec.data.cache == "stream":  # a few rows at once, so that a stop is in the midst of a chunk
            frame = Frame(8)
            supply = Streamed(frame, CPU, partial(stream_local, self.rows, frame), chunk_bytes=7 * frame.nbytes)
        watcher.runtime = LocalRuntime(supply, CPU, watcher)
        return watcher.runtime

    def run(
        self, folder: Path | None = None, stop_after: int | None = None, rates: Rates | None = None
    ) -> tuple[Outcome, Watcher]:
        """Trains from the newest checkpoint in `folder`, to the end or until it is stopped."""
        runtime = self.runtime(stop_after)
        task = Task("digits", self.plan, self.splits, rates, str(folder) if folder else None)
        outcome = execute(task, runtime)
        assert isinstance(runtime.sink, Watcher)
        return outcome, runtime.sink

    def state(self) -> TrainState:
        return TrainState.fresh(self.plan, CPU)

    def rates(self, steps: int) -> Rates:
        """Rates under which a segment has that many steps."""
        return Rates(step_seconds=dict.fromkeys(self.plan.kinds, 2.0 / steps))


class Watcher:
    """A sink that keeps what it hears, and may stop the run."""

    runtime: LocalRuntime

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.reports = stop_after, list[SegmentReport]()
        self.decisions = list[Decision]()
        self.began = History(rates=Rates(step_seconds={}))
        self.notes = list[str]()

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None: ...

    def begin(self, run: str, plan: Plan, history: History) -> None:
        self.began = history

    def decided(self, run: str, decision: Decision) -> None:
        self.decisions.append(decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        self.reports.append(report)
        if len(self.reports) == self.stop_after:
            self.runtime.stopping = True

    def note(self, text: str) -> None:
        self.notes.append(text)

    def end(self, run: str, report: RunReport) -> None: ...

    def close(self) -> None: ...


def digits_of() -> Digits:
    """All 1,797 digits."""
    spec = load_spec(
        {"name": "digits", "data": {"train": {"format": "digits"}, "image_size": 8}, "backbone": {"patch": 2}}
    )
    rows = index_data(spec.data)
    splits = split(rows, spec.data, 0)
    images = read_local(rows, np.arange(len(rows)), Frame(8))
    return Digits(rows, images, splits, resolve(spec, facts(rows, splits)))


def in_quarters(digits: Digits, pool: Literal["mean", "max"] = "mean") -> Digits:
    """The same job with each digit cut into four tiles of 4 pixels, which are kept at 8."""
    spec, tile = digits.plan.spec, Tile(grid=(2, 2), pool=pool)
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"tile": tile})})
    images = read_local(digits.rows, np.arange(len(digits.rows)), Frame(8, tile=tile))
    rows = replace(digits.rows, tiles=4)
    return replace(digits, rows=rows, images=images, plan=resolve(spec, facts(rows, digits.splits)))


def trained(
    digits: Digits, state: TrainState, runtime: Any, steps: int | None = None, recorded: bool = False
) -> list[torch.Tensor]:
    """The statistics of each step of the plan, taken one by one without segments; `state` changes.

    `recorded`: as the steps are that will be.
    """
    from raymix.plan import rate, segment, weight

    feed = Feed(digits.plan, digits.splits, runtime)
    step = stepper(digits.plan, digits.plan.kinds, state, runtime, recorded=recorded)
    found: list[torch.Tensor] = []
    for phase in digits.plan.phases:
        whole = segment(digits.plan, phase.start, phase.steps, evaluate=False)
        for number, (kind, batch) in enumerate(feed.batches(whole), phase.start):
            lr, w = (torch.tensor(f(digits.plan, number)) for f in (rate, weight))
            found.append(step(kind, batch, lr, w))
            if len(found) == steps:
                return found
    return found
