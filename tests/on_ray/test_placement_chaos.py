"""Where workers stand on a cluster of unlike nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.runner import run
from raymix.spec import JobError
from tests.conftest import spec_in
from tests.on_ray.commands import started
from tests.on_ray.killing import killed_job, wait_until
from tests.on_ray.machines import ENVIRONMENT, Machines, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

SCHEDULE = {"ssl_epochs": 1, "sl_epochs": 1}


def stand(cluster: Machines, tmp_path: Path, name: str, **asked: Any) -> list[int]:
    """How many workers stand on the head and on each node, once there are two."""
    job = killed_job(tmp_path, schedule=SCHEDULE, cluster={"workers": 2, **asked})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**job, "name": name}))
    everywhere, seen = [cluster.head, *cluster.nodes], list[list[int]]()

    def look() -> bool:
        seen.append([len(node.workers()) for node in everywhere])
        return sum(seen[-1]) == 2

    with started("run", str(tmp_path / "job.yaml")) as command:
        assert wait_until(look, command.alive), command.err[-20:]
        assert command.end() == 0, command.err[-20:]
    return seen[-1]


def test_workers_stand_where_the_job_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with machines(head_cpus=3, nodes=0) as cluster:
        for _ in range(2):
            cluster.add('--resources={"disk": 1}')
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        assert stand(cluster, tmp_path, "packed", address="auto") == [2, 0, 0]
        assert stand(cluster, tmp_path, "by-disk", address="auto", resources_per_worker={"disk": 1}) == [0, 1, 1]
        assert max(stand(cluster, tmp_path, "apart", address="auto", placement="strict_spread")) == 1
        for line, wrong in {
            "cluster.resources_per_worker.disk: 4 asked for in all, the cluster has 2": {
                "workers": 2,
                "resources_per_worker": {"disk": 2},
            },
            "cluster.placement: 4 workers on a node each, and the cluster has 3": {
                "workers": 4,
                "placement": "strict_spread",
            },
        }.items():
            with pytest.raises(JobError, match=line):
                run(spec_in(tmp_path, cluster={"address": "auto", **wrong}), quiet=True)
