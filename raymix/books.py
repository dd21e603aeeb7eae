"""The driver's books of one attempt: what it has cost so far, by account, on disk every few seconds."""

from __future__ import annotations

import threading
import time

from raymix.plan import Decision, Plan
from raymix.report.history import History, Rates, SegmentReport
from raymix.report.ledger import Account, added, booked
from raymix.report.run import RunReport
from raymix.runfolder import Attempt, RunFolder
from raymix.session import Session
from raymix.train.task import Outcome
from raymix.watch.trouble import Tell, Trouble, unheard

BOOK_SECONDS = 5.0


class Clock:
    """Seconds since the command's start."""

    def __init__(self) -> None:
        self._monotonic, self.started_at = time.monotonic(), time.time()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._monotonic


class Books:
    """A sink that hears what is done. A driver that is killed loses no more of it than seconds.

    Its history is all that a run which fails leaves to report. Workers' clocks are taken to show the driver's time.
    """

    def __init__(
        self, folder: RunFolder, session: Session, clock: Clock, alone: bool, workers: int, tell: Tell = unheard
    ) -> None:
        """`alone`: the command serves this run only, so its start-up is billed to it. `tell` hears of a full disk."""
        self.folder, self.session, self.clock = folder, session, clock
        self.before, self.history = folder.attempts(), History(rates=Rates(step_seconds={}))
        self._held, self._groups = (0.0, 0) if alone else (session.worker_seconds, session.groups - 1)
        self._workers = workers
        self._begun: float | None = None  # first step of the first group, from the command's start
        self._prepare_seconds = self._restart_seconds = 0.0
        self._earlier: dict[Account, float] = {}  # what groups that died had reported
        self._group: tuple[float, tuple[SegmentReport, ...]] = (0.0, ())  # of this one: its first step, its reports
        self._outcome: Outcome | None = None
        self._lock, self._writing, self._done = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="raymix-books", daemon=True)
        self._trouble = Trouble("the attempt's costs", tell)

    def __enter__(self) -> Books:
        self.write()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        self.write()

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None: ...

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """A worker group comes to its first step; if it is not the attempt's first, the one before has died."""
        began_at = history.attempts[-1].began_at
        with self._lock:
            last_at, reports = self._group
            if self._begun is None:
                self._begun = max(0.0, began_at - self.clock.started_at)
                self._prepare_seconds = history.rates.prepare_seconds
            else:
                ended_at = last_at + (reports[-1].elapsed if reports else 0.0)
                self._restart_seconds += max(0.0, began_at - ended_at)
                self._earlier = added(self._earlier, booked(reports))
            self._group, self.history = (began_at, ()), history
        self.write()

    def decided(self, run: str, decision: Decision) -> None:
        """The plan is changed."""
        with self._lock:
            self.history = self.history.decide(decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        """A segment is done."""
        with self._lock:
            self._group, self.history = (self._group[0], (*self._group[1], report)), self.history.add(report)
        self.write()

    def note(self, text: str) -> None: ...

    def end(self, run: str, report: RunReport) -> None: ...

    def close(self) -> None: ...

    def settle(self, outcome: Outcome) -> None:
        """The run has its outcome: what is left is to report."""
        with self._lock:
            self._outcome = outcome

    def now(self) -> Attempt:
        """This attempt until now."""
        with self._lock:
            mine = booked(self._group[1])
            return Attempt(
                wall_seconds=self.clock.seconds,
                worker_seconds=self.session.worker_seconds - self._held,
                groups=max(1, self.session.groups - self._groups),
                workers=self._workers,
                began_seconds=self._begun,
                prepare_seconds=self._prepare_seconds,
                trained=added(self._earlier, mine),
                restart_seconds=self._restart_seconds,
                after=self._after(mine["checkpoints"]),
                closed=self._outcome is not None,
                startup={**self.session.startup, "prepare": self._prepare_seconds},
            )

    def all(self) -> tuple[Attempt, ...]:
        """All attempts, earlier commands included."""
        return (*self.before, self.now())

    def write(self) -> None:
        """Keeps this attempt until now: at every segment's end, and by the clock while none ends."""
        with self._writing:
            try:
                self.folder.write_attempt(len(self.before) + 1, self.now())
                self._trouble.over()
            except OSError as error:
                self._trouble.came(error)

    def _after(self, saved: float) -> dict[Account, float]:
        """What came after the last report; the group's reports hold `saved` seconds of its checkpoints."""
        if self._outcome is None:
            return {}
        opening = max(0.0, self._outcome.first_step_at - self._group[0])  # sinks open their files
        return {
            "evaluation": self._outcome.evaluate_seconds,
            "checkpoints": max(0.0, self._outcome.checkpoint_seconds - saved),
            "idle": opening + max(0.0, time.time() - self._outcome.finished_at),
        }

    def _keep(self) -> None:
        while not self._done.wait(BOOK_SECONDS):
            self.write()
