"""Where a job runs: how many workers, on what, at which price."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from raymix.spec.base import Bytes, Folder, JobError, Seconds, Section
from raymix.spec.kubernetes import Kubernetes

MOST_WORKERS = 4096


class Elastic(Section):
    """A number of workers that follows the cluster; the global batch and the order of rows stay as they are.

    It is one that the batch can be shared out to, `raymix.plan.worker_counts`.
    """

    min: int = Field(1, ge=1, le=MOST_WORKERS, description="with fewer the run waits, failures.wait_for_workers long")
    max: int = Field(ge=1, le=MOST_WORKERS, description="what the run is planned and forecast for")
    grow_every: Seconds = Field(
        60.0, description="the least time between a group's start and the checkpoint at which a larger one takes over"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise JobError("cluster.workers.min", f"{self.min} is more than max {self.max}", f"at most {self.max}")
        return self


def _kind(value: Any) -> str:
    return "Elastic" if isinstance(value, dict | Elastic) else "int"


_Workers = Annotated[
    Annotated[int, Field(ge=0, le=MOST_WORKERS), Tag("int")] | Annotated[Elastic, Tag("Elastic")], Discriminator(_kind)
]


class Cluster(Section):
    """The machines: `workers: 0` trains in this process without Ray."""

    workers: _Workers = Field(2, description="processes that train; {min, max}: as many as there is room for")
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    resources_per_worker: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="what else a worker holds of its node, by the names that `ray start --resources` gave them"
    )
    placement: Literal["pack", "spread", "strict_spread"] = Field(
        "pack", description="workers on few nodes; on many; each on a node of its own"
    )
    address: str | None = Field(
        None, description="null: a Ray of its own, or the job's cluster inside a job; auto; host:port"
    )
    object_store: Bytes | None = Field(
        None, description="size of Ray's object store where raymix starts Ray, as in 2GB; null: what reading needs"
    )
    price_per_worker_hour: float | None = Field(None, ge=0)
    price_file: Folder | None = Field(None, description="YAML of prices per worker-hour by node type, for `node_type`")
    node_type: str | None = Field(None, min_length=1, description="what price_file calls the machines")
    device_flops: float | None = Field(
        None,
        gt=0,
        description="FLOP/s that one worker reaches in training; `raymix plan` goes by it where nothing like the job "
        "was measured yet; null: 20e9 a CPU, 60e12 a GPU",
    )
    kubernetes: Kubernetes = Kubernetes()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.address and self.address.startswith("ray://"):
            problem = "ray:// (Ray Client) cannot carry a training run"
            hint = "submit the job instead: ray job submit --address http://HOST:8265 --working-dir . -- raymix run JOB"
            raise JobError("cluster.address", problem, hint)
        for name, field in (("CPU", "cpus_per_worker"), ("GPU", "gpus_per_worker")):
            if name in self.resources_per_worker:
                raise JobError(f"cluster.resources_per_worker.{name}", "has a field of its own", f"cluster.{field}")
        if self.address is None and self.resources_per_worker and not self.max_workers:
            raise JobError("cluster.resources_per_worker", "there are no workers", "leave it out")
        if (self.price_file is None) != (self.node_type is None):
            missing = "node_type" if self.node_type is None else "price_file"
            raise JobError(f"cluster.{missing}", "missing", "price_file and node_type go together")
        if self.price_file is not None and self.price_per_worker_hour is not None:
            raise JobError(
                "cluster.price_per_worker_hour", "cluster.price_file says it too", "leave one of the two out"
            )
        return self

    @property
    def elastic(self) -> Elastic | None:
        """The bounds between which the number of workers may change; None: it is fixed."""
        return self.workers if isinstance(self.workers, Elastic) else None

    @property
    def max_workers(self) -> int:
        """Workers on Ray, the most that there may be; 0: there are none."""
        return self.workers.max if isinstance(self.workers, Elastic) else self.workers

    @property
    def min_workers(self) -> int:
        """Workers on Ray, the least that can train."""
        return self.workers.min if isinstance(self.workers, Elastic) else self.workers

    @property
    def num_replicas(self) -> int:
        """Processes that train, the most that there may be: what is planned for. This one alone without workers."""
        return max(1, self.max_workers)
