"""Whether a worker group that failed is started again, and after how long."""

from __future__ import annotations

from typing import NamedTuple

from raymix.spec.failures import Failures

HEALTHY_SECONDS = 300.0  # a group that was at work so long failed for another reason than the one before it


class Cause(NamedTuple):
    """Why a group failed."""

    words: str  # one line
    error: str = ""  # type and message of what the code of the run raised; '': its processes died or hung
    counted: bool = True  # as one of failures.max_restarts


class Verdict(NamedTuple):
    """What is done about it."""

    again: bool
    wait: float  # seconds before
    words: str  # one line, cause included


class Tally:
    """The failures of one group after another."""

    def __init__(self, failures: Failures) -> None:
        self._asked = failures
        self.restarts, self._close, self._farthest = 0, 0, 0
        self._last: tuple[str, int] | None = None

    def judge(self, cause: Cause, step: int, healthy: float) -> Verdict:
        """What is done about a failure after the steps `step`, of a group that was at work for `healthy` seconds.

        An error that comes twice in a row at the same step would come again; nothing else is given up before
        failures.max_restarts. The wait doubles where a failure may be the one before it: a group that came further
        than all others, or was long at work, has something else in its way.
        """
        if not cause.counted:
            return Verdict(True, 0.0, f"{cause.words}; it is waited for, and is no restart")
        this = (cause.error, step)
        if cause.error and this == self._last:
            return Verdict(False, 0.0, f"{cause.words}: twice in a row after step {step}, so it is not tried again")
        self._last = this
        most = self._asked.max_restarts
        if self.restarts >= most:
            left = f"no restart is left of {most} (failures.max_restarts)" if most else "failures.max_restarts is 0"
            return Verdict(False, 0.0, f"{cause.words}; {left}")
        self.restarts += 1
        new = healthy >= HEALTHY_SECONDS or step > self._farthest
        self._close, self._farthest = 1 if new else self._close + 1, max(step, self._farthest)
        wait = min(self._asked.backoff_max, self._asked.backoff * 2 ** (self._close - 1))
        return Verdict(True, wait, f"{cause.words}; restart {self.restarts} of {most} in {wait:g} s")
