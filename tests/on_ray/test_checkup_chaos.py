"""A cluster whose nodes do not share the job's storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raymix.doctor.patient import Patient
from raymix.on_ray.cluster import ENVIRONMENT
from raymix.runner import run
from raymix.spec import JobError
from tests.conftest import spec_in

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of two nodes without tokens; on the second one, `tmp_path / "runs"` is a folder of its own."""
    isolated = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs tmpfs {tmp_path}/runs && exec "$@"', "sh"]
    (tmp_path / "runs").mkdir()
    if os.geteuid() or subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    from ray.cluster_utils import Cluster

    for name, value in {**ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 2**20},
    )
    ray = Path(sys.executable).with_name("ray")
    store = ["--num-cpus=2", f"--object-store-memory={100 * 2**20}", "--block"]
    second = subprocess.Popen([*isolated, str(ray), "start", f"--address={cluster.address}", *store])
    yield cluster.address
    second.send_signal(signal.SIGTERM)
    second.wait(60)
    cluster.shutdown()


def test_storage_that_is_another_folder_on_a_node_is_a_problem_that_names_the_node(apart: str, tmp_path: Path) -> None:
    spec = spec_in(tmp_path, cluster={"workers": 3, "address": apart})
    until = time.monotonic() + 60
    while True:  # until the second node has come, there are not CPUs enough
        with closing(Patient(spec, is_job=True)) as patient:
            assert patient.ray is not None
            if (told := patient.ray.told("ray")) is not None and told.status == "ok":
                nodes, access = patient.ray.told("nodes"), patient.ray.told("access")
                break
        assert time.monotonic() < until, told
    assert nodes is not None
    assert nodes.status == "problem"
    assert f"storage {tmp_path}/runs is not the same folder on " in nodes.found
    assert access is not None
    assert (access.status, "without a token" in access.found) == ("problem", True)

    with pytest.raises(JobError, match=rf"storage: {tmp_path}/runs is not the same folder on \S+: "):
        run(spec, quiet=True)
    assert list((tmp_path / "runs").iterdir()) == []
