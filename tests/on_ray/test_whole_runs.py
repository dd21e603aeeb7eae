"""Runs and a pilot through Ray, as a user starts them: what lies in the folder, streamed and kept, compared."""

from __future__ import annotations

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.jobfile import load_spec
from raymix.report.run import RunReport
from raymix.spec import JobError
from tests.conftest import JOB, image_tree_of
from tests.on_ray.conftest import NUM_CPUS, damage, tree_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]

FACTORY = "tests.method.own_backbones:conv"


# ---- a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return damage(image_tree_of(tmp_path_factory.mktemp("whole") / "tree", per_class=40))


def trained(tree: Path, cache: str) -> RunReport:
    """A run of the user's own backbone on two workers."""
    job = {
        **tree_job(tree, 2, max_bad_fraction=0.1, cache=cache),
        "name": cache,
        "backbone": {"type": "import", "factory": FACTORY},
        "objective": {**JOB["objective"], "mask_ratio": 0.5},
        "evaluate": {"every": 0.5, "max_share": 1.0},  # each evaluation of streamed images is an execution of Ray Data
    }
    return raymix.run(job, quiet=True, allow_import=(FACTORY,))


@pytest.fixture(scope="module")
def kept(attached: None, tree: Path) -> RunReport:
    """Of images that are kept; each group of workers costs many seconds, so several tests look at this one."""
    return trained(tree, "auto")


def test_a_run_on_an_image_tree_leaves_its_folder_and_the_ray_that_was_there(kept: RunReport, tree: Path) -> None:
    import ray

    report, folder = kept, tree.parent / "runs" / "auto"
    assert report.status == "done", "workers are told what may be imported"
    assert (report.workers, report.attempts) == (2, 1)
    assert report.rows.skipped == {"empty": 1, "truncated": 1, "not an image": 1}
    assert sum((report.rows.train, report.rows.select, report.rows.val)) == 120 - 3
    assert report.final is not None
    assert report.final.num_val == report.rows.val
    for name in ("job.yaml", "resolved.json", "plan.json", "metrics.jsonl", "report.json", "report.html"):
        assert (folder / name).is_file(), name
    assert list(folder.glob("events.out.tfevents.*"))
    assert RunReport.model_validate_json((folder / "report.json").read_bytes()) == report
    assert report.ledger is not None
    assert report.ledger.worker_seconds == pytest.approx(2 * report.totals.wall_seconds, rel=0.01)
    assert abs(report.ledger.of("other")) < 0.01 * report.ledger.worker_seconds + 2 * 0.5
    assert report.ledger.of("start-up") > 0
    assert report.ledger.of("lost work") == 0
    assert (folder / "skipped.tsv").read_text().count("\n") == 4
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == sum(phase.steps for phase in report.phases)
    model = raymix.load_model(folder, allow_import=(FACTORY,))
    image = model.transform(tree / "class0" / "000.jpg")
    assert model(image[None]).shape == (1, 3)
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == NUM_CPUS


def test_a_streamed_run_is_the_run_on_kept_images(kept: RunReport, tree: Path) -> None:
    """The object store of 200 MB is nowhere near the point, the order is."""
    streamed = trained(tree, "stream")
    assert streamed.images is not None
    assert kept.images is not None
    assert (streamed.images.kept, kept.images.kept) == ("stream", "host")
    assert streamed.rows == kept.rows
    assert streamed.rows.skipped == {"empty": 1, "truncated": 1, "not an image": 1}
    assert streamed.final is not None
    assert kept.final is not None
    assert streamed.final.correct == kept.final.correct
    last = [report.curve[-1] for report in (streamed, kept)]
    assert last[0].step == last[1].step
    assert (tree.parent / "runs" / "stream" / "skipped.tsv").read_text().count("\n") == 4


def test_more_cpus_than_the_cluster_has_are_refused_in_one_line(tmp_path: Path) -> None:
    job = {**copy.deepcopy(JOB), "storage": str(tmp_path / "runs"), "cluster": {"workers": NUM_CPUS}}
    started = time.monotonic()
    with pytest.raises(JobError) as refused:
        raymix.run(job, quiet=True)
    assert refused.value.field == "cluster.workers"
    assert f"the cluster's {NUM_CPUS}" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert time.monotonic() - started < 20
    assert not (tmp_path / "runs").exists()


# ---- a pilot --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(attached: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A quick pilot of three arms on two workers, and its folder."""
    storage = tmp_path_factory.mktemp("pilot")
    job = {
        **copy.deepcopy(JOB),
        "storage": str(storage),
        "data": {**JOB["data"], "fraction": 0.5},
        "schedule": {"ssl_epochs": 4, "sl_epochs": 4, "mix_ratio": 0.5},
        "cluster": {"workers": 2, "price_per_worker_hour": 3.6},
        "pilot": {"preset": "quick", "arms": ["sl", "ssl_sl", "mix"]},
    }
    return raymix.pilot(job, quiet=True), storage / "digits"


def test_a_pilot_compares_arms_at_equal_planned_seconds(compared: tuple[Any, Path]) -> None:
    report, folder = compared
    assert report.status == "done"
    assert list(report.arms) == ["sl", "ssl_sl", "mix"]
    step = max(report.step_seconds.values())
    for arm, runs in report.arms.items():
        (run,) = runs
        assert run.length == 1
        phases = sum(phase.steps > 0 for phase in raymix_report(folder, run).phases)
        assert abs(run.planned_seconds - report.unit_seconds) <= step * phases, arm
        assert run.cost == pytest.approx(run.billed_worker_seconds / 1000)
    (conventional,) = report.arms["ssl_sl"]
    assert (conventional.ssl_epochs, conventional.sl_epochs) == pytest.approx((4, 4), rel=0.1)
    assert report.verdict.text
    assert not report.verdict.decided, "one seed decides nothing"


def raymix_report(folder: Path, run: Any) -> RunReport:
    return RunReport.model_validate_json((folder / run.report).read_bytes())


def test_pilot_json_has_the_fields_that_design_names(compared: tuple[Any, Path]) -> None:
    _, folder = compared
    found = json.loads((folder / "pilot.json").read_text())
    for runs in found["arms"].values():
        assert all({"seed", "top1", "worker_seconds", "length"} <= run.keys() for run in runs)
    assert {"text", "clock", "top1_gain", "speedup"} <= found["verdict"].keys()
    assert {"value", "low", "high"} <= found["verdict"]["top1_gain"].keys()
    assert found["tried"] == 1


def test_the_runs_of_a_pilot_share_rows_workers_and_seed(compared: tuple[Any, Path]) -> None:
    report, folder = compared
    runs = [raymix_report(folder, run) for arm in report.arms.values() for run in arm]
    assert {run.seed for run in runs} == {0}
    assert {run.workers for run in runs} == {2}
    assert {run.attempts for run in runs} == {1}
    for rows in ("train", "labelled", "select", "val"):
        assert len({getattr(run.rows, rows) for run in runs}) == 1


def test_the_page_of_a_pilot_needs_nothing_from_elsewhere(compared: tuple[Any, Path]) -> None:
    page = (compared[1] / "report.html").read_text()
    assert "<svg" in page or "data:image" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "<link" not in page
    assert "@import" not in page


def test_a_finished_pilot_is_not_run_again(compared: tuple[Any, Path]) -> None:
    report, folder = compared
    started = time.monotonic()
    asked = load_spec(folder / "job.yaml")
    assert raymix.pilot(asked, resume=True, quiet=True) == report
    assert time.monotonic() - started < 10
