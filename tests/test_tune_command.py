"""`raymix tune` where it starts nothing: jobs that cannot be searched, and what earlier searches left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raymix.jobfile import load_spec
from raymix.report.folder import write_text
from raymix.search.earlier import earlier_trials, same_search
from raymix.search.journal import Journal
from raymix.search.trial import Trial
from raymix.spec import JobError
from tests.conftest import Raymix

TUNE: dict[str, Any] = {"trials": 2, "space": {"schedule.mix_ratio": {"uniform": [0, 1]}}}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "error: tune: missing: it says what is searched"),
        ({"tune": {**TUNE, "search": "pbt"}}, "error: tune.search: pbt is left out"),
        ({"tune": {"space": {"a.b": {"uniform": [0, 1]}}}}, "error: tune.space.a.b: unknown key"),
        (
            {"tune": TUNE, "data.select": 0},
            "error: data.select: a search chooses on select rows, and the job keeps none",
        ),
        ({"tune": TUNE, "optim.batch": "auto"}, "error: optim.batch: auto would be another batch in each trial"),
        ({"tune": {**TUNE, "arms": ["mix"]}, "budget": {"wall": 60}}, "error: budget: would end runs"),
        ({"tune": TUNE, "optim.batch": 5000}, "error: optim.batch: 5000 is larger than"),
    ],
)
def test_a_job_that_cannot_be_searched_starts_nothing(
    fields: dict[str, Any], line: str, digits_job: dict[str, Any], tmp_path: Path, raymix: Raymix
) -> None:
    for path, value in fields.items():
        section, _, last = path.rpartition(".")
        (digits_job[section] if section else digits_job)[last] = value
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps({**digits_job, "storage": str(tmp_path / "runs")}))
    done = raymix("tune", job)
    assert done.code == 2
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def a_search(storage: Path, name: str, job: dict[str, Any], tune: dict[str, Any], top1: float) -> Path:
    """The folder of a search that has one finished trial and one under way."""
    folder = storage / name
    folder.mkdir(parents=True)
    spec = load_spec({**job, "name": name, "storage": str(storage), "tune": tune})
    write_text(folder / "resolved.json", spec.model_dump_json())
    done = Trial(number=0, values={"schedule.mix_ratio": 0.5}, status="done", select_top1=top1)
    for trial in (done, Trial(number=1, values={"schedule.mix_ratio": 0.6})):
        Journal(folder).write(trial, 1.0)
    return folder


def test_a_warm_start_takes_finished_trials_of_the_same_search(digits_job: dict[str, Any], tmp_path: Path) -> None:
    a_search(tmp_path, "one", digits_job, TUNE, 80)
    a_search(tmp_path, "two", digits_job, {**TUNE, "trials": 9, "search": "optuna", "seed": 5}, 81)
    a_search(tmp_path, "wider", digits_job, {"space": {"schedule.mix_ratio": {"uniform": [0, 0.5]}}}, 82)
    a_search(tmp_path, "other", {**digits_job, "optim": {"batch": 48}}, TUNE, 83)
    (tmp_path / "no-search").mkdir()
    mine = load_spec({**digits_job, "name": "mine", "storage": str(tmp_path), "tune": {**TUNE, "warm_start": True}})
    found = earlier_trials(tmp_path, mine)
    assert [(trial.source, trial.number, trial.select_top1) for trial in found] == [("one", 0, 80), ("two", 0, 81)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"space": {"schedule.mix_ratio": {"uniform": [0, 0.5]}}}, "tune.space"),
        ({"seed": 1}, "tune.seed"),
        ({"search": "optuna"}, "tune.search"),
        ({"asha": {}}, "tune.asha"),
    ],
)
def test_only_the_same_search_is_resumed(
    change: dict[str, Any], field: str, digits_job: dict[str, Any], tmp_path: Path
) -> None:
    folder = a_search(tmp_path, "one", digits_job, TUNE, 80)

    def asked(**more: Any) -> Any:
        return load_spec({**digits_job, "tune": {**TUNE, **more}}).tune

    same_search(folder, asked(trials=50, budget={"wall": 60}, concurrent=3), str(folder))
    with pytest.raises(JobError, match=r"holds another search: it differs here") as error:
        same_search(folder, asked(**change), str(folder))
    assert error.value.field == field


def test_a_search_whose_trials_all_failed_has_failed(
    digits_job: dict[str, Any], tmp_path: Path, raymix: Raymix
) -> None:
    folder = a_search(tmp_path, "one", digits_job, TUNE, 80)
    for number in (0, 1):
        failed = Trial(number=number, values={"schedule.mix_ratio": 0.5}, status="failed", error=f"loss {number}")
        Journal(folder).write(failed, 2.0)
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps({**digits_job, "name": "one", "storage": str(tmp_path), "tune": TUNE}))
    (folder / "job.yaml").write_text(job.read_text())
    done = raymix("tune", job, "--resume")
    assert (done.code, done.err) == (3, "error: one: no trial came to its end; the first: loss 0\n")
    assert json.loads((folder / "search.json").read_text())["best"] is None


def test_a_run_is_no_search(digits_job: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "resolved.json").write_text(load_spec(digits_job).model_dump_json())
    asked = load_spec({**digits_job, "tune": TUNE}).tune
    assert asked is not None
    with pytest.raises(JobError, match=r"^--resume: .* holds no search"):
        same_search(tmp_path, asked, str(tmp_path))
