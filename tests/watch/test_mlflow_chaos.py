"""MLflow, the store itself and a real server that goes away in the midst of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.plan import Plan
from raymix.watch import services
from raymix.watch.service import params
from tests.watch.telling import history, reports_of

pytestmark = pytest.mark.chaos
pytest.importorskip("mlflow", reason="pip install mlflow-skinny")


class Server:
    """`mlflow server` on SQLite and a loopback port; may be ended and started again on what it has kept."""

    def __init__(self, command: str, folder: Path) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self._folder = f"http://127.0.0.1:{self.port}", folder
        self._command = [command, "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        self._command += ["--artifacts-destination", str(folder / "artifacts")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self._folder / "server.log").read_text())

    def end(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server by the command in $MLFLOW_SERVER, perhaps of another environment, or by the one installed here."""
    command = os.environ.get("MLFLOW_SERVER") or (shutil.which("mlflow") if shutil.which("gunicorn") else None)
    if command is None:
        pytest.skip("no MLflow server here: pip install mlflow, or MLFLOW_SERVER=its command in another environment")
    one = Server(command, tmp_path_factory.mktemp("mlflow"))
    one.start()
    yield one
    one.end()


def start(folder: Path, job: dict[str, Any], uri: str, *arguments: str) -> subprocess.Popen[str]:
    watched = {**job, "storage": str(folder / "runs"), "watch": {"mlflow": {"uri": uri, "experiment": "parts"}}}
    (folder / "job.yaml").write_text(yaml.safe_dump(watched))
    command = [sys.executable, "-m", "raymix", "run", str(folder / "job.yaml"), *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def of_server(uri: str, folder: Path) -> tuple[Any, Any]:
    """The client, and the run there that the folder names."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return client, client.get_run(json.loads((folder / "mlflow.json").read_text())["id"])


def losses(client: Any, run: Any) -> dict[int, float]:
    return {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss/ssl")}


def rows(folder: Path) -> dict[int, float]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["ssl_loss"] for row in found if row["event"] == "segment" and row["ssl_loss"] is not None}


def sent(folder: Path) -> int:
    """The step up to which the server has heard of the run."""
    file = folder / "mlflow.json"
    return json.loads(file.read_text())["sent"] if file.is_file() else 0


def wait_until(process: subprocess.Popen[str], so: Callable[[], bool]) -> None:
    while process.poll() is None:
        if so():
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[1])


def test_a_run_that_is_interrupted_goes_on_there(server: Server, tmp_path: Path, digits_job: dict[str, Any]) -> None:
    digits_job["schedule"] = {"ssl_epochs": 40, "sl_epochs": 2, "mix_ratio": 0.5}
    folder = tmp_path / "runs" / "digits"
    process = start(tmp_path, digits_job, server.uri)
    wait_until(process, lambda: sent(folder) > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    client, run = of_server(server.uri, folder)
    assert run.info.status == "KILLED"
    assert losses(client, run) == rows(folder)
    first = run.info.run_id

    assert start(tmp_path, digits_job, server.uri, "--resume").wait(200) == 0
    client, run = of_server(server.uri, folder)
    assert (run.info.run_id, run.info.status) == (first, "FINISHED")
    assert losses(client, run) == rows(folder)
    assert run.data.params["schedule.ssl_epochs"] == "40.0"
    top1 = json.loads((folder / "report.json").read_text())["final"]["top1"]
    assert run.data.metrics["top1/val"] == top1
    assert {file.path for file in client.list_artifacts(first)} >= {"report.html", "report.json", "job.yaml"}
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.parametrize("back", [True, False])
def test_a_server_that_goes_away_stops_nothing(
    server: Server, tmp_path: Path, digits_job: dict[str, Any], back: bool
) -> None:
    digits_job["schedule"] = {"ssl_epochs": 150, "sl_epochs": 2, "mix_ratio": 0.5}
    folder = tmp_path / "runs" / "digits"
    process = start(tmp_path, digits_job, server.uri)
    wait_until(process, lambda: sent(folder) > 0)
    before = len(rows(folder))
    server.end()
    wait_until(process, lambda: len(rows(folder)) > before + 1)  # training goes on
    if back:
        server.start()
    _, told = process.communicate(timeout=200)
    if not back:
        server.start()
    assert process.returncode == 0, told
    notes = [line for line in told.splitlines() if line.startswith("MLflow")]
    assert len([line for line in notes if "cannot be told" in line]) == 1
    assert len(notes) == (1 if back else 2), told
    client, run = of_server(server.uri, folder)
    assert run.info.status == ("FINISHED" if back else "RUNNING")
    if back:
        assert losses(client, run) == rows(folder)


def test_mlflow_hears_of_a_run_and_its_resumption(
    plan_of: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against MLflow's own SQLite store, in this process."""
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)  # where that store puts files
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    plan = plan_of(
        watch={"mlflow": {"uri": uri, "experiment": "parts"}}, cluster={"workers": 0, "price_per_worker_hour": 36}
    )
    reports, notes = reports_of(plan), list[str]()
    folder = tmp_path / "first"
    folder.mkdir()
    (sink,) = services.service_sinks(plan.spec.watch, folder, plan, notes.append)
    sink.begin("first", plan, history())
    sink.segment("first", reports[0])
    sink.close()  # broken off
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("parts").experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.params == params(plan.spec)

    (folder / "report.json").write_text("{}")
    (sink,) = services.service_sinks(plan.spec.watch, folder, plan, notes.append)
    sink.begin("first", plan, history(*reports[:2]))  # the second was trained after the driver had been killed
    for report in reports[2:]:
        sink.segment("first", report)
    sink.close()
    (run,) = client.search_runs([run.info.experiment_id])
    known = {r.segment.start + r.segment.steps: r.ssl_loss for r in reports if r.ssl_loss is not None}
    losses = client.get_metric_history(run.info.run_id, "loss/ssl")
    assert [(metric.step, metric.value) for metric in losses] == list(known.items()), "each step once"
    spent = {
        kind: 2.0 * sum(plan.phases[r.segment.phase].kind == kind for r in reports) for kind in ("ssl", "mix", "sl")
    }
    assert {kind: run.data.metrics[f"seconds/{kind}"] for kind in spent} == spent
    assert {kind: run.data.metrics[f"cost/{kind}"] for kind in spent} == pytest.approx(
        {k: s * 36 / 3600 for k, s in spent.items()}
    )
    assert notes == []
