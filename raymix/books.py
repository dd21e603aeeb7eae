"""The driver's books of one attempt: what it has cost so far, by account, on disk every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from raymix.plan import Decision, Plan
from raymix.report.history import History, Rates, SegmentReport
from raymix.report.ledger import Account, Spent, added, booked
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

    def at(self, monotonic: float) -> float:
        """Seconds from the start to a reading of time.monotonic()."""
        return monotonic - self._monotonic


class _Group(NamedTuple):
    """One worker group that came to its first step."""

    began: float  # seconds from the command's start to that
    prepare_seconds: float
    reports: tuple[SegmentReport, ...] = ()

    @property
    def ended(self) -> float:
        """Seconds from the command's start to its last report."""
        return self.began + (self.reports[-1].elapsed if self.reports else 0.0)


def _told(groups: Sequence[_Group]) -> dict[str, Any]:
    """What groups, one after another, tell of an attempt or of a part of it, as `Spent` has it."""
    trained: dict[Account, float] = {}
    for group in groups:
        trained = added(trained, booked(group.reports))
    return {
        "prepare_seconds": groups[0].prepare_seconds if groups else 0.0,
        "trained": trained,
        "restart_seconds": sum(max(0.0, late.began - early.ended) for early, late in pairwise(groups)),
    }


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
        self._trained: list[_Group] = []
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
        began = max(0.0, history.attempts[-1].began_at - self.clock.started_at)
        with self._lock:
            self._trained.append(_Group(began, history.rates.prepare_seconds))
            self.history = history
        self.write()

    def decided(self, run: str, decision: Decision) -> None:
        """The plan is changed."""
        with self._lock:
            self.history = self.history.decide(decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        """A segment is done."""
        with self._lock:
            last = self._trained[-1]
            self._trained[-1] = last._replace(reports=(*last.reports, report))
            self.history = self.history.add(report)
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
            groups, wall = tuple(self._trained), self.clock.seconds
            told = _told(groups)
            return Attempt(
                wall_seconds=wall,
                worker_seconds=self.session.worker_seconds - self._held,
                groups=max(1, self.session.groups - self._groups),
                workers=self._workers,
                began_seconds=groups[0].began if groups else None,
                after=self._after(),
                closed=self._outcome is not None,
                startup={**self.session.startup, "prepare": told["prepare_seconds"]},
                parts=self._parts(groups, wall),
                **told,
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

    def _parts(self, groups: Sequence[_Group], wall: float) -> tuple[Spent, ...]:
        """This attempt cut where one group was over, where their size may change; else nothing."""
        parts, start, holds = [], 0.0, self.session.holds
        for number, hold in enumerate(holds, 1):
            end = wall if number == len(holds) or hold.until is None else self.clock.at(hold.until)
            mine = [group for group in groups if start <= group.began < end]
            closed = number == len(holds) and self._outcome is not None
            after: dict[Account, float] = self._after() if closed else {}
            if hold.grew and mine:  # it saved, and waited for the one that took over
                after = {"idle": max(0.0, end - mine[-1].ended)}
            parts.append(
                Spent(
                    wall_seconds=end - start,
                    worker_seconds=hold.workers * (end - max(start, self.clock.at(hold.since))),
                    workers=hold.workers,
                    began_seconds=mine[0].began - start if mine else None,
                    after=after,
                    closed=closed or hold.grew,
                    **_told(mine),
                )
            )
            start = end
        return tuple(parts)

    def _after(self) -> dict[Account, float]:
        """What came after the last report of the last group."""
        if self._outcome is None:
            return {}
        last = self._trained[-1] if self._trained else _Group(0.0, 0.0)
        saved = booked(last.reports)["checkpoints"]  # is booked already
        opening = max(0.0, self._outcome.first_step_at - self.clock.started_at - last.began)  # sinks open their files
        return {
            "evaluation": self._outcome.evaluate_seconds,
            "checkpoints": max(0.0, self._outcome.checkpoint_seconds - saved),
            "idle": opening + max(0.0, time.time() - self._outcome.finished_at),
        }

    def _keep(self) -> None:
        while not self._done.wait(BOOK_SECONDS):
            self.write()
