"""What `raymix cluster render kubernetes` puts into its manifests beside the job."""

from __future__ import annotations

from pydantic import Field

from raymix.spec.base import Bytes, Name, Seconds, Section


class Kubernetes(Section):
    """Pods of a KubeRay RayJob: a head that drives and a pod for each worker."""

    namespace: Name = "default"
    image: str = Field("raymix:latest", min_length=1, description="of cluster/docker, where the nodes can pull it")
    memory: Bytes = Field(8 * 1024**3, gt=0, description="of each pod; a third of it may be shared memory")
    gpu: str = Field("nvidia.com/gpu", min_length=1, description="the resource that is a GPU")
    volume: Name = Field("raymix-storage", description="claim of a volume that all pods can write, for the runs")
    volume_size: Bytes = Field(50 * 1024**3, gt=0)
    volume_class: str | None = Field(None, min_length=1, description="its storage class; null: the cluster's default")
    data: Name | None = Field(None, description="claim of a volume with the images, mounted at /data, to be read only")
    queue: Name | None = Field(None, description="Kueue's local queue that admits the job; null: it starts at once")
    retries: int = Field(2, ge=0, description="new clusters after one that failed; each goes on from the checkpoint")
    deadline: Seconds | None = Field(
        None, gt=0, description="after which the job is ended, waiting included; null: none"
    )
