"""What runs measured is kept by a key that holds all that steps depend on, and read back by the next plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raymix.plan import Plan, resolve
from raymix.report import known
from raymix.report.history import Rates
from raymix.spec import JobSpec
from tests.report.factory import NOW, STEP_SECONDS, make_plan, make_run


def seen(at: float = NOW) -> known.Seen:
    return known.Seen(at=at, rates=Rates(step_seconds=STEP_SECONDS), ratio=1.0)


def changed(plan: Plan, **sections: dict[str, object]) -> Plan:
    """The plan of another job on the same data."""
    job = plan.spec.model_dump(mode="json")
    for name, fields in sections.items():
        job[name] = {**job[name], **fields}
    return resolve(JobSpec.model_validate_json(json.dumps(job)), plan.facts)


def test_what_was_remembered_is_recalled_with_its_device(own_cache: Path) -> None:
    plan = make_plan()
    assert known.recall(plan) is None
    known.remember(plan, "cpu", "CPU", seen())
    entry = known.recall(plan)
    assert entry is not None
    assert (entry.device_name, entry.seen) == ("CPU", (seen(),))
    [file] = (own_cache / "rates").iterdir()
    assert json.loads(file.read_text())["key"]["batch"] == 64, "the key is there in clear"


@pytest.mark.parametrize(
    "sections",
    [
        {"backbone": {"patch": 4}},
        {"objective": {"mask_ratio": 0.5}},
        {"data": {"image_size": 16}},
        {"data": {"augment": {"blur": 0.5}}},
        {"optim": {"batch": 32}},
        {"optim": {"accumulate": 2}},
        {"optim": {"precision": "bf16"}},
        {"optim": {"ema": 0.01}},
        {"speed": {"recompute": True}},
        {"schedule": {"shared_pass": "full"}},
        {"schedule": {"whole_rows": 0.25}},
        {"cluster": {"workers": 1}},
        {"cluster": {"cpus_per_worker": 2}},
        {"cluster": {"gpus_per_worker": 1}},
    ],
)
def test_what_a_step_depends_on_is_in_the_key(sections: dict[str, dict[str, object]]) -> None:
    plan = make_plan()
    known.remember(plan, "cpu", "CPU", seen())
    assert known.recall(changed(plan, **sections)) is None


@pytest.mark.parametrize(
    "sections", [{"schedule": {"ssl_epochs": 3}}, {"optim": {"lr": 0.1}}, {"cluster": {"price_per_worker_hour": 1}}]
)
def test_what_a_step_does_not_depend_on_is_not(sections: dict[str, dict[str, object]]) -> None:
    plan = make_plan()
    known.remember(plan, "cpu", "CPU", seen())
    assert known.recall(changed(plan, **sections)) is not None


def test_another_version_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan()
    known.remember(plan, "cpu", "CPU", seen())
    monkeypatch.setattr(known, "installed", lambda package: "99")
    assert known.recall(plan) is None


def test_the_newest_on_the_kind_of_device_that_the_job_asks_for() -> None:
    plan = changed(make_plan(), cluster={"workers": 2, "gpus_per_worker": 1.0})
    known.remember(plan, "cuda", "NVIDIA A", seen(NOW))
    known.remember(plan, "cuda", "NVIDIA B", seen(NOW - 60))
    known.remember(plan, "cpu", "CPU", seen(NOW + 60))
    entry = known.recall(plan)
    assert entry is not None
    assert entry.device_name == "NVIDIA A"


def test_the_last_runs_are_kept_and_those_that_lack_a_kind_are_passed_over() -> None:
    plan = make_plan()
    for number in range(known.KEPT + 3):
        known.remember(plan, "cpu", "CPU", seen(NOW + number))
    entry = known.recall(plan)
    assert entry is not None
    assert [run.at - NOW for run in entry.seen] == list(range(3, known.KEPT + 3))
    only_ssl = known.Seen(at=NOW + 99, rates=Rates(step_seconds={"ssl": 1.0}))
    known.remember(plan, "cpu", "CPU", only_ssl)
    entry = known.recall(plan)
    assert entry is not None
    assert only_ssl not in entry.with_kinds(plan.kinds)


def test_a_folder_that_cannot_be_used_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAYMIX_CACHE", str(tmp_path / "file"))
    known.remember(make_plan(), "cpu", "CPU", seen())
    assert known.recall(make_plan()) is None


def test_a_broken_file_is_passed_over_and_written_anew(own_cache: Path) -> None:
    plan = make_plan()
    known.remember(plan, "cpu", "CPU", seen())
    [file] = (own_cache / "rates").iterdir()
    file.write_text('{"key": ')
    assert known.recall(plan) is None
    known.remember(plan, "cpu", "CPU", seen())
    assert known.recall(plan) is not None


def test_where_the_files_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYMIX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert known.folder() == Path("/cache/raymix/rates")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert known.folder() == Path.home() / ".cache" / "raymix" / "rates"


def test_what_a_run_showed() -> None:
    run, rates = make_run(), Rates(step_seconds=STEP_SECONDS, prepare_seconds=3.0)
    kept = known.Seen.of(run, rates, alone=True)
    assert kept.ratio == pytest.approx(1.0)
    totals = run.totals
    named = totals.step_seconds + totals.data_seconds + totals.evaluate_seconds + totals.checkpoint_seconds
    assert kept.startup_seconds == pytest.approx(totals.wall_seconds - named - 3.0)
    assert known.Seen.of(run, rates, alone=False).startup_seconds is None, "a pilot's runs share theirs"
    cut = known.Seen.of(make_run(status="interrupted"), rates, alone=True)
    assert (cut.ratio, cut.startup_seconds) == (None, None)
