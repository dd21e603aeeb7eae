"""What a search has done, on disk: `search.jsonl`, a line whenever a trial's state changes; the last one holds.

The driver alone writes it, each line to the disk before anything follows from it. A line that a kill cut short is cut
off: what it would have said happens again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from raymix.search.trial import Trial
from raymix.spec import JobError, Section

JOURNAL_FILE = "search.jsonl"


class Line(Section):
    """A trial's state, and the seconds that the search had taken by then, earlier attempts included."""

    at: float
    trial: Trial


class Journal:
    """The journal of one search folder."""

    def __init__(self, folder: Path, read_only: bool = False, after: Callable[[], None] | None = None) -> None:
        """Reads what is there; `read_only`: it may be another search's, which is at it; `after` each line is called.

        Raises:
            JobError: a line in the midst of it cannot be read.
        """
        self.path, self._after = folder / JOURNAL_FILE, after
        self.trials, self.seconds = dict[tuple[str, int], Trial](), 0.0
        if not self.path.is_file():
            return
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for number, row in enumerate(whole.splitlines(), start=1):
            try:
                self._hold(Line.model_validate_json(row))
            except ValidationError:
                problem = f"line {number} is not one of this raymix"
                raise JobError(str(self.path), problem, "start anew: --overwrite") from None
        if len(whole) < len(text) and not read_only:
            os.truncate(self.path, len(whole))

    def write(self, trial: Trial, at: float) -> None:
        """Adds a line; it is on the disk when this returns."""
        line = Line(at=at, trial=trial)
        with self.path.open("ab") as file:
            file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._hold(line)
        if self._after is not None:
            self._after()

    def _hold(self, line: Line) -> None:
        self.trials[line.trial.source, line.trial.number] = line.trial
        self.seconds = line.at
