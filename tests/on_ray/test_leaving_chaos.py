"""A node whose end is announced, as that of a spot machine is: what was done by then is saved and goes on."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.on_ray.commands import Command, started
from tests.on_ray.killing import (
    assert_each_step_once,
    final_of,
    killed_job,
    rows_of,
    state_of,
    wait_until,
)
from tests.on_ray.machines import ENVIRONMENT, RAY, Machine, Machines, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

NOTICE = 12  # seconds
SCHEDULE = {"ssl_epochs": 80, "sl_epochs": 80, "mix_ratio": 0.4}
# only what is saved because of the notice is there to go on from
SECTIONS: dict[str, Any] = {"schedule": SCHEDULE, "checkpoint": {"every": "1h"}}


@pytest.fixture(autouse=True)
def _cluster_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def announce(cluster: Machines, node: Machine) -> None:
    """What an autoscaler does when a spot machine is given notice."""
    raylet = next(process for process in node.family() if process.name() == "raylet")
    (name,) = (part.partition("=")[2] for part in raylet.cmdline() if part.startswith("--node_id="))
    subprocess.run(
        [str(RAY), "drain-node", f"--address={cluster.address}", f"--node-id={name}",
         "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot", f"--deadline-remaining-seconds={NOTICE}"],
        env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True,
    )  # fmt: skip


def step_of(folder: Path) -> int:
    return int(rows_of(folder)[-1]["step"]) if rows_of(folder) else 0


def lose_with_notice(cluster: Machines, command: Command, folder: Path) -> tuple[int, int]:
    """A node that trains is announced to go, and goes; steps that were done then, and the step that was saved."""
    assert wait_until(lambda: step_of(folder) > 0, command.alive), command.err[-20:]
    assert not list(folder.glob("checkpoints/step-*")), "nothing is due yet"
    node = next(node for node in cluster.nodes if node.workers())
    announce(cluster, node)
    gone = time.monotonic() + NOTICE
    assert wait_until(lambda: time.monotonic() > gone, command.alive), command.err[-20:]
    cluster.kill(node)
    done = step_of(folder)
    assert wait_until(lambda: any("started again" in line for line in command.err), command.alive), "\n".join(
        command.err
    )
    return done, max(int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*"))


@pytest.mark.parametrize("workers", [3, {"min": 1, "max": 3}], ids=["fixed", "elastic"])
def test_what_was_done_until_an_announced_loss_is_saved(
    workers: Any, attached: None, unbroken: Callable[..., Path], tmp_path: Path
) -> None:
    whole, folder = unbroken(**SECTIONS), tmp_path / "killed" / "digits"
    with machines(head_cpus=1, nodes=3) as cluster:
        asked = {"workers": workers, "address": cluster.address}
        job = killed_job(tmp_path / "killed", **SECTIONS, cluster=asked, failures={"max_restarts": 0})
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        with started("run", str(tmp_path / "job.yaml")) as command:
            done, saved = lose_with_notice(cluster, command, folder)
            if workers == 3:
                cluster.add()
            assert command.end() == 0, command.err[-20:]
    told = "\n".join(command.err)
    assert re.search(r"the node of worker \d will be taken away in \d+\.\d s: until then every segment is saved", told)
    assert "a node is taken away" in told
    longest = max(row["images"] for row in rows_of(folder)) // 96
    print(f"{done} steps done, {saved} saved, segments of up to {longest} steps")
    assert done - saved <= 2 * longest, "a segment that was under way, and one that was being written"
    assert_each_step_once(folder)
    if workers == 3:
        assert state_of(folder) == state_of(whole)
        assert final_of(folder) == final_of(whole)
