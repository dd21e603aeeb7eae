"""Progress for people: a live bar on a terminal, single lines elsewhere (a file, a job's log, a notebook)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from raymix.plan import Decision, Plan, changed, pattern
from raymix.report import words
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

MIN_SECONDS = 1.0  # between two lines, however short the run
LINE_SECONDS = 10.0
LINE_SHARE = 0.1
QUIET_SECONDS = 60.0  # a long run still says something every minute


class ConsoleSink:
    """Progress on standard error, so that standard output holds results only; in a notebook on its output.

    Args:
        quiet: Notes alone, no progress.
        num_runs: Runs that will follow, for the "3 of 25" of a pilot; None: not known.
        clock: Seconds, for tests.
    """

    def __init__(
        self, quiet: bool = False, num_runs: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quiet, self._num_runs, self._clock = quiet, num_runs, clock
        self._view: _Live | _Lines | None = None
        self._runs: list[str] = []
        self._run: _Run | None = None

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        if not self._quiet:
            self._shown().stage(text, done, total)

    def begin(self, run: str, plan: Plan, history: History) -> None:
        if run not in self._runs:
            self._runs.append(run)
        place = self._runs.index(run) + 1
        of = f"run {place} of {self._num_runs}" if self._num_runs else f"run {place}"
        alone = self._num_runs in (None, 1) and place == 1
        self._run = _Run(run if alone else f"{run} ({of})", plan, history)
        if not self._quiet:
            self._shown().begin(self._run)

    def decided(self, run: str, decision: Decision) -> None:
        if self._run is None:
            return
        news = self._run.decide(decision)
        if not self._quiet:
            self._shown().decided(self._run, decision.reason if news else "")

    def segment(self, run: str, report: SegmentReport) -> None:
        if self._run is None:
            return
        self._run.add(report)
        if not self._quiet:
            self._shown().segment(self._run)

    def note(self, text: str) -> None:
        self._shown().note(text)

    def end(self, run: str, report: RunReport) -> None:
        name = self._run.name if self._run else run
        if not self._quiet:
            top1 = f", top-1 {words.percent(report.final.top1)}" if report.final else ""
            self._shown().end(f"{name}: {report.status}{top1}, {words.seconds(report.totals.wall_seconds)}")
        self._run = None

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _shown(self) -> _Live | _Lines:
        if self._view is None:
            self._view = _view(self._clock)
        return self._view


def _view(clock: Callable[[], float]) -> _Live | _Lines:
    """What standard error can show. A kernel gets lines on its output: there, standard error looks like a failure."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return _Lines(clock, sys.stdout)
    return _Live(console) if console.is_terminal and not console.is_dumb_terminal else _Lines(clock, sys.stderr)


@dataclass
class _Run:
    """Where a run stands."""

    name: str
    plan: Plan
    history: History
    last: SegmentReport | None = None
    select_top1: float | None = None
    _reason: str = ""
    _seconds: float = field(default=0.0)
    _expected: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.step = self.history.done_steps
        for report in self.history.reports:
            self.select_top1 = self.select_top1 if report.select_top1 is None else report.select_top1

    def decide(self, decision: Decision) -> bool:
        """The plan is changed; whether for another reason than the last time, which need not be told again."""
        self.plan = changed(self.plan, decision)
        before, self._reason = self._reason, decision.reason
        return before != decision.reason

    def add(self, report: SegmentReport) -> None:
        """One more segment is done."""
        self.last, self.step = report, report.segment.start + report.segment.steps
        if report.select_top1 is not None:
            self.select_top1 = report.select_top1
        rates = self.history.rates.step_seconds
        self._seconds += report.seconds
        self._expected += sum(rates.get(kind, 0.0) * steps for kind, steps in report.segment.pattern)

    @property
    def share(self) -> float:
        """Of the steps, those done; a budget may leave a plan none."""
        return self.step / max(1, self.plan.num_steps)

    @property
    def length(self) -> str:
        """All steps, and those of each phase."""
        phases = ", ".join(f"{phase.kind} {words.count(phase.steps)}" for phase in self.plan.phases)
        return f"{words.count(self.plan.num_steps)} steps ({phases})"

    @property
    def phase(self) -> str:
        """Kind of the phase that the next step belongs to; of the last phase at the end."""
        return self.plan.phases[self.plan.phase_at(min(self.step, self.plan.num_steps - 1))].kind

    def remaining_seconds(self) -> float | None:
        """Seconds of the steps to come, by the rates of their kinds, scaled by how those have held so far."""
        rates = self.history.rates.step_seconds
        left = 0.0
        for phase in self.plan.phases:
            start = max(self.step, phase.start)
            steps = phase.start + phase.steps - start
            for kind, count in pattern(self.plan, start, steps) if steps > 0 else ():
                if kind not in rates:
                    return None
                left += rates[kind] * count
        return left * (self._seconds / self._expected if self._expected else 1.0)

    def figures(self) -> list[str]:
        """Loss, speed, top-1 on select: those that are known."""
        found = []
        if self.last is not None:
            losses = (("ssl loss", self.last.ssl_loss), ("sl loss", self.last.sl_loss))
            found += [f"{name} {value:.3f}" for name, value in losses if value is not None]
            if self.last.seconds:
                found.append(f"{words.count(self.last.images / self.last.seconds)} img/s")
        if self.select_top1 is not None:
            found.append(f"select {words.percent(self.select_top1)}")
        return found


class _Lines:
    """Single lines: at the start, at each phase, about every 10 s or 10 %, at the end."""

    def __init__(self, clock: Callable[[], float], out: TextIO) -> None:
        self._clock, self._out = clock, out
        self._stage = ""
        self._phase = ""
        self._at = -QUIET_SECONDS
        self._share = 0.0

    def stage(self, text: str, done: int | None, total: int | None) -> None:
        counted = f"{text}: {words.count(done)} of {words.count(total)}" if done is not None and total else text
        if text != self._stage or (done is not None and (done == total or self._clock() - self._at >= LINE_SECONDS)):
            self._print(counted)
        self._stage = text

    def begin(self, run: _Run) -> None:
        start = f"goes on at step {words.count(run.step)}" if run.step else "starts"
        self._print(f"{run.name}: {start}; {run.length}")
        self._stage, self._phase, self._share = "", run.phase, run.share

    def decided(self, run: _Run, news: str) -> None:
        if news:
            self._print(f"{run.name}: {run.length} from now on: {news}")
        self._share = min(self._share, run.share)  # a longer plan starts again at a lower one

    def segment(self, run: _Run) -> None:
        share, waited = run.share, self._clock() - self._at
        new_phase = run.phase != self._phase
        gained = share - self._share
        due = gained >= LINE_SHARE - 1e-9 or (waited >= LINE_SECONDS and gained >= LINE_SHARE / 10)
        if not new_phase and not (due and waited >= MIN_SECONDS) and waited < QUIET_SECONDS:
            return
        left = run.remaining_seconds()
        figures = run.figures() + ([f"{words.seconds(left)} left"] if left else [])
        steps = f"step {words.count(run.step)}/{words.count(run.plan.num_steps)}"
        self._print(f"{run.name}: {steps} ({share:.0%}), {', '.join(figures)}")
        if new_phase:
            self._print(f"{run.name}: phase {run.phase}")
        self._phase, self._share = run.phase, share

    def note(self, text: str) -> None:
        self._print(text)

    def end(self, text: str) -> None:
        self._print(text)

    def close(self) -> None:
        """Nothing is held open."""

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
        self._at = self._clock()


class _Live:
    """A bar and a line of figures that redraw themselves; what is said stays above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def stage(self, text: str, done: int | None, total: int | None) -> None:
        self._show(text, done, total)

    def begin(self, run: _Run) -> None:
        self._show(f"{run.name} {run.phase}", run.step, run.plan.num_steps)

    def decided(self, run: _Run, news: str) -> None:
        if news:
            self.note(f"{run.name}: {run.length} from now on: {news}")
        self.segment(run)

    def segment(self, run: _Run) -> None:
        left = run.remaining_seconds()
        time_left = f"{words.seconds(left)} left" if left else ""
        self._show(f"{run.name} {run.phase}", run.step, run.plan.num_steps, time_left, ", ".join(run.figures()))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def end(self, text: str) -> None:
        self.close()
        self.note(text)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, text: str, done: int | None, total: int | None, time_left: str = "", figures: str = "") -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console,
                transient=True,
                refresh_per_second=4,
                redirect_stdout=sys.stdout.isatty(),  # a piped standard output must get its lines, not the terminal
            )
            self._live.start()
        self._live.update(_bar(text, done, total, time_left, figures))


def _bar(text: str, done: int | None, total: int | None, time_left: str, figures: str) -> RenderableType:
    """What is under way, how far it is, and below it the figures; a total that is not known shows a moving bar."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    count = f"{words.count(done or 0)}/{words.count(total)}" if total else ""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(min_width=10)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    grid.add_row(Text(text), ProgressBar(total=total or None, completed=done or 0, width=18), count, time_left)
    return Group(grid, Text(f"  {figures}", style="dim", no_wrap=True, overflow="ellipsis")) if figures else grid
