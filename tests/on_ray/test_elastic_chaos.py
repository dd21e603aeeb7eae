"""Nodes that are lost and come back under an elastic run: it goes on with fewer workers, grows, and loses nothing."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from raymix.report.run import RunReport
from tests.on_ray.commands import Command, started
from tests.on_ray.killing import assert_each_step_once, final_of, killed_job, percentile, rows_of, wait_until
from tests.on_ray.machines import ENVIRONMENT, Machines, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

NUM_NODES = 3  # beside the head, a CPU each: three workers and a CPU to read
EPOCHS_A_LOSS = 40
NOISE = 5.0  # points of top-1 that 449 val digits leave between runs that are alike


@pytest.fixture(autouse=True)
def _cluster_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def sizes(command: Command) -> list[int]:
    """Workers of each group after the first."""
    told = (re.search(r"started again \(group \d+: (\d+) of them\)", line) for line in command.err)
    return [int(found[1]) for found in told if found]


def goes_on(command: Command, folder: Path, groups: int) -> float:
    """Waits until another group has done a step that was not done; seconds."""
    done, at = len(rows_of(folder)), time.monotonic()
    assert wait_until(lambda: len(sizes(command)) >= groups, command.alive), command.err[-20:]
    assert wait_until(lambda: len(rows_of(folder)) > done, command.alive), command.err[-20:]
    return time.monotonic() - at


def test_it_shrinks_and_grows_with_its_nodes(
    unbroken: Callable[..., Path], rounds: Callable[[int, int], int], tmp_path: Path
) -> None:
    losses = rounds(5, 1)
    epochs = 20 + EPOCHS_A_LOSS * losses
    schedule = {"ssl_epochs": epochs, "sl_epochs": epochs, "mix_ratio": 0.4}
    # one process computes the same but for rounding
    whole, folder, draw = unbroken(schedule=schedule, cluster={"workers": 0}), tmp_path / "digits", random.Random(0)
    shrunk, grown = list[float](), list[float]()
    with machines(head_cpus=1, nodes=NUM_NODES) as cluster:
        asked = {"workers": {"min": 1, "max": 3, "grow_every": "2s"}, "address": cluster.address}
        job = killed_job(tmp_path, schedule=schedule, cluster=asked, failures={"max_restarts": 10 * losses})
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        with started("run", str(tmp_path / "job.yaml")) as command:
            assert wait_until(lambda: bool(rows_of(folder)), command.alive), command.err[-20:]
            for number in range(losses):
                before = len(sizes(command))
                lose_a_node(cluster, draw)
                shrunk.append(goes_on(command, folder, before + 1))
                assert sizes(command)[-1] == 2
                cluster.add()
                grown.append(goes_on(command, folder, before + 2))
                assert sizes(command)[-1] == 3
                print(f"node {number + 1} of {losses}: {shrunk[-1]:.1f} s, another: {grown[-1]:.1f} s")
            assert command.end() == 0, command.err[-20:]
    print(f"to a useful step after a loss p50 {percentile(shrunk, 0.5):.1f} s, p95 {percentile(shrunk, 0.95):.1f} s")
    assert_each_step_once(folder)
    assert final_of(folder)["top1"] == pytest.approx(final_of(whole)["top1"], abs=NOISE)
    assert_told(RunReport.model_validate_json((folder / "report.json").read_bytes()), losses)


def lose_a_node(cluster: Machines, draw: random.Random) -> None:
    time.sleep(draw.uniform(0, 2))
    cluster.kill(draw.choice([node for node in cluster.nodes if node.workers()]))


def assert_told(report: RunReport, losses: int) -> None:
    """The report names the groups, and its books hold every second of each, of those that there were."""
    assert [group.workers for group in report.groups] == [3, *[2, 3] * losses]
    ends = [group.until for group in report.groups]
    assert all(group.since < group.until for group in report.groups)
    assert all(end <= later.since + 0.01 for end, later in zip(ends, report.groups[1:], strict=False))
    held = sum(group.workers * (group.until - group.since) for group in report.groups)
    assert report.totals.worker_seconds == pytest.approx(held, rel=0.01)
    assert report.totals.worker_seconds < 3 * report.totals.wall_seconds
    found = report.ledger
    assert found is not None
    assert found.worker_seconds - found.of("before workers") == pytest.approx(held, rel=0.02)
    assert abs(found.of("other")) < 0.02 * held


def test_it_waits_for_nodes_and_says_so(tmp_path: Path) -> None:
    """With fewer workers than its least it neither trains nor fails, until there are enough or its patience is over."""
    with machines(head_cpus=1, nodes=2) as cluster:
        asked = {"workers": {"min": 2, "max": 2}, "address": cluster.address}
        schedule = {"ssl_epochs": 12, "sl_epochs": 12}
        failures = {"wait_for_workers": "5s", "max_restarts": 10}
        job = killed_job(tmp_path, schedule=schedule, cluster=asked, failures=failures)
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
        folder = tmp_path / "digits"
        with started("run", str(tmp_path / "job.yaml")) as command:
            assert wait_until(lambda: bool(rows_of(folder)), command.alive), command.err[-20:]
            cluster.kill(cluster.nodes[-1])
            assert command.end() == 3
        waited = "waiting for room for 2 workers, 5.0 s at the most"
        assert any(waited in line for line in command.err), command.err[-20:]
        assert "no room for 2 workers for" in command.err[-1]
        cluster.add()
        with started("run", str(tmp_path / "job.yaml"), "--resume") as command:
            assert command.end() == 0
    assert_each_step_once(folder)
    assert json.loads((folder / "report.json").read_text())["status"] == "done"
