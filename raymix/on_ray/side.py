"""A session in a process of its own, as the process has it; `sides` is what the driver has of them."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import ray

from raymix.plan import Decision, Plan
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport
from raymix.session import Needs, RunFailed, Session, open_session
from raymix.spec import JobError
from raymix.watch import Sink, Sinks

# a run, the share of its GPUs that it has (None: it trains alone), where it is trained, who hears of it
Work = Callable[[Any, float | None, Session, Sink], Any]


class Seen(NamedTuple):
    """What the driver is told of a session."""

    device: str
    device_name: str
    kept: str
    groups: int
    run: int
    skipped: dict[int, str]
    startup: dict[str, float]


class News:
    """A sink that keeps what it hears until it is asked for."""

    def __init__(self) -> None:
        self._heard: list[tuple[str, tuple[Any, ...]]] = []
        self._lock = threading.Lock()

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What has come since the last time: the names of a sink's methods, with arguments."""
        with self._lock:
            heard, self._heard = self._heard, []
        return heard

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self._hear("stage", text, done, total)

    def begin(self, run: str, plan: Plan, history: History) -> None:
        self._hear("begin", run, plan, history)

    def decided(self, run: str, decision: Decision) -> None:
        self._hear("decided", run, decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        self._hear("segment", run, report)

    def note(self, text: str) -> None:
        self._hear("note", text)

    def end(self, run: str, report: RunReport) -> None:
        self._hear("end", run, report)

    def close(self) -> None:
        """Other runs follow."""

    def _hear(self, what: str, *told: Any) -> None:
        with self._lock:
            self._heard.append((what, told))


class Side:
    """A session in a process of its own. Made an actor by `Seat`: it is asked for news while it works."""

    def __init__(self, needs: Needs, work: Work, packed: float | None) -> None:
        self._needs, self._work, self._packed = needs, work, packed
        self._news, self._stopping = News(), False
        self._session: Session | None = None

    def open(self) -> Seen | JobError:
        """Opens the session."""
        try:
            self._opened(self._news)
        except JobError as error:
            return error
        seen: Seen = self.seen()
        return seen

    def execute(self, task: bytes) -> bytes:
        """A task alone, both pickled: the driver goes without torch."""
        return pickle.dumps(self._opened(self._news).execute(pickle.loads(task), self._news))

    def attempt(self, errand: Any) -> Any:
        """What comes of a run; a user's mistake is handed over, to be raised by the driver."""
        try:
            # of the sessions that open beside runs nobody hears more than of the first, which has told the same
            return self._work(errand, self._packed, self._opened(Sinks([])), self._news)
        except JobError as error:
            return error

    def close(self) -> None:
        """Gives everything back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @ray.method(concurrency_group="asked")  # type: ignore[untyped-decorator]
    def news(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What a sink would have heard since the last time."""
        return self._news.take()

    @ray.method(concurrency_group="asked")  # type: ignore[untyped-decorator]
    def seen(self) -> Seen:
        """What can be told of the session, which is open."""
        session = self._session
        assert session is not None
        return Seen(
            device=session.device,
            device_name=session.device_name,
            kept=session.kept,
            groups=session.groups,
            run=session.run,
            skipped=session.skipped,
            startup=dict(session.startup),
        )

    @ray.method(concurrency_group="asked")  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Ends what runs at the end of its segment, and every run after it."""
        self._stopping = True
        if self._session is not None:
            self._session.stop()

    def _opened(self, sink: Sink) -> Session:
        if self._session is None:
            cluster, before = self._needs.spec.cluster, self._needs.before
            if cluster.max_workers == 0:
                import torch

                torch.set_num_threads(max(1, int(cluster.cpus_per_worker)))
            session = open_session(self._needs, sink)
            if before is not None and session.skipped != before.skipped:
                session.close()
                raise RunFailed("a session cannot read the same images as the first one")
            self._session = session
            if self._stopping:
                session.stop()
        return self._session
