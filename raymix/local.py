"""The runtime without Ray: one process, for notebooks, tests and debugging. The same loop, steps and reports."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from raymix.data.alike import Hashes
from raymix.data.keep import room_of_machine
from raymix.data.reading import check_bad, check_local, read_local, stream_local
from raymix.failing.pulse import Pulse
from raymix.plan import Decision, Plan, changed
from raymix.policy import Named, name_next
from raymix.report.history import History, SegmentReport
from raymix.session import Bill, Hold, Needs, RunFailed, WouldRecur, decide, hashes_of, known_unreadable
from raymix.train.begin import NotBegun
from raymix.train.cache import Cache
from raymix.train.checkpoint import NotSaved
from raymix.train.device import first_device, name_of
from raymix.train.execute import execute, set_up_process
from raymix.train.full import DeviceFull
from raymix.train.stream import Streamed
from raymix.train.supply import Supply
from raymix.train.task import Outcome, Task
from raymix.watch import Sink


class LocalRuntime:
    """The only rank of one, which ends a run at the end of the segment in which `stopping` was set."""

    rank, world = 0, 1

    def __init__(self, supply: Supply, device: torch.device, sink: Sink) -> None:
        self.supply, self.device, self.sink = supply, device, sink
        self.stopping, self.pulse = False, Pulse()
        self._run = ""
        self._plan: Plan | None = None

    def wrap(self, step: nn.Module) -> nn.Module:
        """The step as it is: there is nobody to average with."""
        return step

    def reduce(self, tensor: Tensor) -> Callable[[], object]:
        """The tensor is the sum: there is nobody else."""
        return lambda: None

    def gather(self, value: Any) -> list[Any]:
        """This rank's value alone."""
        return [value]

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Tells the sink."""
        self._run, self._plan = run, plan
        self.sink.begin(run, plan, history)

    def name_next(self, history: History) -> Named:
        """What the policy names."""
        assert self._plan is not None
        if self.stopping:
            return Named(None)
        named = name_next(self._plan, history)
        if named.decision is not None:
            self._plan = changed(self._plan, named.decision)
        return named

    def leaving(self) -> bool:
        """Nobody tells this process; a signal ends it."""
        return False

    def decided(self, decision: Decision) -> None:
        """Tells the sink."""
        self.sink.decided(self._run, decision)

    def report(self, report: SegmentReport) -> None:
        """Tells the sink."""
        self.sink.segment(self._run, report)

    def note(self, text: str) -> None:
        """Tells the sink."""
        self.sink.note(text)


class LocalSession:
    """A session in this process, on its first GPU where there is one."""

    groups = 1
    holds: tuple[Hold, ...] = ()

    def __init__(self, needs: Needs, sink: Sink) -> None:
        self._started, self.frame = time.monotonic(), needs.frame
        device = first_device()
        set_up_process(device, threads=torch.get_num_threads())
        self.device = device.type
        self.device_name = name_of(device)

        before = time.monotonic()
        keep, self.run = decide(needs, room_of_machine(), sink)
        found = _kept(needs, device, sink) if keep else _streamed(needs, device, sink)
        supply, self.skipped, self.hashes = found
        self.kept, self.startup = supply.where, {"images": time.monotonic() - before}
        self._runtime = LocalRuntime(supply, device, sink)

    @property
    def worker_seconds(self) -> float:
        """Seconds since the session was opened."""
        return time.monotonic() - self._started

    def exports(self, bill: Callable[[], Bill]) -> tuple[Sink, ...]:
        """Nothing: there is no port here."""
        return ()

    def execute(self, task: Task, sink: Sink) -> Outcome:
        """Trains a task in this process.

        Raises:
            WouldRecur: a loss is not finite, a step does not fit into the device's memory, or its weights are gone.
            RunFailed: its last checkpoint could not be written.
        """
        self._runtime.sink = sink
        try:
            return execute(task, self._runtime)
        except (FloatingPointError, DeviceFull, NotBegun) as error:
            raise WouldRecur(f"{task.run}: {error}") from error
        except NotSaved as error:
            raise RunFailed(f"{task.run}: {error}") from error

    def stop(self) -> None:
        """Ends the run at the end of the segment that runs."""
        self._runtime.stopping = True

    def close(self) -> None:
        """Nothing is held."""


def _kept(needs: Needs, device: torch.device, sink: Sink) -> tuple[Supply, dict[int, str], Hashes | None]:
    """All images, read; the rows that cannot be; and the hashes that are asked for."""
    images = read_local(needs.rows, needs.ids, needs.frame, functools.partial(sink.stage, "reading images"))
    check_bad(images.skipped, len(needs.ids), needs.rows, needs.spec.data)
    hashes = hashes_of(images, needs, sink)
    return Cache(images, device, needs.spec.data.cache, needs.gpu_share), images.skipped, hashes


def _streamed(needs: Needs, device: torch.device, sink: Sink) -> tuple[Supply, dict[int, str], None]:
    """Images to be read when they are wanted; the rows that cannot be; and no hashes."""
    rows, frame = needs.rows, needs.frame
    skipped = known_unreadable(needs)
    if skipped is None:
        skipped = check_local(rows, needs.ids, frame, functools.partial(sink.stage, "checking images"))
    check_bad(skipped, len(needs.ids), rows, needs.spec.data)
    return Streamed(frame, device, functools.partial(stream_local, rows, frame)), skipped, None
