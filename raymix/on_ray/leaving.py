"""Nodes that Ray was told will be taken away, as spot machines are: by its autoscaler, or by `ray drain-node`.

Ray Train tells every worker, trains on, and starts the group anew without those nodes when their time is over.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import WorkerGroupCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.preemption import PreemptionWatcher
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.preemption import PreemptionInfo

from raymix.report.words import seconds

LOOK_SECONDS = 2.0


class Lookout(WorkerGroupCallback):  # type: ignore[misc]
    """Ray Train's watch for such nodes, as a thread of the controller: by itself it starts a process for each group."""

    def __init__(self) -> None:
        self._watcher: PreemptionWatcher | None = None

    def after_worker_group_start(self, worker_group: WorkerGroup) -> None:
        """Begins to look."""
        self._end()
        workers = {worker.distributed_context.world_rank: worker for worker in worker_group.get_workers()}
        ranks: dict[str, list[int]] = defaultdict(list)
        for rank, worker in workers.items():
            ranks[worker.metadata.node_id].append(rank)
        actors = {rank: worker.actor for rank, worker in workers.items()}
        self._watcher = PreemptionWatcher(dict(ranks), LOOK_SECONDS, actors)

    def before_worker_group_shutdown(self, worker_group: WorkerGroup) -> None:
        """Ends."""
        self._end()

    def after_worker_group_abort(self, worker_group_context: Any) -> None:
        """Ends."""
        self._end()

    def _end(self) -> None:
        if self._watcher is not None:
            self._watcher._stop_event.set()
            self._watcher = None


class Notice:
    """What this worker's group was told. Ray Train's own question is a collective; this one waits for nobody."""

    def __init__(self) -> None:
        self._told: PreemptionInfo | None = None

    @property
    def given(self) -> bool:
        """Whether a node of the group goes."""
        return get_train_context().preemption_context.preemption_info is not None

    def news(self) -> str:
        """A line about what was not told yet; empty: nothing is new."""
        found = get_train_context().preemption_context.preemption_info
        if found is None or found == self._told:
            return ""
        self._told = found
        ranks = ", ".join(map(str, found.preempted_ranks))
        left = (
            "soon" if found.deadline_ms is None else f"in {seconds(max(0.0, found.deadline_ms / 1000 - time.time()))}"
        )
        return f"the node of worker {ranks} will be taken away {left}: until then every segment is saved"


def leaving_nodes() -> set[str]:
    """Ids of the nodes that are about to be taken away: they are there, but take nothing new."""
    return set(ray._private.state.state.get_draining_nodes())
