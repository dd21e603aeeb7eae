"""How many workers may share a run: what keeps the global batch, its rows and their order as they are."""

from __future__ import annotations

from raymix.plan.types import SHARDS
from raymix.spec import JobError, JobSpec, SimClr


def worker_counts(spec: JobSpec, run: int) -> tuple[int, ...]:
    """The numbers of workers that a job may be trained with, smallest first; a fixed one alone.

    `run`: 0: images are kept; else they are streamed, as `Facts` has it. The largest is what the plan is made for:
    `spec` and `resolve` have refused it where the batch cannot be shared out to it.
    """
    cluster = spec.cluster
    if cluster.elastic is None:
        return (cluster.num_replicas,)
    return tuple(n for n in range(cluster.min_workers, cluster.max_workers + 1) if _shares(spec, n, run))


def _shares(spec: JobSpec, num: int, run: int) -> bool:
    """Whether so many workers have equal parts of every batch, and of its parts that have a meaning of their own."""
    batch, most = spec.batch, spec.cluster.num_replicas
    if batch % (num * spec.optim.accumulate):
        return False
    if isinstance(spec.objective, SimClr) and batch // num < 2:
        return False
    if num * spec.num_whole(batch // num) != most * spec.num_whole(batch // most):
        return False  # rounded for each worker, it would be another loss
    if run > 1 and SHARDS % num:
        return False
    share = spec.data.labelled_share
    return not (run and share is not None and round(share * batch) % num)


def check_fixed(spec: JobSpec, what: str) -> None:
    """Raises JobError where the number of workers may change in `what`, which compares runs by their seconds."""
    if spec.cluster.elastic is not None:
        problem = f"{what} compares runs by their seconds, and those of other workers are others"
        raise JobError("cluster.workers", problem, f"name one number, as in cluster.workers={spec.cluster.max_workers}")
