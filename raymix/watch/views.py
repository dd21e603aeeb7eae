"""What can be shown of progress: lines, or bars that redraw themselves, on a terminal or in a notebook's cell."""

from __future__ import annotations

import errno
import html
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

from raymix.report import words
from raymix.watch.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

MIN_SECONDS = 1.0  # between two lines, however short the run
LINE_SECONDS = 10.0
LINE_SHARE = 0.1
QUIET_SECONDS = 60.0  # a long run still says something every minute
DRAW_SECONDS = 0.25  # between two drawings in a notebook, which keeps up with no more


def view(clock: Callable[[], float]) -> Redrawn | Lines:
    """What there is to show it: a notebook's cell, a terminal on standard error, or its lines."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return Cell(clock, _in_cell())
    # a notebook's children are told by FORCE_COLOR to write as on a terminal; a bar in a file is a wall of escapes
    return Bars(console) if sys.stderr.isatty() and not console.is_dumb_terminal else Lines(clock, sys.stderr)


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


class Bar(NamedTuple):
    """What is under way, how far it is, and the figures that are known."""

    text: str
    done: int | None = None
    total: int | None = None  # None: not known
    time_left: str = ""
    figures: str = ""

    @property
    def counted(self) -> str:
        return f"{words.count(self.done or 0)}/{words.count(self.total)}" if self.total else ""


class Redrawn(ABC):
    """A bar and a line of figures for each run, drawn anew as it goes on; what is said stays above them."""

    def __init__(self) -> None:
        self._bars: dict[str, Bar] = {}  # by run; '': a stage

    def stage(self, text: str, done: int | None, total: int | None) -> None:
        self._show("", Bar(text, done, total))

    def begin(self, run: Progress) -> None:
        self._bars.pop("", None)
        self._show(run.name, Bar(f"{run.name} {run.phase}", run.step, run.plan.num_steps))

    def decided(self, run: Progress, news: str) -> None:
        if news:
            self.note(f"{run.name}: {run.length} from now on: {news}")
        self.segment(run)

    def segment(self, run: Progress) -> None:
        left = run.remaining_seconds()
        time_left = f"{words.seconds(left)} left" if left else ""
        told = f"{run.name} {run.phase}"
        self._show(run.name, Bar(told, run.step, run.plan.num_steps, time_left, ", ".join(run.figures())))

    def end(self, name: str, text: str) -> None:
        self._bars.pop(name, None)
        if any(self._bars):  # other runs go on
            self._draw()
        else:
            self.close()
        self.note(text)

    @abstractmethod
    def note(self, text: str) -> None:
        """Says a line that stays."""

    @abstractmethod
    def close(self) -> None:
        """Takes the bars away."""

    @abstractmethod
    def _draw(self) -> None:
        """Draws the bars."""

    def _show(self, name: str, bar: Bar) -> None:
        self._bars[name] = bar
        self._draw()


class Bars(Redrawn):
    """On a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live: Live | None = None

    def note(self, text: str) -> None:
        with _unless_closed():
            self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bars.clear()
        if self._live is not None:
            with _unless_closed():
                self._live.stop()
            self._live = None

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
            with _unless_closed():
                self._live.start()
        with _unless_closed():
            self._live.update(Group(*(_rendered(bar) for bar in self._bars.values())))


@contextmanager
def _unless_closed() -> Iterator[None]:
    """A terminal that is closed fails every write, a moment before its signal is heard: that signal ends the run."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class Cell(Redrawn):
    """In the output of a notebook's cell.

    Args:
        show: Puts HTML, and the same as plain text, in the place of what it put there before.
    """

    def __init__(self, clock: Callable[[], float], show: Callable[[str, str], None]) -> None:
        super().__init__()
        self._clock, self._put, self._at = clock, show, -DRAW_SECONDS
        self._said: list[str] = []

    def note(self, text: str) -> None:
        self._said.append(text)
        self._draw_now()

    def close(self) -> None:
        if self._bars:
            self._bars.clear()
            self._draw_now()

    def _draw(self) -> None:
        if self._clock() - self._at >= DRAW_SECONDS:
            self._draw_now()

    def _draw_now(self) -> None:
        self._at = self._clock()
        lines = [html.escape(line) for line in self._said] + [_marked_up(bar) for bar in self._bars.values()]
        style = "font-variant-numeric: tabular-nums; max-height: 24em; overflow: auto"
        plain = [*self._said, *(f"{bar.text} {bar.counted}".strip() for bar in self._bars.values())]
        self._put(f'<div style="{style}">{"<br>".join(lines)}</div>', "\n".join(plain))


def _in_cell() -> Callable[[str, str], None]:
    """What shows HTML and text in the cell that runs, in one place."""
    from IPython.display import DisplayHandle

    handle, shown = DisplayHandle(), False

    def show(markup: str, text: str) -> None:
        nonlocal shown
        put, shown = handle.update if shown else handle.display, True
        put({"text/html": markup, "text/plain": text}, raw=True)

    return show


def _marked_up(bar: Bar) -> str:
    value = f' max="{bar.total}" value="{bar.done or 0}"' if bar.total else ""
    told = [html.escape(bar.text), f"<progress{value}></progress>", bar.counted, html.escape(bar.time_left)]
    figures = f"<br><small>{html.escape(bar.figures)}</small>" if bar.figures else ""
    return " ".join(part for part in told if part) + figures


def _rendered(bar: Bar) -> RenderableType:
    """A bar for a terminal; below it the figures. A total that is not known shows a moving bar."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_column(min_width=10)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True)
    moving = ProgressBar(total=bar.total or None, completed=bar.done or 0, width=18)
    grid.add_row(Text(bar.text), moving, bar.counted, bar.time_left)
    if not bar.figures:
        return grid
    return Group(grid, Text(f"  {bar.figures}", style="dim", no_wrap=True, overflow="ellipsis"))
