"""What standard error can show of progress: lines, or a bar that redraws itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from raymix.report import words
from raymix.watch.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

MIN_SECONDS = 1.0  # between two lines, however short the run
LINE_SECONDS = 10.0
LINE_SHARE = 0.1
QUIET_SECONDS = 60.0  # a long run still says something every minute


def view(clock: Callable[[], float]) -> Bars | Lines:
    """What standard error can show. A kernel gets lines on its output: there, standard error looks like a failure."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return Lines(clock, sys.stdout)
    return Bars(console) if console.is_terminal and not console.is_dumb_terminal else Lines(clock, sys.stderr)


class Lines:
    """Single lines: at the start, at each phase, about every 10 s or 10 % of a run, at its end."""

    def __init__(self, clock: Callable[[], float], out: TextIO) -> None:
        self._clock, self._out = clock, out
        self._stage = ""
        self._at = -QUIET_SECONDS
        self._told: dict[str, tuple[str, float]] = {}  # of each run the phase and the share last told

    def stage(self, text: str, done: int | None, total: int | None) -> None:
        counted = f"{text}: {words.count(done)} of {words.count(total)}" if done is not None and total else text
        if text != self._stage or (done is not None and (done == total or self._clock() - self._at >= LINE_SECONDS)):
            self._print(counted)
        self._stage = text

    def begin(self, run: Progress) -> None:
        start = f"goes on at step {words.count(run.step)}" if run.step else "starts"
        self._print(f"{run.name}: {start}; {run.length}")
        self._stage, self._told[run.name] = "", (run.phase, run.share)

    def decided(self, run: Progress, news: str) -> None:
        if news:
            self._print(f"{run.name}: {run.length} from now on: {news}")
        phase, share = self._told[run.name]
        self._told[run.name] = phase, min(share, run.share)  # a longer plan starts again at a lower one

    def segment(self, run: Progress) -> None:
        phase, told = self._told[run.name]
        share, waited = run.share, self._clock() - self._at
        new_phase = run.phase != phase
        gained = share - told
        due = gained >= LINE_SHARE - 1e-9 or (waited >= LINE_SECONDS and gained >= LINE_SHARE / 10)
        if not new_phase and not (due and waited >= MIN_SECONDS) and waited < QUIET_SECONDS:
            return
        left = run.remaining_seconds()
        figures = run.figures() + ([f"{words.seconds(left)} left"] if left else [])
        steps = f"step {words.count(run.step)}/{words.count(run.plan.num_steps)}"
        self._print(f"{run.name}: {steps} ({share:.0%}), {', '.join(figures)}")
        if new_phase:
            self._print(f"{run.name}: phase {run.phase}")
        self._told[run.name] = run.phase, share

    def note(self, text: str) -> None:
        self._print(text)

    def end(self, name: str, text: str) -> None:
        self._told.pop(name, None)
        self._print(text)

    def close(self) -> None:
        """Nothing is held open."""

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
        self._at = self._clock()


class Bars:
    """A bar and a line of figures for each run, which redraw themselves; what is said stays above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._bars: dict[str, RenderableType] = {}  # by run; '': a stage

    def stage(self, text: str, done: int | None, total: int | None) -> None:
        self._show("", _bar(text, done, total, "", ""))

    def begin(self, run: Progress) -> None:
        self._bars.pop("", None)
        self._show(run.name, _bar(f"{run.name} {run.phase}", run.step, run.plan.num_steps, "", ""))

    def decided(self, run: Progress, news: str) -> None:
        if news:
            self.note(f"{run.name}: {run.length} from now on: {news}")
        self.segment(run)

    def segment(self, run: Progress) -> None:
        left = run.remaining_seconds()
        time_left = f"{words.seconds(left)} left" if left else ""
        told = f"{run.name} {run.phase}"
        self._show(run.name, _bar(told, run.step, run.plan.num_steps, time_left, ", ".join(run.figures())))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def end(self, name: str, text: str) -> None:
        self._bars.pop(name, None)
        if any(self._bars):  # other runs go on
            self._draw()
        else:
            self.close()
        self.note(text)

    def close(self) -> None:
        self._bars.clear()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, name: str, bar: RenderableType) -> None:
        self._bars[name] = bar
        self._draw()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console,
                transient=True,
                refresh_per_second=4,
                redirect_stdout=sys.stdout.isatty(),  # a piped standard output must get its lines, not the terminal
            )
            self._live.start()
        self._live.update(Group(*self._bars.values()))


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
