"""Searches on Ray Tune: what they leave, how they go on, and what of them Ray gives back."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.jobfile import load_spec
from raymix.report.search import SearchReport
from raymix.search.points import POINTS
from tests.conftest import JOB, Raymix
from tests.on_ray import objectives

pytestmark = pytest.mark.ray


def search(asked: dict[str, Any], objective: Any = objectives.cheap, **flags: Any) -> SearchReport:
    from raymix.tuning import tune

    return tune(load_spec(asked), objective, quiet=True, **flags)


@pytest.fixture
def command(raymix: Raymix) -> Raymix:
    """The `raymix` command, in a module that has the package under that name."""
    return raymix


def finished(storage: Path) -> list[int]:
    """The points that came to their end, in order, as the objective itself wrote them down."""
    return [int(line) for line in (storage / "digits" / objectives.FINISHED).read_text().splitlines()]


@pytest.mark.parametrize("name", sorted(POINTS))
def test_every_search_runs_every_trial_once(name: str, attached: None, tmp_path: Path) -> None:
    grid = {"optim.lr": {"grid": [0.001, 0.01, 0.1]}, "schedule.mix_ratio": {"choice": [0, 0.4]}}
    fields = {"search": name, **({"space": grid, "trials": None} if name == "grid" else {})}
    report = search(objectives.job(tmp_path, **fields))
    assert (report.status, report.ended, report.tried) == ("done", "complete", 6)
    assert sorted(finished(tmp_path)) == [trial.number for trial in report.trials] == list(range(6))
    assert report.best is not None
    assert report.best.select_top1 == max(trial.select_top1 or 0 for trial in report.trials)
    assert report.best in report.front

    best = load_spec(tmp_path / "digits" / "best.yaml")
    asked = [best.optim.lr, getattr(best.schedule, "mix_ratio", None)]
    assert asked == list(report.best.values.values())
    assert (best.name, best.seed, best.tune) == ("digits-best", 1, None)
    assert SearchReport.model_validate_json((tmp_path / "digits" / "search.json").read_bytes()) == report
    page = (tmp_path / "digits" / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "val was not read" in page

    if name == "random":  # more trials later; Ray is not even asked where there is nothing to do
        again = search(objectives.job(tmp_path, **fields), objectives.hopeless, resume=True)
        assert again.trials == report.trials
        more = search(objectives.job(tmp_path, **{**fields, "trials": 8}), resume=True)
        assert more.trials[:6] == report.trials
        assert sorted(finished(tmp_path)) == list(range(8))
        with pytest.raises(raymix.JobError, match=r"^tune\.seed: .* holds another search"):
            search(objectives.job(tmp_path, **fields, seed=3), resume=True)
        with pytest.raises(raymix.JobError, match=r"^name: .* is already used"):
            search(objectives.job(tmp_path, **fields))


def test_asha_a_budget_and_failures(attached: None, tmp_path: Path) -> None:
    budget = {"worker_hours": 20 / 3600}
    asked = objectives.job(tmp_path, trials=12, asha={"rungs": [0.3, 0.6]}, budget=budget)
    report = search(asked, objectives.broken)
    by_status = {status: [t.number for t in report.trials if t.status == status] for status in ("failed", "stopped")}
    assert by_status["failed"]
    assert all(number % 2 for number in by_status["failed"])
    errors = [trial.error for trial in report.trials if trial.status == "failed"]
    assert errors[0].startswith(f"ZeroDivisionError: point {by_status['failed'][0]} (see ")
    done = [trial for trial in report.trials if trial.status == "done"]
    ended_early = [trial for trial in report.trials if trial.status == "stopped"]
    assert min(t.select_top1 or 0 for t in done) >= min((t.select_top1 or 0 for t in ended_early), default=0)
    assert set(finished(tmp_path)) == {trial.number for trial in done}
    assert (report.ended == "budget") == (len(done) >= 5)


def test_trials_train_and_never_see_val(attached: None, tmp_path: Path, command: Raymix) -> None:
    job = {**copy.deepcopy(JOB), "storage": str(tmp_path)}
    job["tune"] = {
        "trials": 1,
        "space": {"optim.lr": {"choice": [2e-3, 3e-3]}, "schedule.mix_ratio": {"uniform": [0, 1]}},
        "arms": ["sl", "mix"],
        "concurrent": 1,  # one process, which imports torch once
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = command("tune", tmp_path / "job.json", "--json")
    assert done.code == 0, done.err
    found = SearchReport.model_validate_json(done.out)
    assert [(trial.arm, list(trial.values)) for trial in found.trials] == [
        ("sl", ["optim.lr"]),  # a mix ratio is nothing to it
        ("mix", ["optim.lr", "schedule.mix_ratio"]),
    ]
    for trial in found.trials:
        run = json.loads((tmp_path / "digits" / "trials" / trial.name / "report.json").read_text())
        assert (run["rows"]["val"], run["final"]) == (0, None)
        assert run["rows"]["select"] == trial.num_select == found.num_select > 0
        steps = sum(phase["steps"] for phase in run["phases"])
        assert run["curve"][-1]["step"] == steps
        assert run["curve"][-1]["select_top1"] == trial.select_top1, "of the last step"
        assert 0 < trial.worker_seconds < trial.billed_worker_seconds
        assert trial.planned
    for name in ("best", "best-sl", "best-mix"):
        assert command("validate", tmp_path / "digits" / f"{name}.yaml").code == 0
    assert "select" in command("report", tmp_path / "digits").out


@pytest.mark.chaos
def test_a_trial_with_workers_of_its_own_gives_them_back(attached: None, tmp_path: Path) -> None:
    import ray

    job = {**copy.deepcopy(JOB), "storage": str(tmp_path), "cluster": {"workers": 1}}
    job["tune"] = {"trials": 2, "space": {"optim.lr": {"choice": [2e-3, 3e-3]}}, "concurrent": 1}
    report = raymix.tune(job, quiet=True)
    assert [trial.status for trial in report.trials] == ["done", "done"]
    assert ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"]
