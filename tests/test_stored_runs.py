"""Run folders of earlier versions open in this one. Text alone is kept of them: one run of each version.

To keep one of a new version: train the job below, and copy what is listed in `KEPT`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from raymix.jobfile import load_spec
from raymix.plan import Plan
from raymix.report.folder import read_run
from raymix.report.history import History, Rates
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder
from raymix.spec import SPEC_VERSION, JobError
from raymix.watch.jsonl import JsonlSink
from tests.conftest import Raymix

STORED = Path(__file__).parent / "stored"
KEPT = ("job.yaml", "resolved.json", "plan.json", "metrics.jsonl", "report.json", "attempt-001.json")
VERSIONS = ["unversioned", *(f"version-{number}" for number in range(1, SPEC_VERSION + 1))]


@pytest.fixture(params=VERSIONS)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a stored run folder, below runs/."""
    folder = tmp_path / "runs" / "digits"
    shutil.copytree(STORED / request.param, folder)
    return folder


def test_one_of_each_version_is_kept_and_small() -> None:
    assert sorted(path.name for path in STORED.iterdir()) == sorted(VERSIONS)
    for folder in STORED.iterdir():
        assert set(KEPT) <= {path.name for path in folder.iterdir()}
        assert sum(path.stat().st_size for path in folder.iterdir()) < 30_000


def test_it_is_reported(run: Path, raymix: Raymix) -> None:
    done = raymix("report", run)
    assert done.code == 0
    assert "top-1" in done.out
    assert "<html" in (run / "report.html").read_text()
    assert json.loads(raymix("runs", "show", "digits", "--storage", run.parent, "--json").out)["name"] == "digits"
    assert [line["status"] for line in json.loads(raymix("runs", "ls", "--storage", run.parent, "--json").out)] == [
        "done"
    ]


def test_its_job_resumes_it_and_another_does_not(run: Path, raymix: Raymix) -> None:
    storage = f"storage={run.parent}"
    done = raymix("run", run / "job.yaml", "--set", storage, "--resume")
    assert done.code == 0, done.err
    assert "top-1" in done.out, "it is over, so it is shown again"
    other = raymix("run", run / "job.yaml", "--set", storage, "--set", "optim.lr=1", "--resume")
    assert (other.code, other.err.startswith("error: optim.lr: ")) == (2, True)


def test_its_plan_attempts_and_metrics_are_read(run: Path) -> None:
    folder = RunFolder(load_spec(run / "job.yaml", [f"storage={run.parent}"]), run, resume=True)
    facts = Plan.model_validate_json((run / "plan.json").read_bytes()).facts
    plan = folder.stored_plan(facts)
    assert plan is not None
    assert plan.num_steps == read_run(run).curve[-1].step
    assert [attempt.groups for attempt in folder.attempts()] == [1]
    JsonlSink(run / "metrics.jsonl").begin("digits", plan, History(rates=Rates(step_seconds={})))
    assert (run / "metrics.jsonl").read_text() == "", "all its rows are known as the run's, and cut"


def test_fields_that_a_stored_job_does_not_have_yet(run: Path) -> None:
    """Only what has no default is left in it, which is the most that a newer version can have added."""
    spec = load_spec(run / "job.yaml", [f"storage={run.parent}"])
    asked: dict[str, Any] = json.loads(spec.model_dump_json(exclude_unset=True, exclude={"spec_version"}))
    asked["data"]["store_size"] = 8
    (run / "resolved.json").write_text(json.dumps(asked))
    plan = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**plan, "spec": asked}))
    folder = RunFolder(spec, run, resume=True)
    assert folder.stored_plan(Plan.model_validate(plan).facts) is not None
    with pytest.raises(JobError, match=r"^optim\.ema: .* holds another job"):
        RunFolder(load_spec(run / "job.yaml", ["optim.ema=1%"]), run, resume=True)


def test_fields_that_a_stored_report_does_not_have_yet(run: Path) -> None:
    there = json.loads((run / "report.json").read_text())
    required = {name: there[name] for name, field in RunReport.model_fields.items() if field.is_required()}
    (run / "report.json").write_text(json.dumps(required))
    assert read_run(run).final is not None


def test_a_job_of_a_newer_raymix_is_refused(digits_job: dict[str, Any]) -> None:
    newer = {**digits_job, "spec_version": SPEC_VERSION + 1, "what_that_has": 1}
    with pytest.raises(JobError, match=r"^spec_version: \d+ is newer than this raymix knows, .*\(upgrade raymix: pip "):
        load_spec(newer)
    assert load_spec(digits_job).spec_version == SPEC_VERSION, "absent: the present one"


def test_every_job_that_is_written_says_its_version(run: Path, digits_job: dict[str, Any]) -> None:
    from raymix.jobfile import job_text

    assert job_text(load_spec(digits_job)).startswith(f"spec_version: {SPEC_VERSION}\n")
    assert load_spec(run / "job.yaml").spec_version <= SPEC_VERSION
