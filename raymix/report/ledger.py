"""Where every second of every worker went: booked attempt by attempt, summing to wall time times workers.

What training brought is booked from the reports that the driver heard. Those that training did not go on from, after a
worker or a command had died, are not in the history that the run ended with: the difference is lost work.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import Field

from raymix.report.history import History, SegmentReport
from raymix.spec import Section

Account = Literal[
    "before workers",
    "start-up",
    "prepare",
    "data wait",
    "ssl steps",
    "mix steps",
    "sl steps",
    "trials",
    "evaluation",
    "checkpoints",
    "lost work",
    "idle",
    "other",
]
ACCOUNTS: tuple[Account, ...] = get_args(Account)
STEPS: dict[str, Account] = {"ssl": "ssl steps", "mix": "mix steps", "sl": "sl steps"}  # by kind of the phase
TRAINED: tuple[Account, ...] = (*STEPS.values(), "data wait", "trials", "evaluation", "checkpoints", "idle")


class Spent(Section):
    """What one attempt (one command) has cost, in seconds; times workers where it does not say otherwise."""

    wall_seconds: float
    worker_seconds: float = Field(description="that workers were held, summed over them")
    workers: int = Field(0, description="0: not known, and nothing below is")
    began_seconds: float | None = Field(None, description="from its start to its first step; null: it came to none")
    prepare_seconds: float = Field(0.0, description="of these, measuring and compiling")
    trained: dict[Account, float] = Field({}, description="what its reports say, whether or not it went on from them")
    restart_seconds: float = Field(0.0, description="from a group's last report to the first step of the next group")
    after: dict[Account, float] = Field({}, description="what came after the last report")
    closed: bool = Field(False, description="it came to an outcome; else what is not booked was lost")
    startup: dict[str, float] = Field({}, description="parts of its start, as `Totals` has them")
    parts: tuple[Spent, ...] = Field(
        (), description="itself, worker group by worker group, where their size may change; `ledger` then goes by these"
    )

    @property
    def start_seconds(self) -> float:
        """From its start to its first step; all of it, where it came to none."""
        if self.began_seconds is None:
            return self.wall_seconds if self.workers else 0.0
        return self.began_seconds


class Entry(Section):
    """One account."""

    account: Account
    worker_seconds: float
    cost: float | None = Field(description="of the time that workers were held; null: price not set")


class Ledger(Section):
    """All accounts, in order; they sum to wall time times workers, group by group where their number changes."""

    entries: tuple[Entry, ...]

    @property
    def worker_seconds(self) -> float:
        """All of them: wall time times workers."""
        return sum(entry.worker_seconds for entry in self.entries)

    def of(self, account: Account) -> float:
        """Worker-seconds of one account."""
        return sum(entry.worker_seconds for entry in self.entries if entry.account == account)

    def share(self, entry: Entry) -> float:
        """An entry's share of all worker-seconds."""
        return entry.worker_seconds / self.worker_seconds if self.worker_seconds else 0.0

    def csv(self) -> str:
        """A line an account; cost is empty where the price is not set."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("account", "worker_seconds", "share", "cost"))
        for entry in self.entries:
            cost = "" if entry.cost is None else f"{entry.cost:.6f}"
            lines.writerow((entry.account, f"{entry.worker_seconds:.3f}", f"{self.share(entry):.6f}", cost))
        return text.getvalue()


def cost_of(worker_seconds: float, price_per_worker_hour: float | None) -> float | None:
    """Money for worker-seconds; None where the price is not set."""
    return None if price_per_worker_hour is None else worker_seconds / 3600 * price_per_worker_hour


def booked(reports: Sequence[SegmentReport]) -> dict[Account, float]:
    """Seconds by account of all reports of one worker group, from its first step on.

    Turns of a mix phase that alternate are mix steps, whichever loss they are of.
    """
    found: dict[Account, float] = dict.fromkeys(TRAINED, 0.0)
    for report in reports:
        found[STEPS[report.segment.kind]] += report.seconds - report.data_seconds
        found["data wait"] += report.data_seconds
        found["trials"] += report.trial_seconds
        found["evaluation"] += report.evaluate_seconds
        found["checkpoints"] += report.checkpoint_seconds
    if reports:  # between segments: workers wait for each other and for what comes next
        found["idle"] = max(0.0, reports[-1].elapsed - sum(found.values()))
    return found


def added(total: Mapping[Account, float], more: Mapping[Account, float], times: float = 1.0) -> dict[Account, float]:
    """Accounts, and others so many times."""
    return {name: total.get(name, 0.0) + times * more.get(name, 0.0) for name in {**total, **more}}


def ledger(history: History, spent: Sequence[Spent], workers: int, price: float | None) -> Ledger:
    """The books of a run.

    Args:
        history: What the run ended with.
        spent: Every attempt, the last one included.
        workers: Of attempts that do not say how many they had.
        price: Per worker-hour; None: not set.
    """
    found: dict[Account, float] = dict.fromkeys(ACCOUNTS, 0.0)
    heard: dict[Account, float] = dict.fromkeys(TRAINED, 0.0)
    spent = [part for attempt in spent for part in attempt.parts or (attempt,)]
    for attempt in spent:
        num = attempt.workers or workers
        found = added(found, _around(attempt, num))
        heard = added(heard, attempt.trained, num)
    kept = _kept(history, workers)
    for account, seconds in heard.items():
        # what workers went on with after their driver had been killed is kept and in nobody's wall time
        counted = min(seconds, kept[account])
        found[account] += counted
        found["lost work"] += seconds - counted
    whole = sum(attempt.wall_seconds * (attempt.workers or workers) for attempt in spent)
    rest = whole - sum(found.values())
    found["other"] += rest if abs(rest) > 1e-9 else 0.0  # what floating point leaves
    # nobody bills for workers that are not held yet
    billed = {**found, "before workers": 0.0}
    return Ledger(
        entries=tuple(
            Entry(account=name, worker_seconds=found[name], cost=cost_of(billed[name], price)) for name in ACCOUNTS
        )
    )


def _around(attempt: Spent, workers: int) -> dict[Account, float]:
    """Worker-seconds of an attempt beside what its reports say."""
    whole = attempt.wall_seconds * workers
    before = max(0.0, whole - attempt.worker_seconds)
    found: dict[Account, float] = {"before workers": before}
    if not attempt.workers:
        return found
    if attempt.began_seconds is None:
        return {**found, "start-up": whole - before}
    led = (attempt.began_seconds - attempt.prepare_seconds) * workers
    found |= {"start-up": max(0.0, led - before), "prepare": attempt.prepare_seconds * workers}
    found = added(added(found, attempt.after, workers), {"lost work": attempt.restart_seconds * workers})
    if not attempt.closed:
        left = whole - sum(found.values()) - sum(attempt.trained.values()) * workers
        found["lost work"] += max(0.0, left)
    return found


def _kept(history: History, workers: int) -> dict[Account, float]:
    """Worker-seconds of the reports that training went on from, group by group."""
    found: dict[Account, float] = dict.fromkeys(TRAINED, 0.0)
    for num, reports in history.by_group():
        found = added(found, booked(reports), num or workers)
    return found
