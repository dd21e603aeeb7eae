"""A run watched from another process, or another node that sees its folder: by the files that its driver writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from raymix.report import words
from raymix.report.folder import PILOT_FILE, RUN_FILE

METRICS_FILE = "metrics.jsonl"
SILENT_SECONDS = 120.0  # without a word a run may have been killed; segments take some seconds


class Standing(NamedTuple):
    """Where a run stands."""

    run: str
    step: int  # optimizer steps done
    num_steps: int  # of the plan as it is now; 0: there is none yet
    row: dict[str, Any]  # the newest segment of metrics.jsonl; empty: none yet
    status: str  # of its report; empty: it has not ended
    top1: float | None = None  # on val, of a run that has ended

    def line(self, now: float) -> str:
        """All of it in one line; `now` in Unix seconds."""
        if self.status:
            top1 = f", top-1 {words.percent(self.top1)}" if self.top1 is not None else ""
            return f"{self.run}: {self.status}{top1}, step {words.count(self.step)}"
        if not self.row:
            return f"{self.run}: no step yet"
        of = f"/{words.count(self.num_steps)} ({self.step / self.num_steps:.0%})" if self.num_steps else ""
        told = [f"{self.run}: step {words.count(self.step)}{of}", str(self.row["kind"])]
        named = (("ssl loss", "ssl_loss"), ("sl loss", "sl_loss"))
        told += [f"{name} {self.row[key]:.3f}" for name, key in named if self.row.get(key) is not None]
        if self.row.get("images_per_second"):
            told.append(f"{words.count(self.row['images_per_second'])} img/s")
        if self.row.get("select_top1") is not None:
            told.append(f"select {words.percent(self.row['select_top1'])}")
        silent = now - self.row["time"]
        return ", ".join(told) + (f"; silent for {words.seconds(silent)}" if silent > SILENT_SECONDS else "")


def standing(folder: Path) -> Standing:
    """Where the run of a folder stands."""
    row, num_steps = dict[str, Any](), 0
    with suppress(OSError, ValueError, KeyError):
        num_steps = sum(phase["steps"] for phase in json.loads((folder / "plan.json").read_text())["phases"])
    for found in _rows(folder / METRICS_FILE):
        if found.get("event") == "segment":
            row = {**row, **{key: value for key, value in found.items() if value is not None or key != "select_top1"}}
        elif found.get("event") == "decision":
            num_steps = sum(found["steps"])
    status, top1 = "", None
    with suppress(OSError, ValueError, KeyError):
        report = json.loads((folder / RUN_FILE).read_text())
        if not row or (folder / RUN_FILE).stat().st_mtime >= row["time"] - 1:  # else of an attempt before this one
            status, top1 = report["status"], (report.get("final") or {}).get("top1")
    return Standing(folder.name, row.get("step", 0), num_steps, row, status, top1)


def running(folder: Path) -> Path:
    """The run folder itself, or of a pilot's, which has a plan of its own, too, the run below it that wrote last."""
    found = [(file.stat().st_mtime, file.parent) for file in folder.glob(f"*/**/{METRICS_FILE}")]
    return max(found)[1] if found else folder


def ended(folder: Path, now: Standing) -> bool:
    """Whether nothing follows: a pilot ends with its own report."""
    return bool(now.status) and (running(folder) == folder or (folder / PILOT_FILE).is_file())


def follow(folder: Path, pause: Callable[[], object]) -> Iterator[Standing]:
    """Where the run stands, each time that it has changed, until it has ended; `pause` waits between two looks."""
    last: Standing | None = None
    while True:
        now = standing(running(folder))
        if now != last:
            yield now
        if ended(folder, now):
            return
        last = now
        pause()


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows that are whole."""
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            if line.endswith("\n"):
                with suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict):
                        yield found
