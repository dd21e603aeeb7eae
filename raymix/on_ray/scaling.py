"""How many workers an elastic run has: Ray Train's own engine, told which numbers are allowed and when to change.

A group that lost a node is started again with what the cluster holds. One that there is room to enlarge is asked to end
its segment and to save; then a larger one goes on from there, so nothing is done twice.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.train.v2._internal.execution.scaling_policy import (
    AUTOSCALING_REQUESTS_GET_TIMEOUT_S,
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.exceptions import ControllerError

from raymix.on_ray.cluster import DATA_CPUS
from raymix.on_ray.leaving import leaving_nodes
from raymix.report.words import plural, seconds
from raymix.session import Hold
from raymix.spec import JobSpec

LOOK_SECONDS = 5.0  # between two looks at what else the cluster could hold, while a group trains
WAIT_SECONDS = 0.5  # the same while none does
ANSWER_SECONDS = 2.0  # in which a node that is there answers
PLACE_SECONDS = 20.0  # in which what the cluster seemed to hold must come; then fewer are tried


class TooFew(ControllerError):  # type: ignore[misc]  # noqa: N818 (it is what happened)
    """There was no room for `cluster.workers.min` workers for as long as the job says."""

    def __str__(self) -> str:
        return str(self.controller_failure)


class Sizes:
    """What the groups of a session were and are: the policy writes it in Ray Train's thread, the driver reads it."""

    def __init__(self, spec: JobSpec, counts: Sequence[int], mailbox: Any) -> None:
        """`counts`: the numbers of workers that are allowed, smallest first."""
        assert spec.cluster.elastic is not None
        self.counts, self.mailbox = tuple(counts), mailbox
        self.grow_every, self.patience = spec.cluster.elastic.grow_every, spec.failures.wait_for_workers
        self.cpus_per_worker = spec.cluster.cpus_per_worker
        self.before_group: Callable[[int], None] = lambda workers: None  # called before a group of that size is started
        self.closed = False
        self._holds: list[Hold] = []
        self._notes: list[str] = []
        self._lock = threading.Lock()

    @property
    def holds(self) -> tuple[Hold, ...]:
        """All groups so far."""
        with self._lock:
            return tuple(self._holds)

    @property
    def worker_seconds(self) -> float:
        """Seconds that workers were held, summed over them."""
        now = time.monotonic()
        return sum(hold.seconds(now) for hold in self.holds)

    def begin(self, workers: int) -> None:
        """A group is asked for."""
        with self._lock:
            self._holds.append(Hold(workers, time.monotonic()))
        self.before_group(workers)

    def end(self, came: bool, grew: bool = False) -> None:
        """The last group is over, if it was not already; if it never `came`, nothing was held."""
        with self._lock:
            if self._holds and self._holds[-1].until is None:
                last = self._holds.pop()
                if came:
                    self._holds.append(last._replace(until=time.monotonic(), grew=grew))

    def note(self, text: str) -> None:
        """Something that the console is to say."""
        with self._lock:
            self._notes.append(text)

    def take_notes(self) -> list[str]:
        """What was noted since this was last asked."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes


class AllowedCounts(ElasticScalingPolicy):  # type: ignore[misc]
    """Ray Train's policy, with allowed counts alone, room for reading beside them, and growth at checkpoints."""

    def __init__(self, scaling_config: ScalingConfig, sizes: Sizes) -> None:
        super().__init__(scaling_config)
        self._sizes = sizes
        self._came = False  # the present group was seen at work
        self._tried = 0  # workers of a group that did not come
        self._looked = self._short_since = 0.0  # short since: 0: there is room
        self._asked_to_part = False

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """A group of what the cluster holds; none while that is too little.

        Raises:
            TooFew: it was too little for too long, or the session is over.
        """
        self._maybe_send_resource_request()
        self.over()
        num, tried = self._room(), self._tried
        if tried and num >= tried > self._sizes.counts[0]:
            num = max(n for n in self._sizes.counts if n < tried)  # what seemed to be there did not come
        if num:
            self._short_since, self._tried = 0.0, 0
            return self._resize(num)
        self._wait()
        return NoopDecision()

    def over(self) -> None:
        """The group is over, whether or not it came to work."""
        holds = self._sizes.holds
        if holds and holds[-1].until is None:
            self._tried = 0 if self._came else holds[-1].workers
            self._sizes.end(self._came)
        self._asked_to_part = False

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        """Nothing, or a larger group once the present one has saved."""
        self._maybe_send_resource_request()
        self._came, now = True, time.monotonic()
        if self._asked_to_part:
            if not ray.get(self._sizes.mailbox.parted.remote(), timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S):
                self._sizes.mailbox.part.remote()  # a run that was rolled back meanwhile has forgotten it
                return NoopDecision()
            num = self._room() or worker_group_state.num_workers
            self._sizes.end(came=True, grew=True)
            self._asked_to_part = False
            return self._resize(num)
        started = self._sizes.holds[-1].since
        if now - started < self._sizes.grow_every or now - self._looked < LOOK_SECONDS:
            return NoopDecision()
        self._looked = now
        num = self._room()
        if num > worker_group_state.num_workers and self._is_free(num - worker_group_state.num_workers):
            self._sizes.mailbox.part.remote()
            self._asked_to_part = True
        return NoopDecision()

    def _get_reserved_resources(self) -> Any:
        """What the cluster's nodes hold for this run now, and not up to 20 s ago: a node may just have been lost."""
        try:
            asked = self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
            return ray.get(asked, timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S)
        except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
            return None

    def _room(self) -> int:
        """The largest allowed number of workers that the cluster holds, with a CPU to read beside them; 0: none is."""
        reserved, there = self._get_reserved_resources(), _answering()
        if reserved is None:
            return 0
        cpus = sum(there.values()) - DATA_CPUS
        possible = self._count_possible_workers({node: held for node, held in reserved.items() if node in there})
        most = min(possible, int(cpus / self._sizes.cpus_per_worker + 1e-9))
        return max((num for num in self._sizes.counts if num <= most), default=0)

    def _is_free(self, more: int) -> bool:
        """Whether nobody else uses what so many more workers need."""
        there = ray.available_resources()
        wanted = self.scaling_config._resources_per_worker_not_none
        return all(there.get(name, 0.0) >= more * amount for name, amount in wanted.items())

    def _resize(self, num: int) -> ResizeDecision:
        self._came = False
        self._sizes.begin(num)
        decision: ResizeDecision = self._get_resize_decision(num)
        return decision

    def _wait(self) -> None:
        """Lets some time pass; says so when it begins.

        Raises:
            TooFew: enough has.
        """
        now, sizes = time.monotonic(), self._sizes
        words = plural(sizes.counts[0], "worker")
        if not self._short_since:
            self._short_since = now
            sizes.note(f"waiting for room for {words}, {seconds(sizes.patience)} at the most")
        if sizes.closed or now - self._short_since > sizes.patience:
            waited = f"{now - self._short_since:.0f} s (failures.wait_for_workers)"
            raise TooFew(RuntimeError(f"no room for {words} for {waited}"))
        time.sleep(WAIT_SECONDS)


def _answering() -> dict[str, float]:
    """CPUs of the nodes that answer and stay; Ray itself takes up to half a minute to notice that one is lost."""
    leaving = leaving_nodes()
    alive = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    with ThreadPoolExecutor(max_workers=16, thread_name_prefix="raymix-nodes") as pool:
        answers = list(pool.map(_answers, alive))
    return {
        node["NodeID"]: node["Resources"].get("CPU", 0.0) for node, here in zip(alive, answers, strict=True) if here
    }


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True
