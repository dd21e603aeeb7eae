"""kill -9 in the middle of a run: of a worker, of the driver. What comes out is what the unbroken run brought."""

from __future__ import annotations

import copy
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

import raymix
from raymix.report.run import RunReport
from raymix.train.checkpoint import TENSORS
from tests.conftest import JOB
from tests.on_ray.commands import SECONDS, started

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


def job(storage: Path) -> dict[str, Any]:
    """Three workers, at which the buckets of a DDP that was wrapped anew would show in the last bits."""
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage),
        "schedule": {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.4},
        "checkpoint": {"every": "1s"},
        "evaluate": {"every": 0.1, "max_share": 1.0},
        "cluster": {"workers": 3},
    }


def tensors(folder: Path) -> str:
    """sha256 of the newest checkpoint's tensors: weights and moments of the optimizer."""
    newest = max((folder / "checkpoints").glob("step-*"))
    return hashlib.sha256((newest / TENSORS).read_bytes()).hexdigest()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def wait_for_checkpoint(folder: Path, steps: int) -> None:
    """Waits until a checkpoint is there, and some steps after it."""
    until = time.monotonic() + SECONDS
    while True:
        assert time.monotonic() < until
        saved = [int(path.name.removeprefix("step-")) for path in folder.glob("checkpoints/step-*")]
        rows = rows_of(folder)
        if saved and rows and max(saved) < rows[-1]["step"] and rows[-1]["step"] >= steps:
            return
        time.sleep(0.02)


def assert_each_step_once(folder: Path, num_steps: int) -> None:
    done = 0
    for row in rows_of(folder):
        done += row["images"] // 96
        assert row["step"] == done
    assert done == num_steps


@pytest.fixture(scope="module")
def unbroken(attached: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    storage = tmp_path_factory.mktemp("unbroken")
    assert raymix.run(job(storage), quiet=True).status == "done"
    return storage / "digits"


def report_of(folder: Path) -> RunReport:
    return RunReport.model_validate_json((folder / "report.json").read_bytes())


def plan_of(folder: Path) -> Any:
    plan = json.loads((folder / "plan.json").read_text())
    plan["spec"].pop("storage")
    return plan


def num_steps_of(folder: Path) -> int:
    return sum(phase["steps"] for phase in plan_of(folder)["phases"])


def assert_booked(report: RunReport) -> None:
    """What was done between the checkpoint and the kill is lost, and hardly a second of the whole is not booked."""
    found, whole = report.ledger, report.workers * report.totals.wall_seconds
    assert found is not None
    assert found.worker_seconds == pytest.approx(whole, rel=0.01)
    assert found.of("lost work") > 0
    assert abs(found.of("other")) < 0.01 * whole + report.workers * 0.5
    told = [(entry.account, round(entry.worker_seconds, 2)) for entry in found.entries]
    assert min(seconds for account, seconds in told if account not in ("trials", "other")) > 0, told


def test_a_killed_worker_costs_no_more_than_time(
    unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "digits"

    def kill() -> None:
        wait_for_checkpoint(folder, num_steps_of(unbroken) // 3)
        below = psutil.Process().children(recursive=True)
        workers = [process for process in below if process.cmdline()[:1] == ["ray::RayTrainWorker"]]
        workers[-1].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    report = raymix.run(job(tmp_path))
    killer.join()
    assert (report.status, report.attempts) == ("done", 2)
    assert "the workers were started again (group 2)" in capsys.readouterr().err
    assert_each_step_once(folder, num_steps_of(unbroken))
    assert plan_of(folder) == plan_of(unbroken)
    assert tensors(folder) == tensors(unbroken)
    assert report.final == report_of(unbroken).final
    assert_booked(report)


def test_a_killed_driver_is_resumed(unbroken: Path, tmp_path: Path) -> None:
    folder, file = tmp_path / "runs" / "digits", tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job(tmp_path / "runs")))
    with started("run", str(file)) as first:
        wait_for_checkpoint(folder, num_steps_of(unbroken) // 3)
        first.process.kill()
        first.end()
        # Ray ends by itself when its driver is gone, but for two small helpers that take a minute
        assert first.left(lingering=frozenset({"ray::DashboardAgent", "ray::RuntimeEnvAgent"})) == []
    assert not (folder / "report.json").exists()
    (spent,) = (json.loads(path.read_text()) for path in folder.glob("attempt-*.json"))
    assert spent["worker_seconds"] > 0
    with started("run", str(file), "--resume", "--json") as second:
        assert second.end() == 0
        report = RunReport.model_validate_json("\n".join(second.out))
    assert (report.status, report.attempts) == ("done", 2)
    attempts = [json.loads(path.read_text())["worker_seconds"] for path in sorted(folder.glob("attempt-*.json"))]
    assert attempts[0] == spent["worker_seconds"]
    assert report.totals.worker_seconds == pytest.approx(sum(attempts), rel=0.05)
    assert_booked(report)
    assert_each_step_once(folder, num_steps_of(unbroken))
    assert plan_of(folder) == plan_of(unbroken)
    assert tensors(folder) == tensors(unbroken)
