"""The state of a search while it goes on: names the next trial, hears of progress, says what ends. No clock, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from raymix.search import halving
from raymix.search.journal import Journal
from raymix.search.points import POINTS, Space, Values
from raymix.search.trial import OPEN, Trial
from raymix.spec import JobError, SearchBudget, Tune

_REFUSED_SHARE = 20  # refused combinations, for each trial asked for, after which there are hardly others
_MOST_DRAWN = 200  # points drawn in vain, all of them tried before, after which there are hardly others
Ended = Literal["complete", "budget"]


class Board:
    """Asked by the search engine, from one thread; `spent` and `stop` may be called from others.

    Args:
        tune: The search.
        spaces: For each arm the axes that make a difference to it; {'': ...} without arms.
        journal: What was done before, and where it is written.
        takes: Raises JobError where an arm's job refuses some values.
        seconds: Of the search so far, earlier attempts included.
        price: Of a worker-hour.
    """

    def __init__(
        self,
        tune: Tune,
        spaces: Mapping[str, Space],
        journal: Journal,
        takes: Callable[[str, Values], None],
        seconds: Callable[[], float],
        price: float | None = None,
    ) -> None:
        self._tune, self._spaces, self._journal = tune, spaces, journal
        self._takes, self._seconds, self._price = takes, seconds, price
        self._halved = set[int]()
        self._under_way = dict[int, Trial]()
        self._waiting = [trial for trial in self.trials if trial.status in OPEN]
        self.groups = 1  # to a signal's handler it is a session with workers
        self.stopping = False
        self.ended: Ended | None = None  # why no trial begins any more

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Those of this search."""
        return tuple(trial for trial in list(self._journal.trials.values()) if not trial.source)

    @property
    def earlier(self) -> tuple[Trial, ...]:
        """Those that were taken from earlier searches."""
        return tuple(trial for trial in list(self._journal.trials.values()) if trial.source)

    @property
    def over(self) -> bool:
        """Whether there is nothing to do: no trial is open or missing, or the budget is spent."""
        missing = any(self._num_taken(arm) < self._tune.num_trials for arm in self._spaces)
        if self.spent():
            self.ended = "budget"
        return self.spent() or not (self._waiting or missing)

    def next(self) -> Trial | None:
        """The trial to begin, in the journal when this returns; None: there is none to begin."""
        if self.stopping:
            return None
        if self.spent():
            self.ended = "budget"
            return None
        trial = self._waiting.pop(0) if self._waiting else self._new()
        if trial is not None:
            trial = trial.model_copy(update={"status": "running"})
            self._under_way[trial.number] = trial
            self._write(trial)
        return trial

    def hear(self, news: Trial) -> bool:
        """A trial tells how far it is; True: it is to save a checkpoint and end."""
        trial, asha = self._under_way[news.number], self._tune.asha
        trial = news.model_copy(update={"rungs": trial.rungs})
        self._under_way[news.number] = trial
        if asha is not None and trial.select_top1 is not None:
            rung = halving.rung_of(asha, self._whole(trial), trial.worker_seconds)
            if rung is not None and rung not in trial.rungs:
                if not halving.goes_on(asha, rung, trial.select_top1, self._of(trial.arm)):
                    self._halved.add(trial.number)
                trial = trial.model_copy(update={"rungs": {**trial.rungs, rung: trial.select_top1}})
                self._under_way[trial.number] = trial
                self._write(trial)
        return self.must_end(trial.number)

    def must_end(self, number: int) -> bool:
        """Whether a trial is to end before its time."""
        return self.stopping or number in self._halved

    def finish(self, outcome: Trial) -> Trial:
        """A trial is over; it is in the journal when this returns."""
        before = self._under_way.pop(outcome.number)
        halved = outcome.status == "interrupted" and outcome.number in self._halved
        update = {"rungs": before.rungs, "planned": before.planned, **({"status": "stopped"} if halved else {})}
        outcome = outcome.model_copy(update=update)
        self._write(outcome)
        return outcome

    def fail(self, number: int, error: str) -> Trial:
        """A trial left no outcome."""
        return self.finish(self._under_way[number].model_copy(update={"status": "failed", "error": error}))

    def stop(self) -> None:
        """No trial begins any more, and those under way are to end."""
        self.stopping = True

    def spent(self) -> bool:
        """Whether the search's budget is spent."""
        budget = self._tune.budget
        return budget is not None and self._cost(budget) >= (budget.wall or budget.worker_hours or budget.money or 0.0)

    def _cost(self, budget: SearchBudget) -> float:
        if budget.wall is not None:
            return self._seconds()
        under_way = dict(self._under_way)
        over = [trial for trial in self.trials if trial.number not in under_way]
        hours = sum(trial.billed_worker_seconds for trial in (*over, *under_way.values())) / 3600
        return hours if budget.worker_hours is not None else hours * (self._price or 0.0)

    def _whole(self, trial: Trial) -> float:
        """Worker-seconds of a whole trial: as the search says, or as the first trial of the arm has planned."""
        asha = self._tune.asha
        assert asha is not None
        planned = (other.planned for other in self._of(trial.arm) if other.planned)
        return asha.worker_seconds or next(planned, trial.planned or float("inf"))

    def _of(self, arm: str) -> list[Trial]:
        """The trials of an arm as they are in the journal."""
        return [trial for trial in self.trials if trial.arm == arm]

    def _new(self) -> Trial | None:
        """A trial with new values that the job takes: of the arm that has the fewest, so that arms stay equal."""
        open_arms = [arm for arm in self._spaces if self._num_taken(arm) < self._tune.num_trials]
        for arm in sorted(open_arms, key=self._num_taken):
            while (trial := self._point(arm)) is not None:
                try:
                    self._takes(arm, trial.values)
                except JobError as error:
                    self._write(trial.model_copy(update={"status": "refused", "error": str(error)}))
                    continue
                return trial
        self.ended = "complete"
        return None

    def _num_taken(self, arm: str) -> int:
        return sum(trial.status != "refused" for trial in self._of(arm))

    def _point(self, arm: str) -> Trial | None:
        """Values of an arm that have not been tried; None: there are none left, or hardly."""
        known = [trial for trial in (*self.earlier, *self.trials) if trial.arm == arm]
        refused = sum(trial.status == "refused" for trial in known)
        if refused >= _REFUSED_SHARE * self._tune.num_trials:
            return None
        tried, first = [trial.values for trial in known], len(self._of(arm))
        for place in range(first, first + len(known) + _MOST_DRAWN):
            values = POINTS[self._tune.search](self._tune, self._spaces[arm], place, known)
            if values is None:
                return None
            if values not in tried:
                return Trial(number=len(self.trials), arm=arm, values=values)
        return None

    def _write(self, trial: Trial) -> None:
        self._journal.write(trial, self._seconds())
