"""Nodes that Ray was told will be taken away, as spot machines are: by its autoscaler, or by `ray drain-node`.

Ray Train looks every few seconds, tells every worker, and starts the group anew without those nodes when their time is
over; until then it trains on.
"""

from __future__ import annotations

import time

import ray
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2.api.preemption import PreemptionInfo

from raymix.report.words import seconds


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
