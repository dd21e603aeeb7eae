"""What `prepare` measures: steps of each kind, evaluation of a row, a checkpoint; and what it counts: FLOPs."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from raymix.data.rows import Ids
from raymix.data.splits import Splits
from raymix.method.steps import Batch, Model
from raymix.plan import Kind, Plan
from raymix.report import work
from raymix.train import checkpoint
from raymix.train.evaluate import evaluate
from raymix.train.flops import step_flops
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import Stepper
from raymix.train.supply import EVAL_BATCH

TIMED = 9
TIMED_SECONDS = 5.0  # of all kinds together; slow steps are timed less often
EVALUATED_SECONDS = 0.5  # of evaluation that is timed
_TRIAL = ".step-trial"  # a name that the next checkpoint clears away, should the process be killed in between


def step_seconds(
    step: Stepper, batches: dict[Kind, Batch], lr: Tensor, w: Tensor, runtime: Runtime
) -> dict[Kind, float]:
    """Median seconds of a step of each kind, measured alone and in turns; the mean over ranks."""
    num = 4 if runtime.device.type == "cuda" else 1  # a GPU is timed over a few steps, so that launches overlap
    once = {kind: _seconds(step, kind, batch, lr, w, num) for kind, batch in batches.items()}
    slowest = max(runtime.gather(sum(once.values()) * num))
    rounds = max(1, min(TIMED, int(TIMED_SECONDS / max(slowest, 1e-6))))
    samples: dict[Kind, list[float]] = {kind: [] for kind in batches}
    for _ in range(rounds):
        for kind, batch in batches.items():
            samples[kind].append(_seconds(step, kind, batch, lr, w, num))
    medians = {kind: statistics.median(values) for kind, values in samples.items()}
    everywhere = runtime.gather(medians)
    return {kind: statistics.fmean(rank[kind] for rank in everywhere) for kind in batches}


def _seconds(step: Stepper, kind: Kind, batch: Batch, lr: Tensor, w: Tensor, num: int) -> float:
    synchronise(step.device)
    started = time.perf_counter()
    for _ in range(num):
        step(kind, batch, lr, w)
    synchronise(step.device)
    return (time.perf_counter() - started) / num


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops(plan: Plan, model: Model, kinds: tuple[Kind, ...], count: bool) -> dict[Kind, float]:
    """FLOPs of a step of each kind over all workers: of raymix's own ViT at once, of others if `count`, else `{}`."""
    found = {kind: work.step_flops(plan.spec, plan.facts.num_classes, kind) for kind in kinds}
    known = {kind: value for kind, value in found.items() if value is not None}
    return known if known or not count else step_flops(plan.spec, model, kinds)


def row_seconds(plan: Plan, model: Model, splits: Splits, runtime: Runtime) -> float:
    """Seconds that evaluation takes an image, all ranks together; on training rows, since val is read once, at the end.

    The model stays as it was, its mode included.
    """
    training = model.training
    most = max(1, EVAL_BATCH * runtime.world // plan.facts.tiles)
    rows = splits.train[: min(max(1, plan.spec.batch // plan.facts.tiles), most)]
    _evaluate_seconds(plan, model, rows, splits, runtime)  # the first pass of a kind takes longer
    once = _evaluate_seconds(plan, model, rows, splits, runtime)
    fit = min(most, int(len(rows) * EVALUATED_SECONDS / max(once, 1e-6)))
    if fit > len(rows):  # a batch is little for a GPU, and too much of it would be what every call costs
        rows = splits.train[:fit]
        once = min(_evaluate_seconds(plan, model, rows, splits, runtime) for _ in range(2))
    model.train(training)
    return once / len(rows)


def _evaluate_seconds(plan: Plan, model: Model, rows: Ids, splits: Splits, runtime: Runtime) -> float:
    started = time.perf_counter()
    evaluate(plan, model, rows, splits.labels, runtime)
    seconds: float = max(runtime.gather(time.perf_counter() - started))
    return seconds


def checkpoint_seconds(state: TrainState, folder: Path | None, runtime: Runtime) -> float:
    """Seconds that a checkpoint takes where checkpoints go: one is written and taken away again; 0 without a folder.

    Raises:
        NotSaved: there is no room for one. Better now than hours later.
    """
    mine, trouble = 0.0, ""
    if folder is not None:
        shutil.rmtree(folder / _TRIAL, ignore_errors=True)  # what is already there would not be written again
        started = time.perf_counter()
        try:
            checkpoint.write(folder / _TRIAL, checkpoint.snapshot(state, "trial"))
        except OSError as error:
            trouble = f"no checkpoint can be written to {folder}: {error.strerror or error}"
        mine = time.perf_counter() - started
        shutil.rmtree(folder / _TRIAL, ignore_errors=True)
    told: list[tuple[float, str]] = runtime.gather((mine, trouble))
    if told[0][1]:
        raise checkpoint.NotSaved(told[0][1])
    return max(seconds for seconds, _ in told)
