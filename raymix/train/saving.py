"""When a run saves, and how: copied in between two segments, written by a thread while training goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from raymix.bucket import Saved
from raymix.plan import Plan
from raymix.report.folder import write_text
from raymix.report.history import History, select_of
from raymix.report.words import count
from raymix.spec import CheckpointSpec, Weights
from raymix.train import checkpoint
from raymix.train.checkpoint import NotSaved, Snapshot
from raymix.train.state import TrainState

BEST = "best.json"
TELL_SECONDS = 60.0  # between two lines about the same trouble


class Checkpoints:
    """The checkpoints of one run; `folder` None keeps none. Only rank 0 writes, by its own clock.

    One is written at a time. What is due meanwhile is saved at the end of a later segment; the last one is waited for.
    A disk that is full stops nobody but the last one: the next try is made when the next checkpoint is due.
    """

    def __init__(
        self,
        folder: Path | None,
        asked: CheckpointSpec,
        run: str,
        tell: Callable[[str], None],
        newest: str | None = None,
        weights: Weights = "raw",
        bucket: Saved | None = None,
    ) -> None:
        """`tell` hears of trouble.

        `newest`: the one that the run goes on from; `weights`: by whose accuracy the best is chosen;
        `bucket`: where they go from `folder`, which is thrown away then.
        """
        self.folder, self.newest, self._bucket = folder, newest, bucket if folder else None
        self.seconds = 0.0  # for which training stood still
        self._asked, self._run, self._weights, self._tell = asked, run, weights, tell
        self._last = time.monotonic()
        self._writer = ThreadPoolExecutor(1, "raymix-checkpoint")
        self._writing: tuple[int, float | None, Future[str]] | None = None  # step, accuracy if it is the best, name
        self._told_at: float | None = None  # when trouble was told, since the last one that was written
        self._arrived = True  # there is none in `folder` alone
        self._best = best_in(folder) if folder and asked.best else None
        self._judged = 0  # step up to which reports were looked at for the best

    @classmethod
    def of(
        cls,
        plan: Plan,
        folder: str | None,
        rank: int,
        tell: Callable[[str], None],
        newest: str | None = None,
        bucket: Saved | None = None,
    ) -> Checkpoints:
        """The checkpoints that a job asks for."""
        spec, where = plan.spec, Path(folder) if folder and rank == 0 else None
        return cls(where, spec.checkpoint, checkpoint.run_of(spec), tell, newest, spec.evaluate.weights, bucket)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Waits for what is being written: nobody else may find half of it."""
        self._writer.shutdown()
        if self._bucket is not None and self.folder is not None and self._arrived:
            shutil.rmtree(self.folder, ignore_errors=True)

    def save_if_due(self, state: TrainState, leaving: bool = False) -> None:
        """Saves when the last time is long enough ago, or this is the best so far and that is kept.

        `leaving`: whenever the last one is written, since the machine may be gone at any time.
        """
        if self.folder is None:
            return
        started = time.monotonic()
        top1 = self._better(state.history)
        if self._writing is not None and (top1 is not None or self._writing[2].done()):
            self._say(self._settle())
        due = leaving or top1 is not None or started - self._last >= self._asked.every
        if self._writing is None and due:
            self._last = started
            self._start(state, top1)
        self.seconds += time.monotonic() - started

    def start(self, state: TrainState) -> None:
        """Saves now, and waits for nothing."""
        if self.folder is not None:
            self._last = time.monotonic()
            self._start(state, None)

    def save(self, state: TrainState) -> None:
        """Saves now, and waits for it.

        Raises:
            NotSaved: it could not be written.
        """
        if self.folder is None:
            return
        started = time.monotonic()
        self._say(self._settle())
        self._start(state, self._better(state.history))
        trouble = self._settle()
        self._last = time.monotonic()
        self.seconds += self._last - started
        if trouble is not None:
            raise NotSaved(trouble)

    def _start(self, state: TrainState, top1: float | None) -> None:
        """Copies the state, and has it written. `top1`: it is the best so far."""
        taken = checkpoint.snapshot(state, self._run)
        self._writing = taken.step, top1, self._writer.submit(self._write, taken, top1)

    def _settle(self) -> str | None:
        """Waits for what is being written. Returns what kept it from the disk."""
        if self._writing is None:
            return None
        (step, _, future), self._writing = self._writing, None
        try:
            self.newest, self._told_at = future.result(), None
            return None
        except OSError as error:
            why = f"{error.strerror or error}: {self._bucket.store.uri if self._bucket else self.folder}"
        there = f"the newest is {self.newest}" if self.newest else "there is none yet"
        return f"the checkpoint at step {count(step)} could not be written ({why}); {there}"

    def _say(self, trouble: str | None) -> None:
        """Tells it, unless that was done just now."""
        now = time.monotonic()
        if trouble is not None and (self._told_at is None or now - self._told_at >= TELL_SECONDS):
            self._told_at = now
            self._tell(f"{trouble}; training goes on")

    def _write(self, taken: Snapshot, top1: float | None) -> str:
        """What the thread does: a checkpoint, then the name of the best, and only then are older ones let go."""
        assert self.folder is not None
        path = checkpoint.write(self.folder, taken)
        current = path.name
        if self._bucket is not None:
            self._arrived = False
            self._bucket.put(path)
        if top1 is not None:
            write_text(self.folder / BEST, json.dumps({"name": current, "select_top1": top1}))
            if self._bucket is not None:
                self._bucket.put_file(self.folder / BEST)
            self._best = current, top1
        self._arrived = True
        self._let_go(self.folder, current)
        return current

    def _let_go(self, folder: Path, current: str) -> None:
        """Discards what is not to be kept beside the one that was just written."""
        here = checkpoint.names(folder)
        found = here if self._bucket is None else sorted({*here, *self._bucket.names()}, reverse=True)
        # what claims to be newer did not verify when this run started, so it must not push out what does
        newer = [name for name in found if name > current]
        gone = [
            old
            for old in (*newer, *reversed(found[len(newer) + self._asked.keep :]))
            if self._best is None or old != self._best[0]
        ]
        for old in gone:
            checkpoint.discard(folder / old)
        if self._bucket is not None:
            self._bucket.discard(*gone)

    def _better(self, history: History) -> float | None:
        """Accuracy on the select rows after the last segment, where it is the best so far and that is kept."""
        new, self._judged = history.done_steps > self._judged, history.done_steps
        found = select_of(history.reports[-1], self._weights) if self._asked.best and new else None
        before = (self._best and self._best[1], self._writing and self._writing[1])
        return found if found is not None and all(top1 is None or found > top1 for top1 in before) else None


def best_in(folder: Path, there: list[str] | None = None) -> tuple[str, float] | None:
    """Name and accuracy of the best checkpoint so far, where one was kept and is still there.

    `there`: the names of those that are, where that is not the folder.
    """
    try:
        found = json.loads((folder / BEST).read_bytes())
        name, top1 = str(found["name"]), float(found["select_top1"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return (name, top1) if name in (checkpoint.names(folder) if there is None else there) else None
