"""`raymix bench scale`: images a second of raymix's workers and of a torchrun group, over worker counts.

For each count one session of raymix (Ray Train workers, cache, feed, segments, reports) and one torchrun group of plain
loops under DDP stay alive side by side and take turns on the same devices; whoever is not on turn waits, blocked. Only
steps are timed, waits for data included: raymix's as its reports have them, the rival's on each rank, the mean of both
over ranks. What passes between raymix's segments (naming, reporting) is told beside it.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import typer

from raymix.bench.loop import device_named, is_fast
from raymix.bench.scaling.figures import Timed, draw, rows, show
from raymix.bench.scaling.group import Torchrun
from raymix.bench.scaling.messages import Load, Run
from raymix.bench.scaling.setting import (
    Cell,
    Scaling,
    cell_spec,
    cells,
    check,
    counts_of,
    has_rival,
    job,
    kinds_of,
    scalings_of,
    window,
)
from raymix.bench.setting import Dataset
from raymix.data.formats import index_data
from raymix.data.reading import sample_frame
from raymix.jobfile import load_spec
from raymix.plan import Kind
from raymix.report.history import Rates, SegmentReport
from raymix.runfolder import in_ray_job
from raymix.session import Needs, Session, open_session
from raymix.signals import Signals
from raymix.spec import JobError, JobSpec
from raymix.train.device import name_of
from raymix.train.task import Outcome, Task
from raymix.watch import Sink, Sinks
from raymix.watch.console import ConsoleSink

WINDOW_SECONDS = {"cuda": 3.0, "cpu": 1.0}  # of each step kind
# steps of the largest count in an epoch, while the images take no more bytes: an epoch costs something of its own, and
# so few images that a GPU's cache holds them would be read as no data set is
STEPS, LEAST_ROWS, MOST_BYTES = 32, 2000, 2**29
PLOTS = (".png", ".svg", ".pdf")


class Bench(NamedTuple):
    """What is asked for, found possible."""

    spec: JobSpec
    counts: tuple[int, ...]
    kinds: tuple[Kind, ...]
    scalings: tuple[Scaling, ...]
    device: torch.device
    windows: int
    fast: bool  # the rival is compiled and, on a GPU, recorded


def main(
    workers: str, model: str | None, overrides: list[str], kinds: str, scaling: str, windows: int, device: str,
    plain: str, plot: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measures and prints, as JSON or as a table; whatever ends it, windows that were whole are shown.

    Raises:
        JobError: the command line asks for what is not there; nothing was started.
        RunFailed: a side failed.
        Interrupted: a signal ended it.
    """
    where = device_named(device)
    spec = load_spec(job(model or ("vit-tiny" if where.type == "cuda" else "vit-nano")), overrides)
    counts = counts_of(workers)
    check(spec, counts, torch.cuda.device_count() if where.type == "cuda" else None)
    fast = is_fast(plain, where)
    if plot is not None and (plot.suffix not in PLOTS or not plot.parent.is_dir()):
        raise JobError("--plot", f"{plot} cannot be drawn", f"a file in a folder that is there, {', '.join(PLOTS)}")
    if in_ray_job():
        raise JobError("bench scale", "inside a Ray job its workers may be on other machines", "run it on one machine")
    bench, timed = Bench(spec, counts, kinds_of(kinds), scalings_of(scaling), where, windows, fast), list[Timed]()
    try:
        measure(bench, timed)
    finally:
        if timed:
            result = told(bench, timed)
            if plot is not None:
                draw(result, plot)
            if as_json:
                typer.echo(json.dumps(result, indent=2))
            else:
                show(result)


def measure(bench: Bench, timed: list[Timed]) -> None:
    """Adds every count, scaling and step kind."""
    spec, console = bench.spec, ConsoleSink()
    batch, pixels = spec.batch * bench.counts[-1], 3 * spec.data.image_size**2
    num_rows = max(LEAST_ROWS, 2 * batch, min(STEPS * batch, MOST_BYTES // pixels))
    with ExitStack() as stack:
        stack.callback(console.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raymix-scale-")))
        data = Dataset(spec, num_rows)
        images = str(folder / "images.npz")
        np.savez(images, images=data.pixels, labels=data.labels)
        for count in bench.counts:
            with _opened(bench, count, images, data, folder, console) as sides:
                for cell in cells(count, bench.scalings):
                    sides.measure(cell, timed)


def told(bench: Bench, timed: Sequence[Timed]) -> dict[str, Any]:
    """What was measured, as `--json` prints it."""
    spec = bench.spec
    return {
        "rows": rows(timed),
        "model": spec.backbone.model_dump(mode="json"),
        "objective": spec.objective.model_dump(mode="json"),
        "image_size": spec.data.image_size,
        "plain": "compiled" if bench.fast else "eager",
        "windows": bench.windows,
        "device": bench.device.type,
        "device_name": name_of(bench.device),
        "torch": torch.__version__,
    }


@contextmanager
def _opened(bench: Bench, count: int, images: str, data: Dataset, folder: Path, console: Sink) -> Iterator[_Sides]:
    """Both sides with so many workers; they end with the context."""
    spec = cell_spec(bench.spec, Cell(count, "weak"), bench.device.type == "cuda", images)
    listed = index_data(spec.data)
    ids = np.arange(len(listed), dtype=np.int64)
    needs = Needs(spec, listed, ids, sample_frame(listed, spec.data, ids), verbose=False)
    silent = Sinks(())
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        console.stage(f"starting {count} worker{'s' * (count > 1)} on Ray and by torchrun")
        group = Torchrun(count, bench.device.type, folder)
        stack.callback(group.close)
        session = open_session(needs, silent)
        stack.callback(session.close)
        signals.stop_gently(session, silent)
        group.wait()
        yield _Sides(bench, images, data, session, group, signals, console)


class _Sides:
    """A session and a torchrun group of one worker count, in turns."""

    def __init__(
        self, bench: Bench, images: str, data: Dataset, session: Session, group: Torchrun,
        signals: Signals, console: Sink,
    ) -> None:  # fmt: skip
        self._bench, self._images, self._data = bench, images, data
        self._session, self._group, self._signals, self._console = session, group, signals, console

    def measure(self, cell: Cell, timed: list[Timed]) -> None:
        """Adds each kind of a cell, over all windows, or those that were whole when something ended it."""
        bench = self._bench
        spec = cell_spec(bench.spec, cell, bench.device.type == "cuda", self._images)
        rivals = tuple(kind for kind in bench.kinds if has_rival(spec, kind))
        rates = self._prepare(spec, cell, rivals)
        seconds = WINDOW_SECONDS[bench.device.type]
        steps = {kind: max(3, math.ceil(seconds / rates.step_seconds[kind])) for kind in bench.kinds}
        planned = window(spec, steps, len(self._data.labels))
        found = {kind: Timed(cell, kind, spec.batch, steps[kind]) for kind in bench.kinds}
        turns: tuple[Callable[[int], None], ...] = (
            lambda number: self._raymix(Task(f"window-{number}", planned, self._data.splits(), rates), found),
            lambda _: self._rival(rivals, found),
        )
        whole = 0
        try:
            for number in range(bench.windows):
                named = f"{cell.workers} worker(s), {cell.scaling} scaling"
                self._console.stage(named, number, bench.windows)
                for turn in turns if number % 2 == 0 else reversed(turns):
                    turn(number)
                whole = number + 1
        finally:
            if whole:
                timed += [one.whole(whole) for one in found.values()]

    def _prepare(self, spec: JobSpec, cell: Cell, rivals: Sequence[Kind]) -> Rates:
        """What raymix's steps cost; the rival's loops are made and warmed up."""
        planned = window(spec, dict.fromkeys(self._bench.kinds, 1), len(self._data.labels))
        measured = Task("measure", planned, self._data.splits(), measure=planned.kinds)
        rates = self._executed(measured).history.rates
        own = {**dict(spec), "cluster": {"workers": 0}}
        own["optim"] = spec.optim.model_copy(update={"batch": spec.batch // cell.workers})
        self._group.ask(Load(JobSpec.model_validate(own), tuple(rivals), self._images, self._bench.fast))
        for kind in rivals:
            self._ask(Run(kind, 3))
        return rates

    def _raymix(self, task: Task, found: dict[Kind, Timed]) -> None:
        """A run of raymix: the window's phases, one after another."""
        before: SegmentReport | None = None
        for report in self._executed(task).history.reports:
            between = report.elapsed - before.elapsed - report.seconds if before is not None else None
            kind = _kind(report)
            found[kind].add(report.seconds, report.data_seconds, between, new=before is None or _kind(before) != kind)
            before = report

    def _rival(self, rivals: Sequence[Kind], found: dict[Kind, Timed]) -> None:
        """The same steps by torchrun, then some whose gradients are not averaged."""
        for kind in rivals:
            steps = found[kind].steps
            found[kind].torchrun.append(self._ask(Run(kind, steps)))
            if found[kind].cell.workers > 1:
                fewer = max(2, steps // 2)
                found[kind].apart.append(self._ask(Run(kind, fewer, averaged=False)) / fewer * steps)

    def _ask(self, asked: Run) -> float:
        """Seconds, the mean over ranks."""
        seconds = statistics.fmean(self._group.ask(asked))
        self._go_on()
        return seconds

    def _executed(self, task: Task) -> Outcome:
        outcome = self._session.execute(task, Sinks(()))
        self._go_on()
        return outcome

    def _go_on(self) -> None:
        if self._signals.received is not None:
            raise self._signals.interrupted("windows that were whole are shown", None)


def _kind(report: SegmentReport) -> Kind:
    return report.segment.pattern[0][0]
