"""The files of cluster/: each is held to its own schema, each script to its linter."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from raymix.jobfile import load_spec
from raymix.manifests import manifests
from tests.conftest import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
PLACES = sorted(path.name for path in CLUSTER.iterdir() if path.is_dir())
SCRIPTS = ["local/up.sh", "slurm/train.sbatch"]
STARTS = {
    "local": "up.sh",
    "docker": "docker build",
    "slurm": "sbatch",
    "kubernetes": "kubectl apply",
    "grafana": "Import",
}


def crd(kind: str) -> dict[str, Any]:
    """The v1 schema of a KubeRay resource: from $KUBERAY_CRDS, or a folder kuberay-crds beside the repository."""
    named = os.environ.get("KUBERAY_CRDS")
    folders = [Path(named)] if named else list(REPOSITORY.parent.glob("*/data/kuberay-crds"))
    files = [file for folder in folders for file in folder.glob(f"ray.io_{kind}.yaml*")]
    if not files:
        pytest.skip("KubeRay's CRDs are not there: name their folder by KUBERAY_CRDS")
    content = files[0].read_bytes()
    text = gzip.decompress(content) if files[0].suffix == ".gz" else content
    versions = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    schema: dict[str, Any] = next(one for one in versions if one["name"] == "v1")["schema"]["openAPIV3Schema"]
    closed(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def closed(schema: Any) -> None:
    """Refuses unknown fields, as the API server does, and takes numbers where it takes them for text."""
    if isinstance(schema, list):
        for one in schema:
            closed(one)
    if not isinstance(schema, dict):
        return
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    for one in schema.values():
        closed(one)


@pytest.mark.parametrize("place", PLACES)
def test_each_place_says_cost_start_run_stop(place: str) -> None:
    text = (CLUSTER / place / "README.md").read_text()
    assert len(text.splitlines()) <= 20
    for word in ("cost", "Start" if place != "docker" else "Build", "Run", "Stop"):
        assert word.lower() in text.lower(), word
    assert STARTS.get(place, "ray up") in text


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_takes_the_launcher_files(cloud: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    asked = yaml.safe_load((CLUSTER / cloud / "cluster.yaml").read_text())
    made = prepare_config(asked)
    validate_config(made)
    assert made["provider"]["type"] == cloud
    types = made["available_node_types"]
    assert (types["worker"]["min_workers"], types["worker"]["max_workers"], made["max_workers"]) == (0, 4, 4)
    assert "spot" in yaml.safe_dump(types["worker"]["node_config"]).lower(), "workers are spot machines"
    assert "spot" not in yaml.safe_dump(types["head"]["node_config"]).lower(), "the head, with the runs, is not"
    for start in (*made["head_start_ray_commands"], *made["worker_start_ray_commands"]):
        assert "ray start" not in start or "RAY_AUTH_MODE=token" in start
    with pytest.raises(jsonschema.ValidationError):
        validate_config({**made, "max_wokers": 4})


@pytest.mark.parametrize(("kind", "file"), [("rayjobs", "rayjob.yaml"), ("rayclusters", "raycluster.yaml")])
def test_kuberay_takes_the_manifests(kind: str, file: str) -> None:
    schema = crd(kind)
    found = list(yaml.safe_load_all((CLUSTER / "kubernetes" / file).read_text()))
    (resource,) = (one for one in found if one["apiVersion"] == "ray.io/v1")
    jsonschema.validate(resource, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**resource, "spec": {**resource["spec"], "bakoffLimit": 2}}, schema)


def test_the_ray_job_is_what_is_rendered() -> None:
    shipped = list(yaml.safe_load_all((CLUSTER / "kubernetes" / "rayjob.yaml").read_text()))
    made = manifests(load_spec(REPOSITORY / "jobs" / "digits.yaml"))
    for job in (shipped[2], made[2]):
        job["spec"]["rayClusterSpec"].pop("rayVersion")
    assert shipped == made


def test_the_queue_is_one_that_admits_ray_jobs() -> None:
    flavor, cluster_queue, queue = yaml.safe_load_all((CLUSTER / "kubernetes" / "kueue.yaml").read_text())
    assert queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    (group,) = cluster_queue["spec"]["resourceGroups"]
    assert [one["name"] for one in group["flavors"]] == [flavor["metadata"]["name"]]
    assert [one["name"] for one in group["flavors"][0]["resources"]] == group["coveredResources"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / script)], check=True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(CLUSTER / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed")
    file = str(CLUSTER / "docker" / "Dockerfile")
    done = subprocess.run(
        ["hadolint", "--failure-threshold", "info", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_image_has_what_the_build_needs_and_no_root() -> None:
    lines = (CLUSTER / "docker" / "Dockerfile").read_text().splitlines()
    ignored = (CLUSTER / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    for name in copied:
        assert (REPOSITORY / name).exists(), name
        assert f"!{name}" in ignored, f"{name} is left out of the build"
    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]


def test_slurm_runs_the_job_on_all_nodes_and_passes_the_signal_on(tmp_path: Path) -> None:
    """With Slurm's own commands played by scripts: srun runs its command here, and Ray's command the entry point."""
    told = tmp_path / "told"
    commands = {
        "scontrol": 'echo "node-a"; echo "node-b"',
        "srun": 'shift; exec "$@"',
        "ray": f'while [ "$1" != -- ]; do echo "$1" >>{told}; shift; done; shift; exec "$@"',
        "raymix": f"echo \"$@\" >>{told}; trap 'echo heard >>{told}; exit 143' TERM; while :; do sleep 0.02; done",
    }
    for name, body in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_CPUS_PER_TASK": "8",
    }
    batch = subprocess.Popen(
        ["bash", str(CLUSTER / "slurm" / "train.sbatch"), "job.yaml", "--set", "seed=3"], env=environment
    )
    try:
        while not (told.exists() and "raymix" not in told.read_text() and "job.yaml" in told.read_text()):
            assert batch.poll() is None
            time.sleep(0.02)
        batch.terminate()
        assert batch.wait(20) == 143
    finally:
        batch.kill()
    lines = told.read_text().splitlines()
    assert lines[:6] == ["symmetric-run", "--address", "node-a:24711", "--min-nodes", "2", "--num-cpus"]
    asked = "run job.yaml --set seed=3 --resume --set cluster.address=auto --set cluster.workers=8"
    assert lines[-2:] == [f"{asked} --set cluster.gpus_per_worker=1", "heard"]
    assert not list(tmp_path.glob(".ray-token*")), "the token is gone"


def test_the_dashboard_asks_for_what_is_exported_and_for_all_of_it() -> None:
    from raymix.on_ray.metrics import GAUGES, metric

    board = json.loads((CLUSTER / "grafana" / "raymix.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    names = [re.findall(r"\b[a-z]\w*_\w+\b", re.sub(r"\{.*?\}|label_values", "", query)) for query in asked]
    assert all(names)
    assert {name for found in names for name in found} == {metric(name) for name in GAUGES}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
