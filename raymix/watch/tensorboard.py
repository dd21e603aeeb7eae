"""TensorBoard: the curves of a run as scalars by global step."""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from raymix.plan import Decision, Plan
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport
from raymix.watch.trouble import Tell, Trouble, unheard

FLUSH_SECONDS = 10.0
WAITING = 100_000  # points that wait for room at most; the oldest ones are let go
_NUMBERS = itertools.count()  # event files of this process, which may be made within the same second


class TensorBoardSink:
    """Event files in `folder`: a run named as the folder writes into it, any other into a subfolder of its own.

    They are written in the caller's thread: tensorboardX's own dies of a full disk, and its caller then waits for ever.
    """

    def __init__(self, folder: str | Path, tell: Tell = unheard, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self._clock = Path(folder), clock
        self._into: Path | None = None  # of the run that writes now
        self._writer: Any = None  # a tensorboardX EventsWriter
        self._waiting = deque[Any](maxlen=WAITING)  # events that are in no file
        self._written = deque[Any](maxlen=WAITING)  # in the file, but perhaps not on the disk
        self._flushed_at = -FLUSH_SECONDS
        self._suffix, self._kept = "", False  # of the file's name; whether any of it is on the disk
        self._step = 0
        self._trouble = Trouble("the TensorBoard file", tell)

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages have no curve."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Open the run's event file; what an earlier attempt wrote beyond `history` is hidden by TensorBoard."""
        self.close()
        from tensorboardX.proto.event_pb2 import SessionLog  # slow to import, and `raymix validate` must be quick

        self._step = history.done_steps
        self._enter(run)
        self._waiting.clear()
        if self._step:  # the first step that comes again is the one after the last that is kept
            self._add(self._step + 1, session_log=SessionLog(status=SessionLog.START))
        self._write()

    def decided(self, run: str, decision: Decision) -> None:
        """Decisions have no curve."""

    def segment(self, run: str, report: SegmentReport) -> None:
        """A point for each figure that the segment has."""
        if self._into is None:
            self._enter(run)
        self._step = report.segment.start + report.segment.steps
        for name, value in scalars(report).items():
            if value is not None:
                self._add_scalar(name, value)
        self._write()

    def note(self, text: str) -> None:
        """Notes have no curve."""

    def end(self, run: str, report: RunReport) -> None:
        """The final top-1, as a point at the last step."""
        if self._into is not None and report.final is not None:
            self._add_scalar("top1/val", report.final.top1)
        self.close()

    def close(self) -> None:
        """Write out what is buffered."""
        if self._waiting or self._written:
            self._flushed_at = -FLUSH_SECONDS
            self._write()
        self._leave()

    def _enter(self, run: str) -> None:
        self._into = self.folder if run == self.folder.name else self.folder / run

    def _add_scalar(self, name: str, value: float) -> None:
        from tensorboardX.summary import scalar

        self._add(self._step, summary=scalar(name, value))

    def _add(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._waiting.append(Event(wall_time=time.time(), step=step, **what))

    def _write(self) -> None:
        """Writes what waits; what a file that could not be written may have lost goes into a new one."""
        from tensorboardX.event_file_writer import EventsWriter

        assert self._into is not None
        try:
            if self._writer is None:
                self._into.mkdir(parents=True, exist_ok=True)
                self._suffix, self._kept = f".{os.getpid()}.{next(_NUMBERS)}", False
                self._writer = EventsWriter(str(self._into / "events"), self._suffix)
            while self._waiting:
                self._writer.write_event(self._waiting[0])
                self._written.append(self._waiting.popleft())
            if self._clock() - self._flushed_at >= FLUSH_SECONDS:
                self._writer.flush()
                self._written.clear()
                self._flushed_at, self._kept = self._clock(), True
            self._trouble.over()
        except OSError as error:
            self._waiting = deque([*self._written, *self._waiting], WAITING)
            self._written.clear()
            self._leave()
            if not self._kept:  # or there would be a file for every try
                for empty in self._into.glob(f"events.*{self._suffix}"):
                    empty.unlink()
            self._trouble.came(error)

    def _leave(self) -> None:
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
            self._writer = None


def scalars(report: SegmentReport) -> dict[str, float | None]:
    """The figures of a segment by TensorBoard tag; rate and weight are those of its last step."""
    seconds = report.seconds
    return {
        "loss/ssl": report.ssl_loss,
        "loss/sl": report.sl_loss,
        "top1/train": report.train_top1,
        "top1/select": report.select_top1,
        "top1/select_ema": report.select_ema_top1,
        "schedule/lr": report.segment.lr[1],
        "schedule/weight": report.segment.weight[1],
        "speed/images_per_second": report.images / seconds if seconds else None,
        "speed/data_wait_share": report.data_seconds / seconds if seconds else None,
    }
