"""What Ray Train's controller asks when a worker group has failed, and what the console is told of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.worker_group.poll import _is_preempted_actor
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from raymix.failing.pulse import Beat, Process
from raymix.failing.restarts import Cause, Tally
from raymix.on_ray import attend
from raymix.spec.failures import Failures

MAILBOX_SECONDS = 10.0  # in which it must answer
# what is raised where another worker is gone, by gloo, NCCL and the store
_BROKEN = ("connection closed by peer", "connection reset", "broken pipe", "nccl", "socket", "recvfd", "sendfd", "gloo")

_KILLED = "its process was killed or crashed"
_GONE = {"gone": _KILLED, "unreachable": "its node does not answer"}


class Restarts(FailurePolicy):  # type: ignore[misc]
    """The restarts of one trainer: asked in the controller's thread, told by the driver's."""

    def __init__(self, failures: Failures, mailbox: Any) -> None:
        super().__init__(FailureConfig(max_failures=failures.max_restarts))
        self.lock = threading.Lock()  # held while the watchdog ends a group, which then is not asked why it died
        self.notes = queue.SimpleQueue[str]()
        self.placed = threading.Event()  # a group has its room
        self.failed = 0  # groups
        self.last_words = ""  # why there is no other group
        self._mailbox, self._tally = mailbox, Tally(failures)
        self._expected: Cause | None = None
        self._wait, self._began = 0.0, float("inf")
        self._hurry = threading.Event()

    def expect(self, cause: Cause) -> None:
        """The group is about to be ended for this; by whom holds `lock`."""
        self._expected = cause

    def begin(self) -> None:
        """A group is at work."""
        self._began = time.monotonic()

    def hurry(self) -> None:
        """Nobody wants to wait any more: the run is to end."""
        self._hurry.set()

    def take_wait(self) -> float:
        """Seconds that are to be waited now, told once."""
        wait, self._wait = self._wait, 0.0
        return 0.0 if self._hurry.is_set() else wait

    def is_over(self, since: float, wait: float) -> bool:
        """Whether a wait that began then is over."""
        return self._hurry.is_set() or time.monotonic() - since >= wait

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        """Ray Train's question. It is asked twice of an error that comes while a group starts: at most once a group."""
        with self.lock:
            cause, self._expected = self._expected, None
        self.failed += 1
        told = _ask(self._mailbox.beats, {})
        cause = cause or cause_of(training_failed_error, {rank: beat for rank, (_, beat) in told.items()})
        if cause is None:
            self.last_words = _line(training_failed_error)
            return FailureDecision.RAISE
        healthy, self._began = max(0.0, time.monotonic() - self._began), float("inf")
        verdict = self._tally.judge(cause, _ask(self._mailbox.step, 0), healthy)
        if not verdict.again:
            self.last_words = verdict.words
            return FailureDecision.RAISE
        self._wait = verdict.wait
        self.notes.put(verdict.words)
        return FailureDecision.RETRY


class Failed(NamedTuple):
    """What is known of one worker of a group that failed."""

    rank: int
    error: BaseException

    @property
    def died(self) -> bool:
        """Whether its process is gone."""
        return isinstance(self.error, WorkerHealthCheckFailedError)

    @property
    def broken(self) -> bool:
        """Whether it only lost another worker."""
        return any(part in str(self.error).lower() for part in _BROKEN)


def cause_of(error: BaseException, beats: Mapping[int, Beat]) -> Cause | None:
    """Why a group failed; None: it is no failure of a group."""
    if isinstance(error, PreemptionError):
        return Cause("a node is taken away", counted=False)
    if isinstance(error, ControllerError):
        inner = error.controller_failure
        if isinstance(inner, WorkerGroupStartupTimeoutError):
            return Cause(f"the cluster has no room for {inner.num_workers} workers now", counted=False)
        if isinstance(inner, WorkerGroupStartupFailedError):
            return Cause("a worker died while it started")
        return None
    if not isinstance(error, WorkerGroupError):
        return None
    failed = [Failed(rank, found) for rank, found in sorted(error.worker_failures.items())]
    dead = next((worker for worker in failed if worker.died), None)
    if dead is not None:
        preempted = _is_preempted_actor(dead.error)
        return Cause(f"worker {dead.rank}{_where(dead.rank, beats)} died: {_death(dead.error)}", counted=not preempted)
    # those that lost a worker are seen before it is
    for rank, state in attend.states(_last_group(beats)).items():
        if state in _GONE:
            return Cause(f"worker {rank}{_where(rank, beats)} died: {_GONE[state]}")
    own = next((worker for worker in failed if not worker.broken), failed[0])
    said = f"{type(own.error).__name__}: {_line(own.error)}"
    return Cause(f"worker {own.rank}{_where(own.rank, beats)} failed with {said}", "" if own.broken else said)


def _last_group(beats: Mapping[int, Beat]) -> dict[int, Process]:
    """The processes of the last group: an earlier one may have had more ranks."""
    newest = max(beats.values(), key=lambda beat: beat.process.began, default=None)
    return {rank: beat.process for rank, beat in beats.items() if newest and rank < newest.world}


def _where(rank: int, beats: Mapping[int, Beat]) -> str:
    beat = beats.get(rank)
    return f" ({beat.process.host}, process {beat.process.pid})" if beat else ""


def _death(error: BaseException) -> str:
    """How a process ended, as far as Ray knows."""
    said = str(error)
    if "its node has died" in said:
        return "its node is gone"
    if "running low on memory" in said:
        return "Ray ended it, since its node was short of memory"
    return _KILLED


def _line(error: BaseException) -> str:
    """The last line of what an error says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _ask(method: Any, otherwise: Any) -> Any:
    """What the mailbox answers; it is not waited for where it is gone."""
    try:
        return ray.get(method.remote(), timeout=MAILBOX_SECONDS)
    except RayError:
        return otherwise
