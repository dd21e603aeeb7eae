"""A cluster that others use as well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.on_ray.commands import started
from tests.on_ray.conftest import short_job
from tests.on_ray.killing import wait_until
from tests.on_ray.machines import ENVIRONMENT, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

# somebody's job, which has room and tells on a line from its input whether it still has
_OTHER = """
import sys
import ray
from ray.util.placement_group import placement_group, placement_group_table

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
group = placement_group([{"CPU": 1}])
assert group.wait(60)
print(placement_group_table(group)["state"], flush=True)
input()
print(placement_group_table(group)["state"], flush=True)
"""


def test_ctrl_c_while_workers_start_leaves_others_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with machines(head_cpus=6, nodes=0) as cluster:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, "-c", _OTHER, cluster.address], **pipes) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "CREATED\n"
            job = short_job(tmp_path)
            job["cluster"]["address"] = cluster.address
            (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
            with started("run", str(tmp_path / "job.yaml")) as command:
                assert wait_until(lambda: "starting workers" in "\n".join(command.err), command.alive), command.err
                command.interrupt()
                assert command.end() != 0
            assert other.communicate("\n", timeout=60)[0] == "CREATED\n"
