"""`metrics.jsonl`: a row a segment and a change of plan, handed to the operating system as it is written.

It is cut back when a run goes on from an earlier step. Rows for which there is no room wait for it.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from raymix.plan import Decision, Plan
from raymix.report import words
from raymix.report.folder import write_text
from raymix.report.history import History, RollBack, SegmentReport
from raymix.report.run import RunReport
from raymix.watch.trouble import Tell, Trouble, unheard

WAITING = 100_000  # rows that wait for room at most; the oldest ones are let go
Key = tuple[int, tuple[int, ...], str]  # of a run's row: its step, and of a decision steps and reason


class JsonlSink:
    """Appends to one file; the runs of a pilot may share it, each row says whose it is."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time, tell: Tell = unheard) -> None:
        self.path = Path(path)
        self._clock = clock
        self._file: BinaryIO | None = None
        self._begun: tuple[str, History] | None = None  # a run whose rows are not made those of its history yet
        self._waiting = deque[tuple[str, bytes]](maxlen=WAITING)  # whose row, and the row
        self._trouble = Trouble(self.path.name, tell)

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages leave no row."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Make the rows of this run those of `history`: what it does not hold comes again.

        What it holds and the file does not was trained after the driver had been killed: workers live a little longer.
        """
        self.close()
        self._waiting = deque((rows for rows in self._waiting if rows[0] != run), WAITING)
        self._begun = run, history
        self._flush()

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
        if self._waiting:
            self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, run: str, event: SegmentReport | Decision) -> None:
        """A row, whole, to the operating system: what is killed next keeps it."""
        self._waiting.append((run, self._line(run, event)))
        self._flush()

    def _line(self, run: str, event: SegmentReport | Decision | RollBack) -> bytes:
        return json.dumps(row(run, event, self._clock()), allow_nan=False).encode() + b"\n"

    def _flush(self) -> None:
        """Writes what waits, as far as there is room."""
        try:
            if self._begun is not None:
                self._cut_back(*self._begun)
                self._begun = None
            if self._file is None and self._waiting:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab", buffering=0)
            while self._file is not None and self._waiting:
                _append(self._file, self._waiting[0][1])
                self._waiting.popleft()
            self._trouble.over()
        except OSError as error:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._trouble.came(error)

    def _cut_back(self, run: str, history: History) -> None:
        there = cut(self.path, run, history) if self.path.exists() else set()
        missing = [event for event in _events(history) if _key(row(run, event, 0.0)) not in there]
        self._waiting = deque([*((run, self._line(run, event)) for event in missing), *self._waiting], WAITING)


def _append(file: BinaryIO, line: bytes) -> None:
    """A whole line, or nothing of it."""
    end, rest = file.seek(0, os.SEEK_END), memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(end)
        raise


def row(run: str, event: SegmentReport | Decision | RollBack, now: float) -> dict[str, Any]:
    """A segment as one flat row; `step` is the number of optimizer steps done after it, `time` is Unix seconds.

    A decision: `step` is the one from which on it holds, `steps` are those of each phase. A roll-back: `step` is the
    one that the run went back to.
    """
    if isinstance(event, RollBack):
        return {"run": run, "event": "roll_back", "step": event.step, "reason": event.reason, "time": now}
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
        "skipped": report.skipped,
        **({"note": words.skipped(report.skipped)} if report.skipped else {}),
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


def _events(history: History) -> Iterator[SegmentReport | Decision | RollBack]:
    """Segments, decisions and roll-backs in their order."""
    events: list[Decision | RollBack] = [*history.decisions, *history.roll_backs]
    between = deque(sorted(events, key=lambda event: event.step))
    for report in history.reports:
        while between and between[0].step <= report.segment.start:
            yield between.popleft()
        yield report
    yield from between


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
