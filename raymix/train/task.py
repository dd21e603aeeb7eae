"""One run as a worker sees it: a task in, an outcome out. The same code under Ray and without."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raymix.data.splits import Splits
from raymix.method.backbones import How
from raymix.plan import Kind, Plan, Stream, positions
from raymix.report.history import History, Rates
from raymix.spec import Weights
from raymix.train import checkpoint, compiling
from raymix.train.batch import largest
from raymix.train.checkpoint import Checkpoints
from raymix.train.evaluate import evaluate_all, settle_all
from raymix.train.feed import Feed
from raymix.train.loop import train
from raymix.train.prepare import prepare
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState


@dataclass(frozen=True)
class Task:
    """A run to be trained; or step kinds to be timed (`measure`), or a batch to be found (`largest`)."""

    run: str
    plan: Plan
    splits: Splits
    rates: Rates | None = None  # None: measured before the first step
    checkpoints: str | None = None  # folder; None: none are kept
    measure: tuple[Kind, ...] = ()  # time these kinds and train nothing
    largest: int = 0  # find the largest batch up to this and train nothing
    profile: str | None = None  # folder for a trace of each step kind; None: none are made
    allow_import: tuple[str, ...] = ()  # factories of backbones that the command was told may run


@dataclass(frozen=True)
class Outcome:
    """What a task brought; plain data that travels from rank 0 to the driver."""

    run: str
    history: History
    complete: bool  # every step of the plan is done
    # by weights a bool for each val row; none: not complete, no val, or no SL
    correct: dict[Weights, np.ndarray] = field(default_factory=dict)
    evaluate_seconds: float = 0.0  # of val
    checkpoint_seconds: float = 0.0
    first_step_at: float = 0.0  # time.time() when training began
    seconds: float = 0.0  # the whole task
    seen: dict[Stream, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    batch: int = 0  # where `largest` was asked for


def execute(task: Task, runtime: Runtime) -> Outcome:
    """Trains a task to its end, from its newest checkpoint where there is one, and reads val once at the end."""
    started = time.perf_counter()
    compiling.forget(runtime.device)
    if task.largest:
        batch = largest(task.plan, task.splits, runtime, How(task.allow_import), task.largest)
        return Outcome(task.run, History(rates=Rates(step_seconds={})), False, batch=batch)
    state = TrainState.fresh(task.plan, runtime.device, How(task.allow_import))
    feed = Feed(task.plan, task.splits, runtime)
    try:
        if task.measure:
            _, rates = prepare(task.plan, task.measure, state, feed, runtime, None)
            return Outcome(task.run, History(rates=rates), False, seconds=time.perf_counter() - started)
        outcome = _trained(task, state, feed, runtime)
    finally:
        feed.close()
    return replace(outcome, seconds=time.perf_counter() - started)


def _trained(task: Task, state: TrainState, feed: Feed, runtime: Runtime) -> Outcome:
    plan = task.plan
    notes = _restore(task, state, runtime)
    resumed = bool(state.history.reports)
    known = state.history.rates if resumed else task.rates
    folder = Path(task.profile) if task.profile and runtime.rank == 0 else None
    saves = Path(task.checkpoints) if task.checkpoints and runtime.rank == 0 else None
    step, rates = prepare(
        plan, plan.kinds, state, feed, runtime, known, profiled=bool(task.profile), folder=folder, checkpoints=saves
    )
    feed.begin(state.history.done_steps)  # after prepare, whose measurement reading would disturb
    if not resumed:
        state.history = History(rates=rates)
    checkpoints = Checkpoints.of(plan, task.checkpoints, runtime.rank)
    runtime.begin(task.run, plan, state.history)
    first_step_at = time.time()
    train(plan, state, step, feed, runtime, checkpoints)
    settle_all(plan, state, task.splits, runtime)  # what is saved last is what will be classified with
    checkpoints.save(state)
    complete = state.history.done_steps == plan.num_steps
    correct, before_val = {}, time.perf_counter()
    # after SSL alone the classifier is still zero, and what it says is no result
    if complete and len(task.splits.val) and plan.kinds != ("ssl",):
        correct = evaluate_all(plan, state, task.splits, task.splits.val, runtime)
    return Outcome(
        run=task.run,
        history=state.history,
        complete=complete,
        correct=correct,
        evaluate_seconds=time.perf_counter() - before_val,
        checkpoint_seconds=checkpoints.seconds,
        first_step_at=first_step_at,
        seen=positions(plan, state.history.done_steps),
        notes=notes,
    )


def _restore(task: Task, state: TrainState, runtime: Runtime) -> tuple[str, ...]:
    """Loads the newest checkpoint that verifies; rank 0 chooses, so that all ranks load the same."""
    if task.checkpoints is None:
        return ()
    folder = Path(task.checkpoints)
    name, skipped = runtime.gather(checkpoint.newest(folder) if runtime.rank == 0 else (None, []))[0]
    if name is not None:
        checkpoint.read(folder / name, state)
    return tuple(skipped)


def set_up_process(device: torch.device, threads: int) -> None:
    """What a training process sets once: threads, and TF32 for the fp32 products that remain on a GPU."""
    torch.set_num_threads(max(1, threads))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
        compiling.begin(device)


def describe(device: torch.device) -> dict[str, Any]:
    """The device in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": device.type, "name": name}
