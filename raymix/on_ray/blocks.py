"""Work on rows in blocks on Ray: one task a block, a few waiting, results as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import ray

from raymix.on_ray.cluster import connect, disconnect
from raymix.spec import Cluster

B = TypeVar("B")
R = TypeVar("R")


@contextmanager
def ray_for_blocks(cluster: Cluster, verbose: bool) -> Iterator[None]:
    """Ray as the job's cluster says it, for `map_ray`; shut down afterwards where it was not there before.

    Raises:
        JobError: nothing answers at the address.
    """
    # tasks take the CPUs that there are; what the job asks for its workers stays out of it
    owned = connect(cluster.model_copy(update={"workers": 0}), verbose)
    try:
        yield
    finally:
        if owned:
            disconnect()


def map_ray(function: Callable[[B], R], blocks: Iterable[B]) -> Generator[R, None, None]:
    """Runs a function over blocks, a task each on one CPU of the cluster; see `raymix.data.blocks.MapBlocks`.

    A task whose worker or node dies is run again; whatever the function raises is raised here.
    """
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_call)
    todo, waiting = iter(blocks), list[Any]()
    # where this ends early, the few blocks that are given out run to their end, or go with Ray: a task that is
    # cancelled just when it is done ends the driver (Ray 2.60: "Check failed: it != submissible_tasks_.end()")
    while True:
        ahead = 2 * int(ray.cluster_resources().get("CPU", 1))  # asked each time: nodes may come
        waiting += [task.remote(function, block) for block in islice(todo, max(0, ahead - len(waiting)))]
        if not waiting:
            return
        finished, waiting = ray.wait(waiting)
        yield _result(finished[0])


def _call(function: Callable[[B], R], block: B) -> R:
    return function(block)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if error.cause is None:
            raise
        raise error.cause from error  # Ray's own is a subclass of it whose text is the task's whole traceback
