"""The runtime without Ray: one process, for notebooks, tests and debugging. The same loop, steps and reports."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import nn

from raymix.data.reading import check_bad, read_local
from raymix.plan import Plan, Segment
from raymix.policy import next_segment
from raymix.report.history import History, SegmentReport
from raymix.session import Needs, RunFailed
from raymix.train.cache import Cache
from raymix.train.task import Outcome, Task, execute, set_up_process
from raymix.watch import Sink


class LocalRuntime:
    """The only rank of one, which ends a run at the end of the segment in which `stopping` was set."""

    rank, world = 0, 1

    def __init__(self, cache: Cache, device: torch.device, sink: Sink) -> None:
        self.cache, self.device, self.sink = cache, device, sink
        self.stopping = False
        self._run = ""
        self._plan: Plan | None = None

    def wrap(self, step: nn.Module) -> nn.Module:
        """The step as it is: there is nobody to average with."""
        return step

    def gather(self, value: Any) -> list[Any]:
        """This rank's value alone."""
        return [value]

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Tells the sink."""
        self._run, self._plan = run, plan
        self.sink.begin(run, plan, history)

    def next_segment(self, history: History) -> Segment | None:
        """What the policy names."""
        assert self._plan is not None
        return None if self.stopping else next_segment(self._plan, history)

    def report(self, report: SegmentReport) -> None:
        """Tells the sink."""
        self.sink.segment(self._run, report)


class LocalSession:
    """A session in this process, on its first GPU where there is one."""

    groups = 1

    def __init__(self, needs: Needs, sink: Sink) -> None:
        self._started, self.store_size = time.monotonic(), needs.frame.size
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        set_up_process(device, threads=torch.get_num_threads())
        self.device = device.type
        self.device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"

        def progress(done: int, total: int) -> None:
            sink.stage("reading images", done, total)

        images = read_local(needs.rows, needs.ids, needs.frame, progress)
        check_bad(images, needs.rows, needs.spec.data)
        self.skipped = images.skipped
        self._runtime = LocalRuntime(Cache(images, device, needs.spec.data.cache), device, sink)

    @property
    def worker_seconds(self) -> float:
        """Seconds since the session was opened."""
        return time.monotonic() - self._started

    def execute(self, task: Task, sink: Sink) -> Outcome:
        """Trains a task in this process.

        Raises:
            RunFailed: a loss is not finite.
        """
        self._runtime.sink = sink
        try:
            return execute(task, self._runtime)
        except FloatingPointError as error:
            raise RunFailed(f"{task.run}: {error}") from error

    def stop(self) -> None:
        """Ends the run at the end of the segment that runs."""
        self._runtime.stopping = True

    def close(self) -> None:
        """Nothing is held."""
