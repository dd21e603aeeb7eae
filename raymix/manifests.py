"""Kubernetes manifests fitted to a job: a volume for its runs, the job file, and a KubeRay RayJob that trains it.

Pure: what is asked stands in the job (`cluster`, `cluster.kubernetes`), and the same job gives the same text.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import version
from typing import Any

import yaml

from raymix.jobfile import job_text
from raymix.spec import JobError, JobSpec, Kubernetes

STORAGE, DATA, JOB = "/storage", "/data", "/job"
_LONGEST_NAME = 40  # KubeRay adds suffixes, and a name has 63 characters at most
_TTL_SECONDS = 600  # a finished job is gone after that; its runs are on the volume
_GIB = 1024**3

Manifest = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """A text of several lines stands as it is."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def render(spec: JobSpec) -> str:
    """The manifests as YAML documents, for `kubectl apply -f -`.

    Raises:
        JobError: the job trains without workers, or names a cluster or a storage of another place.
    """
    return yaml.dump_all(manifests(spec), Dumper=_Dumper, sort_keys=False, width=120)


def manifests(spec: JobSpec) -> list[Manifest]:
    """The volume claim for the runs, the job file as a ConfigMap, the RayJob.

    Raises:
        JobError: as `render`.
    """
    cluster = spec.cluster
    if cluster.max_workers == 0:
        raise JobError("cluster.workers", "0 trains in one process, without Ray", "ask for one worker or more")
    if cluster.address is not None:
        raise JobError("cluster.address", "a RayJob has a cluster of its own", "leave it out")
    if spec.storage.startswith("/") and not f"{spec.storage}/".startswith(f"{STORAGE}/"):
        raise JobError("storage", f"'{spec.storage}' goes with the pod", f"a relative folder lies in {STORAGE}")
    return [_claim(cluster.kubernetes), _job_file(spec), _ray_job(spec)]


def _meta(spec: JobSpec) -> Manifest:
    """Name and namespace; a job's name may have characters that a resource's may not."""
    name = re.sub(r"[^a-z0-9]+", "-", spec.name.lower())[:_LONGEST_NAME].strip("-")
    return {"name": name, "namespace": spec.cluster.kubernetes.namespace}


def _claim(asked: Kubernetes) -> Manifest:
    wanted: Manifest = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{math.ceil(asked.volume_size / _GIB)}Gi"}},
    }
    if asked.volume_class is not None:
        wanted["storageClassName"] = asked.volume_class
    meta = {"name": asked.volume, "namespace": asked.namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": wanted}


def _job_file(spec: JobSpec) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(spec), "data": {"job.yaml": job_text(spec)}}


def _ray_job(spec: JobSpec) -> Manifest:
    asked, meta = spec.cluster.kubernetes, _meta(spec)
    if asked.queue is not None:
        meta["labels"] = {"kueue.x-k8s.io/queue-name": asked.queue}
    wanted: Manifest = {
        "entrypoint": f"raymix run {JOB}/job.yaml --resume",
        "backoffLimit": asked.retries,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _TTL_SECONDS,
        "rayClusterSpec": {
            "rayVersion": version("ray"),
            "authOptions": {"mode": "token"},
            "headGroupSpec": _head(spec),
            "workerGroupSpecs": [_workers(spec)],
        },
    }
    if asked.deadline is not None:
        wanted["activeDeadlineSeconds"] = math.ceil(asked.deadline)
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": meta, "spec": wanted}


def _head(spec: JobSpec) -> Manifest:
    """The head drives, and lends its CPU to reading. No worker needs a GPU of it."""
    start = {"dashboard-host": "0.0.0.0", "num-cpus": "1"}  # within the pod's network, where the submitter reaches it
    return {"rayStartParams": start, "template": _pod(spec, "ray-head", cpus=1.0, gpus=0)}


def _workers(spec: JobSpec) -> Manifest:
    cluster = spec.cluster
    gpus = math.ceil(cluster.gpus_per_worker)
    return {
        "groupName": "workers",
        "replicas": cluster.max_workers,
        "minReplicas": cluster.min_workers,
        "maxReplicas": cluster.max_workers,
        "rayStartParams": {"num-cpus": str(math.ceil(cluster.cpus_per_worker))},
        "template": _pod(spec, "ray-worker", cpus=cluster.cpus_per_worker, gpus=gpus),
    }


def _pod(spec: JobSpec, name: str, cpus: float, gpus: int) -> Manifest:
    asked = spec.cluster.kubernetes
    memory = f"{math.ceil(asked.memory / 2**20)}Mi"
    resources: Manifest = {"requests": {"cpu": f"{cpus:g}", "memory": memory}, "limits": {"memory": memory}}
    if gpus:
        resources["limits"][asked.gpu] = gpus
    mounts = [
        {"name": "storage", "mountPath": STORAGE},
        {"name": "job", "mountPath": JOB, "readOnly": True},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    volumes: list[Manifest] = [
        {"name": "storage", "persistentVolumeClaim": {"claimName": asked.volume}},
        {"name": "job", "configMap": {"name": _meta(spec)["name"]}},
        # Ray's object store; a pod's own /dev/shm has 64 MB
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{math.ceil(asked.memory / 3 / 2**20)}Mi"}},
    ]
    if asked.data is not None:
        mounts.append({"name": "data", "mountPath": DATA, "readOnly": True})
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": asked.data, "readOnly": True}})
    container = {
        "name": name,
        "image": asked.image,
        "env": [{"name": "RAYMIX_STORAGE", "value": STORAGE}],
        "resources": resources,
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000},
            "containers": [container],
            "volumes": volumes,
        }
    }
