"""A run that is about to be trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raymix.data.rows import Rows
from raymix.data.splits import Splits
from raymix.plan import Plan
from raymix.report.history import Rates
from raymix.report.run import NearRows
from raymix.report.start import Start
from raymix.runfolder import RunFolder


@dataclass(frozen=True, eq=False)
class Job:
    """What is trained, how, and what is known of it before."""

    folder: RunFolder
    rows: Rows
    splits: Splits
    plan: Plan
    rates: Rates | None = None  # None: measured before the first step
    allow_import: tuple[str, ...] = ()  # as the command was told
    profile: bool = False  # a trace of each step kind is left in the folder
    alone: bool = True  # the command serves this run only, so its start-up is billed to it
    remember: bool = True  # what its steps cost is kept for `raymix plan`
    packed: float | None = None  # as `RunReport` has it
    near: NearRows | None = None  # as `RowsReport` has it; found out before the first step
    again: Path | None = None  # the run that it repeats
    start: Start | None = None  # what it took over; found when it begins
