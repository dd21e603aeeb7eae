"""Worker groups as Ray Train has them, except that their processes come within a time, or it is said that they do not.

Ray waits without an end for a process that a node cannot start, and says so only in a log on that node.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray.train.v2._internal.execution.worker_group import Worker, WorkerGroup
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from raymix.failing.restarts import Cause
from raymix.on_ray.cluster import session_folder
from raymix.on_ray.restarts import Restarts
from raymix.on_ray.shell import python_of_processes
from raymix.report.words import plural

TELL_SECONDS = 60.0  # without a process, after which that is told


class Group(WorkerGroup):  # type: ignore[misc]
    """A group of a Ray that need not be of our own; `kind_of` says of which."""

    inherits: ClassVar[bool]
    restarts: ClassVar[Restarts]
    patience: ClassVar[float]
    placed: ClassVar[float | None]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.placed is not None:
            self._worker_group_start_timeout_s = self.placed

    def _get_worker_runtime_env(self, custom_runtime_env: dict[str, Any]) -> dict[str, Any]:
        if self.inherits:
            return custom_runtime_env
        return {**super()._get_worker_runtime_env(custom_runtime_env), **python_of_processes()}

    def _create_workers(self, num_workers: int, placement_group: PlacementGroup, *args: Any, **options: Any) -> Any:
        self.restarts.placed.set()
        with _expected(num_workers, placement_group, self.restarts, self.patience):
            return super()._create_workers(num_workers, placement_group, *args, **options)

    def _init_train_context_on_workers(self, workers: list[Worker], sync_actor: Any, arguments: dict[str, Any]) -> None:
        """Ray Train's own names the actor that it runs in, for workers that ask it for Ray's checkpoints."""
        shared = {
            "train_run_context": self._train_run_context,
            "storage_context": self._storage_context,
            "synchronization_actor": sync_actor,
            "worker_callbacks": self._worker_callbacks_to_propagate,
            "controller_actor": None,
        }
        calls = [
            worker.actor.init_train_context.remote(
                distributed_context=worker.distributed_context,
                **shared,
                **{name: values[rank] for name, values in arguments.items()},
            )
            for rank, worker in enumerate(workers)
        ]
        ray.get(calls)
        self._decorate_worker_log_file_paths(workers)


def kind_of(*, inherits: bool, restarts: Restarts, patience: float, placed: float | None) -> type[Group]:
    """The groups of one trainer.

    Args:
        inherits: Ray was started with the environment that workers need, and gives it to them.
        patience: seconds in which all processes of a group must come; 0: whenever.
        placed: seconds in which there must be room for it; None: as Ray has it.
    """
    settings = {"inherits": inherits, "restarts": restarts, "patience": patience, "placed": placed}
    return type("Group", (Group,), settings)


@contextmanager
def _expected(num: int, group: PlacementGroup, restarts: Restarts, patience: float) -> Iterator[None]:
    """Tells of processes that do not come while this is open, and in the end takes their room away, which ends them."""
    came = threading.Event()

    def wait() -> None:
        early = min(TELL_SECONDS, patience or TELL_SECONDS)
        if came.wait(early):
            return
        if early != patience:
            restarts.notes.put(_told(num, group, early))
        if patience and not came.wait(patience - early):
            cause = Cause(_told(num, group, patience))
            with restarts.lock:
                restarts.expect(cause)
            remove_placement_group(group)

    thread = threading.Thread(target=wait, name="raymix-expects", daemon=True)
    thread.start()
    try:
        yield
    finally:
        came.set()
        thread.join()


def _told(num: int, group: PlacementGroup, waited: float) -> str:
    """Who does not come, since when, and where it says why."""
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
    nodes = placement_group_table(group).get("bundles_to_node_id", {}).values()
    hosts = ", ".join(sorted({names.get(node, node) for node in nodes}))
    log = Path(session_folder()) / "logs" / "raylet.err"
    return (
        f"not all of {plural(num, 'worker')} came in {waited:.0f} s, though there is room for them: a node is slow, or "
        f"processes end as they start; {log} on {hosts} tells"
    )
