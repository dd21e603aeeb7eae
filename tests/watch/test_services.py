"""Services that a job names: refused where they cannot be told, and told of a run by figures and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymix.jobfile import load_spec
from raymix.plan import Plan
from raymix.spec import JobError, JobSpec
from raymix.watch import services
from raymix.watch.service import params
from raymix.watch.wandb import WandbService
from tests.conftest import Raymix
from tests.watch.telling import history, reports_of, wandb_records


def refused(spec: JobSpec) -> str:
    with pytest.raises(JobError) as error:
        services.check_services(spec.watch)
    return str(error.value)


@pytest.mark.parametrize(
    ("watch", "line"),
    [
        ({"mlflow": {"uri": "mlruns"}}, "watch.mlflow.uri: is no address; as in http://localhost:5000"),
        ({"mlflow": {"uri": "http://u:planted@host"}}, "watch.mlflow.uri: holds a secret"),
        ({"wandb": {"project": "a/b"}}, "watch.wandb.project: "),
        ({"wandb": {"key": "1"}}, "watch.wandb.key: unknown"),
    ],
)
def test_what_no_job_may_say(digits_job: dict[str, Any], watch: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as error:
        load_spec({**digits_job, "watch": watch})
    assert str(error.value).startswith(line)
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(("field", "package"), [("mlflow", "mlflow-skinny"), ("wandb", "wandb")])
def test_a_missing_package_ends_it_before_anything_starts(
    raymix: Raymix,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    digits_job: dict[str, Any],
    field: str,
    package: str,
) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(services, "version", none)
    section = {"uri": "http://127.0.0.1:9"} if field == "mlflow" else {}
    job = {**digits_job, "storage": str(tmp_path / "runs"), "watch": {field: section}}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    done = raymix("run", tmp_path / "job.yaml")
    assert done.code == 2
    assert done.err.splitlines() == [
        f"error: watch.{field}: {package} is not installed (pip install 'raymix[{field}]')"
    ]
    assert not (tmp_path / "runs").exists()


def test_what_only_the_environment_says(
    spec_of: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(services, "version", lambda name: "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    mlflow, online = spec_of(watch={"mlflow": {}}), spec_of(watch={"wandb": {"mode": "online"}})
    assert refused(mlflow).startswith("watch.mlflow.uri: missing")
    assert refused(online).startswith("watch.wandb.mode: online needs a key")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    services.check_services(mlflow.watch)
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password 0123456789\n")
    (tmp_path / ".netrc").chmod(0o600)
    services.check_services(online.watch)


def test_parameters_are_the_resolved_job(spec_of: Callable[..., JobSpec]) -> None:
    found = params(spec_of(schedule={"ssl_epochs": 3, "sl_epochs": 1}, optim={"lr": 0.25, "batch": 24}))
    told = {name: found[name] for name in ("schedule.ssl_epochs", "optim.lr", "data.train.format", "budget")}
    assert told == {"schedule.ssl_epochs": "3.0", "optim.lr": "0.25", "data.train.format": "digits", "budget": "null"}


def test_wandb_offline_leaves_a_run_to_be_synced(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install wandb")
    plan = plan_of(watch={"wandb": {"project": "parts"}})
    reports, notes = reports_of(plan), list[str]()
    for before, now in ((), reports[:2]), (reports[:2], reports[2:]):
        (sink,) = services.service_sinks(plan.spec.watch, tmp_path, plan, notes.append)
        sink.begin(tmp_path.name, plan, history(*before))
        for report in now:
            sink.segment(tmp_path.name, report)
        sink.close()
    records = wandb_records(tmp_path)
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {(run.run_id, run.project) for run in runs} == {
        (json.loads((tmp_path / "wandb.json").read_text())["id"], "parts")
    }
    config = {item.key: json.loads(item.value_json) for run in runs for item in run.config.update}
    assert params(plan.spec).items() <= config.items()
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [row["step"] for row in rows] == [r.segment.start + r.segment.steps for r in reports], "each step once"
    assert [row.get("loss/ssl") for row in rows] == [report.ssl_loss for report in reports]
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [130, 130]
    assert notes == []


def test_wandb_is_left_without_what_is_not_ours(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    """Its processes end, unless a session was there before, as a notebook may have one."""
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    plan = plan_of(watch={"wandb": {"project": "parts"}})
    assert plan.spec.watch.wandb is not None

    def running() -> list[psutil.Process]:
        children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
        return [child for child in children if child.name().startswith("wandb")]

    def tear_down() -> None:
        wandb.teardown()
        psutil.wait_procs(running(), timeout=20)

    tear_down()
    for own in (True, False):
        session = wandb.init(project="own", mode="offline", dir=tmp_path) if own else None
        service = WandbService(plan.spec.watch.wandb, tmp_path / f"run-{own}", params(plan.spec))
        (tmp_path / f"run-{own}").mkdir()
        service.open()
        assert running()
        service.leave()
        assert bool(running()) == own
        if session is not None:
            session.log({"loss": 1.0})
            session.finish()
            tear_down()
