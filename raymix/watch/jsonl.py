"""`metrics.jsonl`: a row a segment and a change of plan, flushed as it is written.

It is cut back when a run goes on from an earlier step.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from raymix.plan import Decision, Plan
from raymix.report.folder import write_text
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport

Key = tuple[int, tuple[int, ...], str]  # of a run's row: its step, and of a decision steps and reason


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
        there = cut(self.path, run, history) if self.path.exists() else set()
        for event in _events(history):
            if _key(row(run, event, 0.0)) not in there:
                self._write(run, event)

    def decided(self, run: str, decision: Decision) -> None:
        """Write the row of a change of plan."""
        self._write(run, decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        """Write the row of a segment."""
        self._write(run, report)

    def note(self, text: str) -> None:
        """Notes leave no row."""

    def end(self, run: str, report: RunReport) -> None:
        """The figures of the whole run are in `report.json`."""

    def close(self) -> None:
        """Close the file; a later segment opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, run: str, event: SegmentReport | Decision) -> None:
        """A row, whole, to the operating system: what is killed next keeps it."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(row(run, event, self._clock()), allow_nan=False) + "\n")
        self._file.flush()


def row(run: str, event: SegmentReport | Decision, now: float) -> dict[str, Any]:
    """A segment as one flat row; `step` is the number of optimizer steps done after it, `time` is Unix seconds.

    A decision: `step` is the one from which on it holds, `steps` are those of each phase.
    """
    if isinstance(event, Decision):
        told = {"step": event.step, "steps": event.steps, "reason": event.reason}
        return {"run": run, "event": "decision", **told, "time": now}
    report, segment = event, event.segment
    return {
        "run": run,
        "event": "segment",
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


def cut(path: Path, run: str, history: History) -> set[Key]:
    """Remove the rows of `run` that `history` does not hold, and what a crash left half-written; other runs' rows stay.

    Returns:
        Whose rows of `run` there are now.
    """
    wanted = {_key(row(run, event, 0.0)) for event in _events(history)}
    there: set[Key] = set()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = []
    for line in lines:
        found = _parsed(line)
        if found is None:
            continue
        if found["run"] == run:
            key = _key(found)
            if key not in wanted:
                continue
            there.add(key)
        kept.append(line)
    if kept != lines:
        write_text(path, "".join(kept))
    return there


def _events(history: History) -> Iterator[SegmentReport | Decision]:
    """Segments and decisions in their order."""
    decisions = deque(history.decisions)
    for report in history.reports:
        while decisions and decisions[0].step <= report.segment.start:
            yield decisions.popleft()
        yield report
    yield from decisions


def _key(found: Mapping[str, Any]) -> Key:
    return found["step"], tuple(found.get("steps", ())), found.get("reason", "")


def _parsed(line: str) -> dict[str, Any] | None:
    """A row; None: its end is missing, even where what is there happens to parse, or it is none."""
    if not line.endswith("\n"):
        return None
    try:
        found = json.loads(line)
        return found if {"run", "step"} <= found.keys() else None
    except (ValueError, AttributeError):
        return None
