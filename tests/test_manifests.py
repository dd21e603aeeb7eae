"""Manifests fitted to a job, and what cannot be rendered."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from raymix.jobfile import load_spec
from raymix.manifests import manifests, render
from raymix.spec import JobError
from tests.conftest import JOB, Raymix

LARGE = {
    **JOB,
    "name": "My_Run.v2",
    "data": {"train": {"format": "image_folder", "path": "/data/photos"}, "image_size": 8},
    "cluster": {
        "workers": 3,
        "cpus_per_worker": 4,
        "gpus_per_worker": 1,
        "kubernetes": {
            "namespace": "vision",
            "image": "registry.example/raymix:1",
            "memory": "16GiB",
            "volume_class": "nfs",
            "data": "photos",
            "queue": "team",
            "retries": 5,
            "deadline": "2h",
        },
    },
}


def pod(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The only container of a pod, and its volumes by name."""
    (container,) = template["spec"]["containers"]
    return container, {volume["name"]: volume for volume in template["spec"]["volumes"]}


def test_a_pod_for_each_worker_with_what_it_asks_for() -> None:
    claim, job_file, job = yaml.safe_load_all(render(load_spec(LARGE)))
    assert (claim["spec"]["storageClassName"], claim["spec"]["accessModes"]) == ("nfs", ["ReadWriteMany"])
    assert load_spec(yaml.safe_load(job_file["data"]["job.yaml"])) == load_spec(LARGE), "the job itself goes along"
    assert {one["metadata"]["namespace"] for one in (claim, job_file, job)} == {"vision"}
    assert job["metadata"]["name"] == job_file["metadata"]["name"] == "my-run-v2"
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    spec = job["spec"]
    assert spec["entrypoint"] == "raymix run /job/job.yaml --resume"
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (5, 7200)
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert {workers[name] for name in ("replicas", "minReplicas", "maxReplicas")} == {3}
    container, volumes = pod(workers["template"])
    assert container["image"] == "registry.example/raymix:1"
    assert container["resources"]["requests"]["cpu"] == "4"
    assert container["resources"]["limits"] == {"memory": "16384Mi", "nvidia.com/gpu": 1}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "photos", "readOnly": True}
    head, _ = pod(spec["rayClusterSpec"]["headGroupSpec"]["template"])
    assert "nvidia.com/gpu" not in head["resources"]["limits"], "the head takes no GPU from the workers"
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_what_is_left_out_is_not_there() -> None:
    _, _, job = manifests(load_spec({**JOB, "cluster": {"workers": 1}}))
    assert "labels" not in job["metadata"]
    assert "activeDeadlineSeconds" not in job["spec"]
    assert "data" not in pod(job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"])[1]


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"cluster": {"workers": 0}}, "cluster.workers: 0 trains in one process"),
        ({"cluster": {"address": "auto"}}, "cluster.address: a RayJob has a cluster of its own"),
        ({"cluster": {}, "storage": "/home/me/runs"}, "storage: '/home/me/runs' goes with the pod"),
    ],
)
def test_a_job_of_another_place_is_refused(sections: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as refused:
        render(load_spec({**JOB, **sections}))
    assert str(refused.value).startswith(line)


def test_the_command_prints_manifests_and_nothing_else(raymix: Raymix) -> None:
    done = raymix("cluster", "render", "kubernetes", "jobs/digits.yaml", "--set", "cluster.kubernetes.retries=7")
    assert (done.code, done.err) == (0, "")
    assert [one["kind"] for one in yaml.safe_load_all(done.out)] == ["PersistentVolumeClaim", "ConfigMap", "RayJob"]
    assert "backoffLimit: 7" in done.out
    assert raymix("cluster", "render", "mars", "jobs/digits.yaml").code == 2
