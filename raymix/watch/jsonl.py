"""`metrics.jsonl`: a row a segment, flushed as it is written, cut back when a run goes on from an earlier step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from raymix.plan import Plan
from raymix.report.folder import write_text
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport


class JsonlSink:
    """Appends to one file; the runs of a pilot may share it, each row says whose it is."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._file: TextIO | None = None

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages leave no row."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Make the rows of this run those of `history`: what it does not hold comes again.

        What it holds and the file does not was trained after the driver had been killed: workers live a little longer.
        """
        self.close()
        last = cut(self.path, run, history.done_steps) if self.path.exists() else 0
        for report in history.reports:
            if report.segment.start >= last:
                self.segment(run, report)

    def segment(self, run: str, report: SegmentReport) -> None:
        """Write the row, whole, to the operating system: what is killed next keeps it."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(row(run, report, self._clock()), allow_nan=False) + "\n")
        self._file.flush()

    def note(self, text: str) -> None:
        """Notes leave no row."""

    def end(self, run: str, report: RunReport) -> None:
        """The figures of the whole run are in `report.json`."""

    def close(self) -> None:
        """Close the file; a later segment opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def row(run: str, report: SegmentReport, now: float) -> dict[str, object]:
    """A segment as one flat row; `step` is the number of optimizer steps done after it, `time` is Unix seconds."""
    segment = report.segment
    return {
        "run": run,
        "step": segment.start + segment.steps,
        "kind": segment.kind,
        "phase": segment.phase,
        "progress": segment.progress[1],
        "lr": segment.lr[1],
        "weight": segment.weight[1],
        "ssl_loss": report.ssl_loss,
        "sl_loss": report.sl_loss,
        "train_top1": report.train_top1,
        "select_top1": report.select_top1,
        "select_ema_top1": report.select_ema_top1,
        "seconds": report.seconds,
        "data_seconds": report.data_seconds,
        "evaluate_seconds": report.evaluate_seconds,
        "images": report.images,
        "labelled": report.labelled,
        "images_per_second": report.images / report.seconds if report.seconds else None,
        "time": now,
    }


def cut(path: Path, run: str, done_steps: int) -> int:
    """Remove the rows of `run` beyond `done_steps`, and what a crash left half-written; other runs' rows stay.

    Returns:
        The last step of `run` that has a row now.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if _stays(line, run, done_steps)]
    if kept != lines:
        write_text(path, "".join(kept))
    rows = [json.loads(line) for line in kept]
    return max((int(row["step"]) for row in rows if row["run"] == run), default=0)


def _stays(line: str, run: str, done_steps: int) -> bool:
    if not line.endswith("\n"):
        return False  # its end is missing, even where what is there happens to parse
    try:
        found = json.loads(line)
        return bool(found["run"] != run or found["step"] <= done_steps)
    except (ValueError, KeyError, TypeError):
        return False
