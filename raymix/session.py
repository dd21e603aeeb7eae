"""Where runs are executed: in this process or on Ray. One session serves a run, or all runs of a pilot."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from raymix.data.alike import Hashes
from raymix.data.frame import Frame
from raymix.data.images import Images
from raymix.data.keep import decision, is_kept, streamed_run
from raymix.data.rows import Rows
from raymix.runfolder import Before
from raymix.spec import JobSpec
from raymix.train.task import Outcome, Task
from raymix.watch import Sink


class RunFailed(RuntimeError):  # noqa: N818 (it is what happened)
    """Training failed for good; the message is one line. `report` says what came of the rest; None: there is none."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [f"{type(self).__name__}: {self}".replace("--resume goes on", "resume=True goes on")]


class WouldRecur(RunFailed):
    """Another attempt would come to the same: a loss that is not finite, a step that the device cannot hold."""


class Failure(NamedTuple):
    """Why an attempt at a run came to nothing."""

    why: str  # one line
    again: bool  # another attempt may come further

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """What an exception says."""
        line = " ".join(str(error).split())[:300]
        told = line if isinstance(error, RunFailed) else f"{type(error).__name__}: {line}"
        return cls(told, not isinstance(error, WouldRecur))


class Needs(NamedTuple):
    """What a session is opened with."""

    spec: JobSpec
    rows: Rows
    ids: np.ndarray  # rows to be read, of all the runs it will serve
    frame: Frame  # how each is kept
    verbose: bool
    before: Before | None = None  # what the run that is resumed found; None: it is found out
    sessions: int = 1  # side by side, each with images of its own
    gpu_share: float = 1.0  # of a GPU, where several sessions train on one


class Hold(NamedTuple):
    """Workers of one group, from when they were asked for until it was over."""

    workers: int
    since: float  # time.monotonic()
    until: float | None = None  # None: it goes on
    grew: bool = False  # it ended at a checkpoint, for a larger one

    def seconds(self, now: float) -> float:
        """Worker-seconds until now."""
        return self.workers * ((now if self.until is None else self.until) - self.since)


class Bill(NamedTuple):
    """What a run has cost so far, over all attempts."""

    worker_seconds: float
    cost: float | None  # None: the price is not set
    budget_share: float | None  # of its budget, in the budget's own currency; None: it has none


class Session(Protocol):
    """Workers that hold the decoded images and execute tasks one after another."""

    device: str  # cpu or cuda
    device_name: str
    skipped: dict[int, str]  # row id -> cause, of the rows that could not be read
    hashes: Hashes | None  # of images that are kept, where data.near_duplicates asks for them
    groups: int  # worker groups it took so far
    frame: Frame  # how it keeps each image
    run: int  # 0: images are kept; else they are streamed, as `Facts` has it
    kept: str  # device, host or stream
    startup: dict[str, float]  # seconds by part; workers start while images are read

    @property
    def worker_seconds(self) -> float:
        """Seconds that workers have been held so far, summed over workers."""

    @property
    def holds(self) -> tuple[Hold, ...]:
        """The groups of an elastic session, in order; of another, none."""

    def exports(self, bill: Callable[[], Bill]) -> tuple[Sink, ...]:
        """Sinks for one run by which its figures are seen where it is trained; `bill` says what it has cost so far."""

    def execute(self, task: Task, sink: Sink) -> Outcome:
        """Trains a task to its end, or to the end of the segment in which `stop` was called."""

    def stop(self) -> None:
        """Asks for a checkpoint and an early end. May be called from a signal handler."""

    def close(self) -> None:
        """Gives everything back."""


def decide(needs: Needs, room: int, sink: Sink) -> tuple[bool, int]:
    """Whether the images are kept, and the run of neighbours that the order goes by, as `Facts` has it.

    `room` is what the smallest node can hold, in bytes; sessions side by side share it.

    Raises:
        JobError: the job asks to keep what does not fit.
    """
    num, data, frame = len(needs.ids), needs.spec.data, needs.frame
    room //= needs.sessions
    keep = is_kept(data, num, frame, room)
    if data.cache == "auto":
        sink.note(decision(num, frame, room))
    if not keep and data.near_duplicates is not None:
        sink.note("data.near_duplicates: not looked for in a stream; `raymix data check` does")
    if needs.before is not None:
        return keep, needs.before.run
    return keep, 0 if keep else streamed_run(needs.rows.run, frame)


def known_unreadable(needs: Needs) -> dict[int, str] | None:
    """Row id -> cause where that is known without reading: a run is resumed, or all rows were verified when written."""
    from raymix.data.prepare import verified

    if needs.before is not None:
        return needs.before.skipped
    return {} if all(verified(source) for source in needs.rows.sources) else None


def hashes_of(images: Images, needs: Needs, sink: Sink) -> Hashes | None:
    """The hashes of images that are kept; None: none are asked for."""
    if needs.spec.data.near_duplicates is None:
        return None
    sink.stage("looking for near-duplicates")
    return Hashes.of(images, needs.frame.tile)


def open_session(needs: Needs, sink: Sink) -> Session:
    """Workers for a job: this process alone where it asks for none, else Ray's.

    Raises:
        JobError: the machines cannot give what the job asks for, or too many images are unreadable.
    """
    if needs.spec.cluster.max_workers == 0:
        from raymix.local import LocalSession

        return LocalSession(needs, sink)
    from raymix.on_ray.cluster import connect, set_environment

    sink.stage("starting Ray")
    before = time.monotonic()
    set_environment()  # Ray Train reads it when it is imported
    # what RaySession needs takes seconds to import, and so does Ray to start: one waits while the other works
    # (no daemon: a process that ends in the midst of such an import may crash)
    imports = threading.Thread(target=importlib.import_module, args=("raymix.on_ray.session",), name="raymix-import")
    imports.start()
    owned = connect(needs.spec.cluster, needs.verbose)
    imports.join()
    from raymix.on_ray.session import RaySession

    return RaySession(needs, sink, owned, ray_seconds=time.monotonic() - before)
