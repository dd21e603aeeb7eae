"""Progress for people: a live bar on a terminal and in a notebook, single lines elsewhere (a file, a job's log)."""

from __future__ import annotations

import time
from collections.abc import Callable

from raymix.plan import Decision, Plan
from raymix.report import words
from raymix.report.history import History, SegmentReport
from raymix.report.judging import METRIC_WORDS
from raymix.report.run import RunReport
from raymix.watch.progress import Progress
from raymix.watch.views import Lines, Redrawn, view


class ConsoleSink:
    """Progress on standard error, so that standard output holds results only; in a notebook in the cell.

    Several runs may be under way at once, each told by its name.

    Args:
        quiet: Notes alone, no progress.
        num_runs: Runs that will follow, for the "3 of 25" of a pilot; None: not known.
        clock: Seconds, for tests.
    """

    def __init__(
        self, quiet: bool = False, num_runs: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet, self._num_runs, self._clock = quiet, num_runs, clock
        self._view: Redrawn | Lines | None = None
        self._runs: list[str] = []
        self._running: dict[str, Progress] = {}

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        if not self._quiet:
            self._shown().stage(text, done, total)

    def begin(self, run: str, plan: Plan, history: History) -> None:
        if run not in self._runs:
            self._runs.append(run)
        place = self._runs.index(run) + 1
        of = f"run {place} of {self._num_runs}" if self._num_runs else f"run {place}"
        alone = self._num_runs in (None, 1) and place == 1
        self._running[run] = Progress(run if alone else f"{run} ({of})", plan, history)
        if not self._quiet:
            self._shown().begin(self._running[run])

    def decided(self, run: str, decision: Decision) -> None:
        if (progress := self._running.get(run)) is None:
            return
        news = progress.decide(decision)
        if not self._quiet:
            self._shown().decided(progress, decision.reason if news else "")

    def segment(self, run: str, report: SegmentReport) -> None:
        if (progress := self._running.get(run)) is None:
            return
        progress.add(report)
        if report.skipped:
            first, end = report.segment.start, report.segment.start + report.segment.steps
            self.note(f"{progress.name}: {words.skipped(report.skipped)}, of steps {first} to {end - 1}")
        if not self._quiet:
            self._shown().segment(progress)

    def note(self, text: str) -> None:
        self._shown().note(text)

    def end(self, run: str, report: RunReport) -> None:
        progress = self._running.pop(run, None)
        name = progress.name if progress else run
        if not self._quiet:
            final = report.final
            came = f", {METRIC_WORDS[final.metric]} {words.percent(final.top1)}" if final else ""
            self._shown().end(name, f"{name}: {report.status}{came}, {words.seconds(report.totals.wall_seconds)}")

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _shown(self) -> Redrawn | Lines:
        if self._view is None:
            self._view = view(self._clock)
        return self._view
