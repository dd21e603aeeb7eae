"""Where a run goes on: its newest checkpoint, or its start; also when it is rolled back in the midst of it."""

from __future__ import annotations

from pathlib import Path

import torch

from raymix.method.backbones import How
from raymix.plan import followed
from raymix.report import words
from raymix.report.history import History
from raymix.train import checkpoint
from raymix.train.feed import Feed
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.task import Task


def restore(task: Task, state: TrainState, runtime: Runtime) -> str | None:
    """Loads the newest checkpoint that verifies, and gives its name; rank 0 chooses, so that all ranks load the same.

    What is newer and does not verify is told.
    """
    name, skipped = _newest(task, state, runtime)
    for line in skipped:
        runtime.note(line)
    if name is not None:
        assert task.checkpoints is not None
        checkpoint.read(Path(task.checkpoints) / name, state)
    return name


def roll_back(task: Task, state: TrainState, feed: Feed, runtime: Runtime, error: FloatingPointError) -> str | None:
    """Puts state and feed back to the newest checkpoint, or the start, and gives its name; on every rank alike.

    The run goes on at half the rate (`failures.not_finite: roll_back`): the same rows at the same rate would come to
    the same, and a loss that overflows has been on its way there for a while. What was done meanwhile is lost work.

    Raises:
        FloatingPointError: the job does not ask for it, or it was done as often as it may be; says where there is a
            checkpoint to go on from.
    """
    runtime.pulse.enter("between")
    asked, done = task.plan.spec.failures, state.history
    name, _ = _newest(task, state, runtime)
    there = f"the last good checkpoint is {name}" if name else "there is no checkpoint"
    if asked.not_finite != "roll_back":
        raise FloatingPointError(f"{error}; {there}") from error
    if len(done.roll_backs) >= asked.max_roll_backs:
        times = words.plural(len(done.roll_backs), "roll-back")
        raise FloatingPointError(f"{error}, after {times} (failures.max_roll_backs); {there}") from error
    restore(task, state, runtime)
    if name is None:
        state.load(TrainState.fresh(task.plan, torch.device("cpu"), How(task.allow_import)).tensors())
        state.history = History(rates=done.rates)
    reason = str(error).split(":")[0]
    state.history = done.rolled_back(state.history, reason)
    number, step = len(state.history.roll_backs), state.history.done_steps
    runtime.note(
        f"{task.run}: {reason}: back to step {words.count(step)}, and on at {0.5**number:g} of the rate "
        f"(roll-back {number} of {asked.max_roll_backs})"
    )
    feed.rewind(followed(task.plan, state.history.decisions, (one.step for one in state.history.roll_backs)), step)
    return name


def _newest(task: Task, state: TrainState, runtime: Runtime) -> tuple[str | None, list[str]]:
    """Name of the newest checkpoint that verifies, and a line for each newer one, as rank 0 finds them."""
    if task.checkpoints is None:
        return None, []
    folder, run = Path(task.checkpoints), checkpoint.run_of(task.plan.spec)
    found = checkpoint.newest(folder, run, state) if runtime.rank == 0 else (None, [])
    told: tuple[str | None, list[str]] = runtime.gather(found)[0]
    return told
