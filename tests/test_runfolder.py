"""Who may use a run folder, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymix.jobfile import load_spec
from raymix.plan import Plan
from raymix.runfolder import Attempt, RunFolder, storage_of
from raymix.spec import JobError, JobSpec


@pytest.fixture
def spec_at(digits_job: dict[str, Any]) -> Callable[[str], JobSpec]:
    """The digits job with another storage."""
    return lambda storage: load_spec({**digits_job, "storage": storage})


@pytest.fixture(autouse=True)
def _no_ray_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYMIX_STORAGE", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)


# ---- where ------------------------------------------------------------------------------------------------------


def test_relative_storage_lies_where_the_command_was_started(
    spec_at: Callable[[str], JobSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_of(spec_at("runs")) == tmp_path / "runs"
    assert storage_of(spec_at("/data/runs")) == Path("/data/runs")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage_of(spec_at("~/runs")) == tmp_path / "runs"


def test_relative_storage_is_refused_inside_a_ray_job(
    spec_at: Callable[[str], JobSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(JobError, match=r"^storage: 'runs' is relative, .* vanishes with it \(.*RAYMIX_STORAGE"):
        storage_of(spec_at("runs"))
    assert storage_of(spec_at("/data/runs")) == Path("/data/runs")
    monkeypatch.setenv("RAYMIX_STORAGE", str(tmp_path))
    assert storage_of(spec_at("runs")) == tmp_path / "runs"
    assert storage_of(spec_at("/data/runs")) == Path("/data/runs")


def test_nobodys_home(spec_at: Callable[[str], JobSpec]) -> None:
    with pytest.raises(JobError, match=r"^storage: '~nobody-of-this-name/runs': "):
        storage_of(spec_at("~nobody-of-this-name/runs"))


# ---- who --------------------------------------------------------------------------------------------------------


@pytest.fixture
def spec(spec_at: Callable[[str], JobSpec], tmp_path: Path) -> JobSpec:
    return spec_at(str(tmp_path))


def test_asking_writes_nothing(spec: JobSpec, tmp_path: Path) -> None:
    RunFolder(spec, tmp_path / "a" / "b" / "run")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_beforehand_may_be_used(
    spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    folder = RunFolder(spec, tmp_path / "run")
    folder.start(plan_of(), 8)
    assert sorted(p.name for p in folder.path.iterdir()) == ["job.yaml", "plan.json", "resolved.json"]
    assert load_spec(folder.path / "resolved.json").data.store_size == 8, "nothing is left on auto"


@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_of_something_else_is_never_touched(spec: JobSpec, flags: dict[str, bool], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(JobError, match=r"^name: .*/run is already used \(it is no run folder; take another name"):
        RunFolder(spec, tmp_path / "run", **flags)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


def test_resume_and_overwrite_contradict_each_other(spec: JobSpec, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^--overwrite: contradicts --resume \(give one of them\)$"):
        RunFolder(spec, tmp_path / "run", resume=True, overwrite=True)


def test_paths_that_cannot_be(spec: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match=r"^storage: .*/file is a file"):
        RunFolder(spec, tmp_path / "file" / "run")
    with pytest.raises(JobError, match=r"^name: .*/file is a file"):
        RunFolder(spec, tmp_path / "file")
    with pytest.raises(JobError, match=r"^storage: .*: File name too long"):
        RunFolder(spec, tmp_path / ("x" * 300) / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(spec: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(JobError, match=r"^storage: .*/closed cannot be written"):
        RunFolder(spec, tmp_path / "closed" / "run")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(JobError, match=r"^storage: "):
        RunFolder(spec, tmp_path / "closed" / "run")


def started(spec: JobSpec, plan: Plan, path: Path) -> RunFolder:
    folder = RunFolder(spec, path)
    folder.start(plan, 8)
    return folder


def test_a_resumed_folder_stays_as_it_is(spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    started(spec, plan_of(), tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    other_cluster = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"object_store": 10**9})})
    folder = RunFolder(other_cluster, tmp_path / "run", resume=True)
    folder.start(plan_of(num_train=500), 16)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    stored = folder.stored_plan(plan_of().facts)
    assert stored is not None
    assert stored.phases == plan_of().phases
    assert stored.spec.cluster.object_store == 10**9, "on this job's cluster"


def test_a_resumed_folder_knows_its_facts(spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    started(spec, plan_of(), tmp_path / "run")
    folder = RunFolder(spec, tmp_path / "run", resume=True)
    with pytest.raises(JobError, match=r"^data: is not what it was when .*/run began \(num_train\) \(start anew"):
        folder.stored_plan(plan_of(num_train=999).facts)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 3}', "\x00"])
@pytest.mark.parametrize("name", ["resolved.json", "plan.json"])
def test_damaged_files_are_named(
    spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path, name: str, text: str
) -> None:
    (started(spec, plan_of(), tmp_path / "run").path / name).write_text(text)
    with pytest.raises(JobError, match=rf"^--resume: .*/run/{name} .*\(start anew: --overwrite\)$"):
        RunFolder(spec, tmp_path / "run", resume=True).stored_plan(plan_of().facts)
    RunFolder(spec, tmp_path / "run", overwrite=True)


def test_attempts_are_kept_in_order(spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    folder = started(spec, plan_of(), tmp_path / "run")
    assert folder.attempts() == ()
    made = [Attempt(wall_seconds=number, worker_seconds=2 * number, groups=1) for number in range(1, 13)]
    for number, attempt in enumerate(made, 1):
        folder.write_attempt(number, attempt)
    folder.write_attempt(12, made[0])
    assert folder.attempts() == (*made[:11], made[0])


# ---- what a killed command leaves -------------------------------------------------------------------------------


def test_a_start_that_was_cut_off_does_not_use_up_the_folder(
    spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    RunFolder(spec, tmp_path / "run").start(plan_of(), 8)
    (tmp_path / "run" / "job.yaml").rename(tmp_path / "run" / ".job.yaml.0f.tmp")
    (tmp_path / "run" / "driver.lock").touch()
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        assert not RunFolder(spec, tmp_path / "run", **flags).resumed


def test_overwriting_takes_the_job_away_last(
    spec: JobSpec, plan_of: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the midst, it can be done again; the lock stays."""
    RunFolder(spec, tmp_path / "run").start(plan_of(), 8)
    removed: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path: removed.append(path.name) or os.remove(path))
    folder = RunFolder(spec, tmp_path / "run", overwrite=True)
    with folder.held(print):
        folder.start(plan_of(), 8)
        assert (tmp_path / "run" / "driver.lock").is_file()
    assert removed == [*sorted(removed[:2]), "job.yaml", "driver.lock"]
