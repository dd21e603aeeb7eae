"""Ray Train's controller, in the driver's own process instead of an actor's.

The actor is a process that begins, twice over for its environment, and imports what this process has imported already:
5 of the 43 seconds from command to end of a short run on an H100. It dies with its driver in any case. Workers of a Ray
of our own, which inherit the environment that Ray was started with, likewise need none of their own: so they begin in
processes that Ray keeps ready (2 s).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import ray
from ray import PlacementGroupID
from ray.exceptions import AsyncioActorExit
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.controller import controller as ray_controller
from ray.train.v2._internal.execution.controller.state import ReschedulingState, RestartingState
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.train.v2.api.result import Result
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from raymix.on_ray.group import Group, kind_of
from raymix.on_ray.leaving import Lookout
from raymix.on_ray.restarts import Restarts
from raymix.on_ray.scaling import PLACE_SECONDS, AllowedCounts, Sizes

LEAVE_SECONDS = 10.0
WAIT_SECONDS = 0.1


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Starts, watches and restarts workers as Ray Train does; `fit` blocks until they have ended.

    It is also without Ray Train's cleaner of placement groups, which serves where a controller dies before its driver.
    That asks the Ray that was last started on the machine whether the controller lives. Where that is another Ray, it
    ends the workers in the midst of a run; where none answers, every run takes 12 s longer to end.
    """

    def __init__(
        self,
        *args: Any,
        owned: bool,
        restarts: Restarts,
        patience: float,
        sizes: Sizes | None = None,
        **options: Any,
    ) -> None:
        """`owned`: Ray was started by this process, with its environment. `sizes`: the group's size may change.

        `patience`: seconds in which all workers of a group must come; 0: whenever.
        """
        super().__init__(*args, **options)
        self._restarts, self._sizes, self._ending = restarts, sizes, threading.Event()
        # where the room that there seemed to be does not come, a group whose size may change tries fewer
        placed = None if sizes is None else PLACE_SECONDS
        self._group = kind_of(inherits=owned, restarts=restarts, patience=patience, placed=placed)

    def leave(self, thread: threading.Thread) -> None:
        """Ends `fit`, which `thread` is in, whatever the workers do, on a Ray that this process is about to leave.

        A call to Ray that is overtaken by its end may crash the process. So what `fit` waits for, workers that start or
        answer, is taken away from it first.
        """
        logging.getLogger(ray_controller.__name__).disabled = True  # it would report that as an error
        self._ending.set()
        until, job = time.monotonic() + LEAVE_SECONDS, ray.get_runtime_context().get_job_id()
        while thread.is_alive() and time.monotonic() < until:
            for group in placement_group_table():
                if group.endswith(job):  # of a cluster that was joined by its address, others have theirs in the table
                    remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(group))))
            thread.join(0.2)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [callback for callback in callbacks if type(callback).__name__ != "PlacementGroupCleanerCallback"]

    def _initialize_and_run_controller(self, **asked: Any) -> Result:
        asked["failure_policy"] = self._restarts
        kind: type[_Controller] = _Controller
        if self._sizes is not None:
            asked["scaling_policy"] = AllowedCounts(self.scaling_config, self._sizes)
            kind = _Elastic
        controller = kind(self._group, self._ending, **asked)
        asyncio.run(controller.run())
        return controller.get_result()


class _Controller(TrainController):  # type: ignore[misc]
    def __init__(self, group: type[Group], ending: threading.Event, **asked: Any) -> None:
        self.worker_group_cls, self._ending = group, ending
        super().__init__(**asked)
        self._worker_group_callbacks_to_propagate.append(Lookout())

    async def _step(self) -> Any:
        if self._ending.is_set():
            raise AsyncioActorExit  # the one exception that the loop around this does not try to recover from
        if isinstance(self.get_state(), RestartingState | ReschedulingState):
            await self._wait_before_restart(self._failure_policy)
        return await super()._step()

    async def _wait_before_restart(self, restarts: Restarts) -> None:
        """What is left of the group is given back first."""
        wait, since = restarts.take_wait(), time.monotonic()
        if wait and self._worker_group:
            self._shutdown_worker_group()
        while not (restarts.is_over(since, wait) or self._ending.is_set()):
            await asyncio.sleep(WAIT_SECONDS)


class _Elastic(_Controller):
    async def _wait_before_restart(self, restarts: Restarts) -> None:
        self._scaling_policy.over()
        await super()._wait_before_restart(restarts)

    def _make_and_handle_scaling_decision_for_non_running_worker_group(self, controller_state: Any) -> Any:
        """What is left of a group that died is given back before a run waits for others."""
        if self._worker_group:
            self._shutdown_worker_group()
        return super()._make_and_handle_scaling_decision_for_non_running_worker_group(controller_state)
