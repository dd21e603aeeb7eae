"""What the doctor says of a Ray that is there, that is not, and of one that would be started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raymix.doctor.patient import Patient
from raymix.on_ray import checkup
from raymix.on_ray.checkup import Seen
from tests.conftest import REPOSITORY, spec_in

OWN_STORE = """
import json, sys
from raymix.on_ray.checkup import own_store
from raymix.spec import Cluster
print(json.dumps(own_store(Cluster(object_store=int(sys.argv[1])))))
"""


def patient_at(address: str, folder: Path) -> Iterator[Patient]:
    with closing(Patient(spec_in(folder, cluster={"workers": 2, "address": address}), is_job=True)) as patient:
        yield patient


@pytest.mark.ray
@pytest.mark.usefixtures("attached")
def test_a_cluster_that_is_there_is_looked_at_on_every_node(tmp_path: Path) -> None:
    import ray

    for patient in patient_at(ray.get_runtime_context().gcs_address, tmp_path):
        assert patient.ray is not None
        told = {name: patient.ray.told(name) for name in ("ray", "access", "nodes", "object store")}
        assert {name: one.status for name, one in told.items() if one} == dict.fromkeys(told, "ok"), told
        assert "1 node, 6 CPUs, 0 GPUs" in told["ray"].found
        assert told["nodes"].found == f"1 node read and write {tmp_path / 'runs'}, clocks alike"
        assert told["access"].found.endswith("and asks for a token")
    assert list(tmp_path.iterdir()) == []
    open_to_all = checkup._access(False, {"node": Seen("host", time.time(), 10**9, False, "")})
    assert open_to_all.status == "problem"
    assert "without a token: whoever reaches it runs code on it" in open_to_all.found


def test_an_address_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    for patient in patient_at("127.0.0.1:1", tmp_path):
        assert patient.ray is not None
        told = patient.ray.told("ray")
        assert told is not None
        assert told.status == "problem"
        assert told.found.startswith("cluster.address: no Ray cluster answers at 127.0.0.1:1: Connection refused")
        assert patient.ray.told("nodes") is None


@pytest.mark.parametrize(
    ("store", "status", "found"),
    [(10**7, "ok", ""), (10**9, "note", "Ray takes files below /tmp"), (11 * 10**9, "problem", "Ray refuses to start")],
)
def test_shared_memory_that_is_too_small_for_the_object_store_is_told(store: int, status: str, found: str) -> None:
    small = 'mount -t tmpfs -o size=100m tmpfs /dev/shm && exec "$@"'
    isolated = ["unshare", "-m", "sh", "-c", small, "sh"]
    if os.geteuid() or subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    command = [*isolated, sys.executable, "-c", OWN_STORE, str(store)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told[0], found in told[1]) == (status, True)
    assert (told[2] == "") == (status == "ok")
