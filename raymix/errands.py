"""The runs of a pilot: in their order, each tried again where it fails, one after another or side by side."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from raymix.arms import scaled
from raymix.books import Clock
from raymix.conduct import train_one
from raymix.data.splits import Splits, facts
from raymix.freeze import Compared, Frozen, name_of
from raymix.job import Job
from raymix.plan import Plan, resolve
from raymix.report.folder import RUN_FILE, read_run, write_text
from raymix.report.history import Rates
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder
from raymix.runner import readable
from raymix.session import Failure, Needs, RunFailed, Session, open_session
from raymix.signals import Interrupted
from raymix.spec import JobError, JobSpec
from raymix.watch import Sink

ERROR_FILE = "error.txt"

Result = RunReport | Failure
Work = Callable[["Errand", float | None, Session, Sink], Result]


@dataclass(frozen=True, eq=False)
class Errand:
    """One arm, one seed, one length."""

    arm: str
    seed: int
    length: float
    asked: JobSpec
    rates: Rates  # under which it was planned

    @property
    def name(self) -> str:
        """Its folder's."""
        return self.asked.name


class Deck:
    """Runs in their order; one that failed and may come further is dealt again before the next."""

    def __init__(self, errands: Iterable[Errand], retries: int) -> None:
        self._waiting, self._retries = deque(errands), retries
        self.attempts: Counter[str] = Counter()  # by name

    def __len__(self) -> int:
        """Runs that were not dealt."""
        return len(self._waiting)

    def deal(self) -> Errand | None:
        """The next run; None: there is none now."""
        if not self._waiting:
            return None
        errand = self._waiting.popleft()
        self.attempts[errand.name] += 1
        return errand

    def again(self, errand: Errand, failure: Failure) -> bool:
        """Whether a run that failed is dealt again."""
        if not failure.again or self.attempts[errand.name] > self._retries:
            return False
        self._waiting.appendleft(errand)
        return True


class Crew(Protocol):
    """What executes the runs of a pilot: a session, or several side by side."""

    @property
    def session(self) -> Session:
        """The one that measures step times."""

    @property
    def groups(self) -> int:
        """Worker groups of that session so far."""

    @property
    def held_workers(self) -> float:
        """Workers that it holds; of those that share a GPU, as many as GPUs."""

    def deal(self, deck: Deck, sink: Sink) -> Iterator[tuple[Errand, Result]]:
        """Runs and what came of them, as each is over; when it was told to stop, no other is dealt."""

    def stop(self) -> None:
        """Asks for an early end."""

    def close(self) -> None:
        """Gives everything back."""


class OneByOne:
    """One session, and one run after another."""

    def __init__(self, session: Session, work: Work, held_workers: float) -> None:
        self.session, self._work, self._stopping = session, work, False
        self.held_workers = held_workers

    @property
    def groups(self) -> int:
        """Worker groups so far."""
        return self.session.groups

    def deal(self, deck: Deck, sink: Sink) -> Iterator[tuple[Errand, Result]]:
        """Runs and what came of them; when it was told to stop, no other is dealt."""
        while not self._stopping and (errand := deck.deal()) is not None:
            result = self._work(errand, None, self.session, sink)
            yield errand, result
            if isinstance(result, RunReport) and result.status == "interrupted":  # the session was told to stop
                return

    def stop(self) -> None:
        """Asks for an early end."""
        self._stopping = True
        self.session.stop()

    def close(self) -> None:
        """Gives everything back."""
        self.session.close()


def alone(whole: Compared, session: Session) -> OneByOne:
    """An open session that runs a pilot by itself."""
    return OneByOne(session, partial(attempt, whole), float(whole.spec.cluster.num_replicas))


def crew_of(whole: Compared, num_runs: int) -> Callable[[Needs, Sink], Crew]:
    """What opens the sessions of a pilot with so many runs left.

    Raises:
        JobError: more are to run side by side than this machine holds.
    """
    work, asked = partial(attempt, whole), whole.spec.pilot.concurrent
    if asked == 1:
        return lambda needs, sink: alone(whole, open_session(needs, sink))
    from raymix.on_ray.cluster import set_environment

    set_environment()  # Ray Train reads it when it is imported
    from raymix.on_ray.sides import Sides
    from raymix.on_ray.together import check_machine

    if asked != "auto":
        check_machine(whole.spec.cluster, asked, "pilot.concurrent")
    return partial(Sides, work=work, asked=None if asked == "auto" else asked, num_runs=num_runs)


def plan_of(whole: Compared, errand: Errand, session: Session) -> tuple[Plan, Splits]:
    """The plan of a run over the rows that a session can read, and those rows."""
    checked = whole.checked[errand.seed]
    splits = readable(checked.splits, session)
    return resolve(errand.asked, facts(checked.rows, splits, session.run)), splits


def attempt(whole: Compared, errand: Errand, packed: float | None, session: Session, sink: Sink) -> Result:
    """Trains a run from its last checkpoint, where it has one; `packed` as `RunReport` has it.

    A failure that is not the method's own leaves its traceback in the run's folder.

    Raises:
        JobError: its folder holds another run.
    """
    plan, splits = plan_of(whole, errand, session)
    folder = RunFolder(errand.asked, folder_of(whole, errand.name), resume=True)
    rows = whole.checked[errand.seed].rows
    if packed is None and _was_packed(folder):
        packed = 1.0
    job = Job(folder, rows, splits, plan, errand.rates, whole.allow_import, alone=False, packed=packed)
    try:
        return train_one(job, session, sink, Clock())
    except (JobError, Interrupted):
        raise
    except Exception as error:  # ours or a library's: the other runs go on
        if not isinstance(error, RunFailed):
            write_text(folder.path / ERROR_FILE, traceback.format_exc())
        failure = Failure.of(error)
        return failure._replace(why=failure.why.removeprefix(f"{errand.name}: "))


def _was_packed(folder: RunFolder) -> bool:
    """Whether an earlier attempt at a run trained beside others: its seconds stay what they are."""
    return (folder.path / RUN_FILE).is_file() and read_run(folder.path).packed is not None


def errands(whole: Compared, frozen: Frozen) -> Iterator[Errand]:
    """All runs, in order, under the frozen plans."""
    for arm, seed, length in whole.asked():
        update = {"name": name_of(arm, seed, length), "seed": seed}
        asked = scaled(whole.arms[arm], frozen.factor(arm, length)).model_copy(update=update)
        yield Errand(arm, seed, length, asked, frozen.rates_of(arm))


def folder_of(whole: Compared, name: str) -> Path:
    """Where a run lies."""
    return whole.folder.path / "runs" / name
