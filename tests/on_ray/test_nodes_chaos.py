"""Nodes that are lost under a run, and the whole cluster with its driver: the result stays the same, bit by bit."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.on_ray.commands import Command, started
from tests.on_ray.killing import (
    assert_each_step_once,
    final_of,
    killed_job,
    of_piece,
    percentile,
    rows_of,
    state_of,
    wait_until,
)
from tests.on_ray.machines import ENVIRONMENT, Machines, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

NUM_NODES = 3  # beside the head, a CPU each: at least two of the three workers are on them
EPOCHS_A_KILL = 4


@pytest.fixture(autouse=True)
def _cluster_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def steps_done(folder: Path) -> int:
    return int(rows_of(folder)[-1]["step"]) if rows_of(folder) else 0


def lose_a_node(cluster: Machines, command: Command, folder: Path, draw: random.Random) -> float:
    """Kills the raylet of a node that trains, and brings another; seconds until steps are done that were not."""
    time.sleep(draw.uniform(0, 3))
    node = draw.choice([node for node in cluster.nodes if node.workers()])
    done, at = steps_done(folder), time.monotonic()
    cluster.kill(node)
    cluster.add()
    assert wait_until(lambda: steps_done(folder) > done and regrouped(command, at), command.alive), command.err[-20:]
    return time.monotonic() - at


def regrouped(command: Command, at: float) -> bool:
    return any(when > at and "were started again" in line for when, line in command.heard)


@pytest.mark.parametrize("piece", range(5))
def test_lost_nodes_cost_no_more_than_time(
    piece: int, attached: None, unbroken: Callable[..., Path], rounds: Callable[[int, int], int], tmp_path: Path
) -> None:
    kills = of_piece(piece, 4, rounds(20, 1))
    whole = unbroken(schedule=schedule_for(kills))
    draw, folder, seconds = random.Random(piece), tmp_path / "killed" / "digits", list[float]()
    with machines(head_cpus=1, nodes=NUM_NODES) as cluster:
        sections = {"schedule": schedule_for(kills), "failures": {"max_restarts": 10 * kills}}
        sections["cluster"] = {"workers": 3, "address": cluster.address}
        asked = killed_job(tmp_path / "killed", **sections)
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(asked))
        with started("run", str(tmp_path / "job.yaml")) as command:
            for number in range(kills):
                before = steps_done(folder)
                assert wait_until(lambda: steps_done(folder) > before, command.alive), command.err[-20:]  # noqa: B023
                seconds.append(lose_a_node(cluster, command, folder, draw))
                print(f"node {number + 1} of {kills}: {seconds[-1]:.1f} s")
            assert command.end() == 0, command.err[-20:]
    groups = max(int(found) for line in command.err for found in re.findall(r"\(group (\d+)\)", line))
    print(
        f"seed {piece}: {kills} nodes lost, {groups} groups; to a useful step p50 {percentile(seconds, 0.5):.1f} s, "
        f"p95 {percentile(seconds, 0.95):.1f} s"
    )
    same(folder, whole)


@pytest.mark.parametrize("piece", range(4))
def test_a_lost_cluster_is_resumed_from_storage_alone(
    piece: int, attached: None, unbroken: Callable[..., Path], rounds: Callable[[int, int], int], tmp_path: Path
) -> None:
    """Driver, head and workers are killed at once, again and again; nothing of Ray's is there the next time."""
    losses = of_piece(piece, 3, rounds(10, 1))
    whole, draw, folder = unbroken(schedule=schedule_for(losses)), random.Random(piece), tmp_path / "killed" / "digits"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(killed_job(tmp_path / "killed", schedule=schedule_for(losses))))
    arguments = ["run", str(tmp_path / "job.yaml"), "--resume"]
    for number in range(losses):
        with started(*arguments) as command:
            before = checkpoints(folder)
            assert wait_until(lambda: checkpoints(folder) - before, command.alive), command.err[-20:]  # noqa: B023
            time.sleep(draw.uniform(0, 2))
            done, family = steps_done(folder), [command.process, *command.family]
            draw.shuffle(family)
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            command.end()
            assert command.left() == []
        kept = max(int(name.removeprefix("step-")) for name in checkpoints(folder))
        print(f"cluster {number + 1} of {losses}: lost at step {done}, of which {kept} are saved")
    with started(*arguments) as command:
        assert command.end() == 0, command.err[-20:]
        assert command.left() == []
    same(folder, whole)


def schedule_for(kills: int) -> dict[str, Any]:
    """Long enough for so many kills with a checkpoint between any two."""
    epochs = 10 + EPOCHS_A_KILL * kills
    return {"ssl_epochs": epochs, "sl_epochs": epochs, "mix_ratio": 0.4}


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoints/step-*")}


def same(folder: Path, unbroken: Path) -> None:
    assert_each_step_once(folder)
    assert state_of(folder) == state_of(unbroken)
    assert final_of(folder) == final_of(unbroken)
