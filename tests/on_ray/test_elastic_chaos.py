"""Nodes that are lost and come back under an elastic run: it goes on with fewer workers, grows, and loses nothing."""

from __future__ import annotations

import copy
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import raymix
from tests.conftest import JOB
from tests.on_ray.test_chaos import rows_of

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

SECONDS = 120.0
STORE = 100 * 2**20
NODE = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}


def job(storage: Path, workers: Any = None) -> dict[str, Any]:
    """One to three workers; long enough that nodes can come and go."""
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage),
        "schedule": {"ssl_epochs": 160, "sl_epochs": 160, "mix_ratio": 0.5},
        "checkpoint": {"every": "1s"},
        "evaluate": {"every": 0},
        "cluster": {"workers": workers or {"min": 1, "max": 3, "grow_every": "3s"}, "address": "auto"},
        "failures": {"max_restarts": 5},
    }


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that reads, and two nodes with room for a worker each, beside one on the head."""
    from ray.cluster_utils import Cluster

    from raymix.on_ray.cluster import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = tempfile.mkdtemp(prefix="rx")  # a short path: Ray's sockets lie below it
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 2, "temp_dir": folder})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    for _ in range(2):
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    yield cluster
    import ray

    ray.shutdown()
    cluster.shutdown()


def wait_until(there: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_it_shrinks_and_grows_with_its_nodes(
    nodes: Any, rounds: Callable[[int, int], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(rounds(5, 1)):
        folder = tmp_path / str(number) / "digits"
        failed: list[BaseException] = []

        def disturb(folder: Path = folder, failed: list[BaseException] = failed) -> None:
            """Kills a node once there are checkpoints; brings another when fewer workers have gone on."""
            try:
                wait_until(lambda: bool(list(folder.glob("checkpoints/step-*"))))
                done = len(rows_of(folder))
                victim = nodes.list_all_nodes()[-1]
                nodes.remove_node(victim, allow_graceful=False)
                wait_until(lambda: len(list(folder.glob("attempt-*.json"))) > 0 and len(rows_of(folder)) > done)
                nodes.add_node(**NODE)
            except BaseException as error:
                failed.append(error)

        other = threading.Thread(target=disturb)
        other.start()
        report = raymix.run(job(folder.parent))
        other.join()
        assert not failed
        said = capsys.readouterr().err
        print(said, [(g.workers, round(g.since), round(g.until)) for g in report.groups])
        assert report.status == "done"
