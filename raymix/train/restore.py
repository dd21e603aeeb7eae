"""Where a run goes on: its newest checkpoint, or its start; also when it is rolled back in the midst of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from raymix.bucket import Saved
from raymix.method.backbones import How
from raymix.plan import followed
from raymix.report import words
from raymix.report.history import History
from raymix.train import checkpoint
from raymix.train.begin import begin
from raymix.train.feed import Feed
from raymix.train.runtime import Runtime
from raymix.train.saving import BEST
from raymix.train.state import TrainState
from raymix.train.task import Task


def restore(task: Task, state: TrainState, runtime: Runtime) -> str | None:
    """Loads the newest checkpoint that verifies, and gives its name; rank 0 chooses, so that all ranks load the same.

    What is newer and does not verify is told.
    """
    name, skipped, commit = _newest(task, state, runtime)
    for line in skipped:
        runtime.note(line)
    if name is not None:
        assert task.checkpoints is not None
        with _copy(task, Path(task.checkpoints), name, commit) as path:
            checkpoint.read(path, state)
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
    name, *_ = _newest(task, state, runtime)
    there = f"the last good checkpoint is {name}" if name else "there is no checkpoint"
    if asked.not_finite != "roll_back":
        raise FloatingPointError(f"{error}; {there}") from error
    if len(done.roll_backs) >= asked.max_roll_backs:
        times = words.plural(len(done.roll_backs), "roll-back")
        raise FloatingPointError(f"{error}, after {times} (failures.max_roll_backs); {there}") from error
    restore(task, state, runtime)
    if name is None:
        start = TrainState.fresh(task.plan, torch.device("cpu"), How(task.allow_import))
        begin(start, task, runtime)
        state.load(start.tensors())
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


def _newest(task: Task, state: TrainState, runtime: Runtime) -> tuple[str | None, list[str], bytes]:
    """Name of the newest checkpoint that verifies, a line for each newer one, as rank 0 finds them, and its marker."""
    if task.checkpoints is None:
        return None, [], b""
    folder, run = Path(task.checkpoints), checkpoint.run_of(task.plan.spec)
    found: tuple[str | None, list[str], bytes] = (None, [], b"")
    if runtime.rank == 0:
        name, skipped = _newest_here(task.bucket, folder, run, state)
        found = name, skipped, (folder / name / checkpoint.COMMIT).read_bytes() if name else b""
    told: tuple[str | None, list[str], bytes] = runtime.gather(found)[0]
    return told


def _newest_here(bucket: Saved | None, folder: Path, run: str, state: TrainState) -> tuple[str | None, list[str]]:
    """The same, of the folder and of the bucket that it goes to; without an answer from there, of the folder alone."""
    here, skipped = checkpoint.newest(folder, run, state)
    if bucket is None:
        return here, skipped
    try:
        bucket.fetch_file(folder / BEST)
        there, more = bucket.newest(folder, lambda path: checkpoint.problem(path, run, state))
    except OSError as error:
        return here, [*skipped, f"{bucket.store.uri} cannot be read: {error.strerror or error}"]
    return max(filter(None, (here, there)), default=None), [*skipped, *more]


@contextmanager
def _copy(task: Task, folder: Path, name: str, commit: bytes) -> Iterator[Path]:
    """The checkpoint that rank 0 has chosen and verified, on this node: the one with that marker.

    Raises:
        OSError: it is not in the bucket, or that cannot be read.
        ValueError: what came from the bucket is not what rank 0 has.
    """
    if task.bucket is None or _marker(folder / name) == commit:
        yield folder / name
        return
    with task.bucket.lent(name, folder) as path:
        if found := "it is another one" if _marker(path) != commit else checkpoint.problem(path):
            raise ValueError(f"checkpoint {name} of {task.bucket.store.uri}: {found}")
        yield path


def _marker(path: Path) -> bytes | None:
    with suppress(OSError):
        return (path / checkpoint.COMMIT).read_bytes()
    return None
