"""How many trials or sessions a cluster holds side by side, and what each of them takes."""

from __future__ import annotations

import math
import os

import ray

from raymix.on_ray.cluster import check_resources, connect, disconnect, set_environment
from raymix.runfolder import in_ray_job
from raymix.spec import Cluster, JobError


def open_ray(
    cluster: Cluster, asked: int | None, field: str, verbose: bool, shares_gpus: bool = False
) -> tuple[bool, int]:
    """Connects to Ray; whether that Ray is this process's own, and how many of what `field` counts run at once.

    `asked`: so many at once; None: as many as it holds. `shares_gpus`: more of them than GPUs take parts of one.

    Raises:
        JobError: nothing answers, or the cluster has less than that.
    """
    set_environment()
    wanted = cluster
    if asked and not (cluster.address or in_ray_job() or ray.is_initialized()):
        together = math.ceil(asked * needs(cluster, 0.0)["CPU"])  # CPUs are logical: what is asked for is there
        wanted = cluster.model_copy(update={"workers": together, "cpus_per_worker": 1.0, "gpus_per_worker": 0.0})
    owned = connect(wanted, verbose)
    try:
        check_resources(cluster)
        there = ray.cluster_resources()
        wants = needs(cluster, gpu_share(cluster, asked if asked and shares_gpus else 1, there.get("GPU", 0.0)))
        holds = min(int(there.get(name, 0.0) / amount + 1e-9) for name, amount in wants.items())
        if holds < (asked or 1):
            problem = f"{asked or 1} at once are more than the cluster's {there.get('CPU', 0):g} CPUs"
            problem += f" and {there.get('GPU', 0):g} GPUs hold" if there.get("GPU") else " hold"
            raise JobError(field, problem, "ask for fewer, or leave it on auto")
    except BaseException:
        close_ray(owned)
        raise
    return owned, asked or holds


def close_ray(owned: bool) -> None:
    """Ends Ray where it is this process's own."""
    if owned:
        disconnect()


def check_machine(cluster: Cluster, asked: int, field: str) -> None:
    """More than this machine's cores at once would only wait for each other; a cluster is asked when it is reached.

    Raises:
        JobError: so many ask for more.
    """
    if cluster.address or in_ray_job() or ray.is_initialized():
        return
    each, there = cluster.num_replicas * cluster.cpus_per_worker, os.cpu_count() or 1
    if asked > 1 and asked * each > there:
        problem = f"{asked} x {each:g} CPUs are more than this machine's {there}"
        raise JobError(field, problem, f"at most {max(1, int(there / each))}, or auto")


def gpu_share(cluster: Cluster, together: int, gpus: float) -> float:
    """GPUs of each worker where so many train at once on a cluster's GPUs.

    What is asked for where that is a part of one already; else a GPU is shared by as many as must. Workers of one
    group never share, since NCCL connects no two of them on one GPU. Without workers a GPU is taken where there is one.
    """
    asked = cluster.gpus_per_worker if cluster.max_workers else min(1.0, gpus)
    if asked != 1 or cluster.max_workers > 1:
        return asked
    return 1 / math.ceil(together / gpus) if gpus else 1.0


def needs(cluster: Cluster, share: float) -> dict[str, float]:
    """What one trial or session takes of a cluster's resources, with so many GPUs a worker."""
    cpus, workers = cluster.cpus_per_worker, cluster.max_workers
    wanted = {"CPU": workers * cpus + 1 if workers else cpus}  # reading needs one beside the workers
    return {**wanted, **({"GPU": (workers or 1) * share} if share else {})}
