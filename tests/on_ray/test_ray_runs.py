"""Runs and a pilot on real Ray workers, next to the same without Ray."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import raymix
from raymix.data.frame import Frame
from raymix.jobfile import load_spec
from raymix.local import LocalSession
from raymix.report.history import Rates
from raymix.report.run import RunReport
from raymix.runner import check, rows_of
from raymix.session import Needs, RunFailed, Session, open_session
from raymix.spec import JobError, JobSpec
from raymix.train.task import Outcome, Task
from tests.conftest import JOB
from tests.on_ray.conftest import NUM_CPUS, tree_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]

WORKERS = 3


class Heard:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.stages, self.notes = list[str](), list[str]()
        self.began, self.segments, self.decisions = list[str](), list[Any](), list[Any]()

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.stages.append(text)

    def begin(self, run: str, plan: Any, history: Any) -> None:
        self.began.append(run)

    def decided(self, run: str, decision: Any) -> None:
        self.decisions.append((len(self.segments), decision))

    def segment(self, run: str, report: Any) -> None:
        self.segments.append(report)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def end(self, run: str, report: RunReport) -> None: ...

    def close(self) -> None: ...


def digits(**sections: Any) -> JobSpec:
    # at every mark: whether an evaluation stays within its share of the time depends on how busy the machine is
    job = copy.deepcopy(JOB) | {"cluster": {"workers": WORKERS}, "evaluate": {"every": 0.2, "max_share": 1.0}}
    for name, section in sections.items():
        job[name] = {**job.get(name, {}), **section} if isinstance(section, dict) else section
    return load_spec(job)


def needs_of(spec: JobSpec) -> Needs:
    checked = check(spec)
    return Needs(spec, checked.rows, rows_of(checked.splits), Frame(8), False)


def task_of(spec: JobSpec, run: str, folder: Path | None = None, steps: int = 7) -> Task:
    """The job as a task, in segments of so many steps however slow the machine is."""
    checked = check(spec)
    rates = Rates(step_seconds=dict.fromkeys(checked.plan.kinds, 2.0 / steps))
    return Task(run, checked.plan, checked.splits, rates, str(folder) if folder else None)


def alive(title: str) -> list[int]:
    """Processes of this one's Ray that call themselves so."""
    below = psutil.Process().children(recursive=True)
    return [process.pid for process in below if process.cmdline()[:1] == [f"ray::{title}"]]


def has_torch(process: int) -> bool:
    """Whether a process has loaded torch; one that has just ended has not."""
    with suppress(psutil.NoSuchProcess):
        return any("libtorch" in part.path for part in psutil.Process(process).memory_maps())
    return False


# ---- one group of three ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_ray(attached: None) -> Iterator[Session]:
    """Three workers that hold the digits."""
    session = open_session(needs_of(digits()), Heard())
    yield session
    session.close()


def both(on_ray: Session, spec: JobSpec, folder: Path) -> tuple[Outcome, Outcome]:
    """The same task on three workers and in this process."""
    run = folder.name
    torch.set_num_threads(1)
    alone = LocalSession(needs_of(spec), Heard())
    expected = alone.execute(task_of(spec, run, folder / "alone"), Heard())
    return on_ray.execute(task_of(spec, run, folder / "ray"), Heard()), expected


def assert_same(found: Outcome, expected: Outcome) -> None:
    """The same segments and rows to the last one; losses as close as sums in another order leave them."""
    assert found.complete
    assert expected.complete
    assert found.seen == expected.seen
    pairs = list(zip(found.history.reports, expected.history.reports, strict=True))
    assert len(pairs) > 3
    for mine, other in pairs:
        assert mine.segment == other.segment
        assert (mine.images, mine.labelled) == (other.images, other.labelled)
        for loss in ("ssl_loss", "sl_loss"):
            wanted = getattr(other, loss)
            assert getattr(mine, loss) == (wanted and pytest.approx(wanted, rel=1e-4)), mine.segment
    assert np.mean(found.correct["raw"] != expected.correct["raw"]) < 0.02


def test_three_workers_compute_what_one_process_does(on_ray: Session, tmp_path: Path) -> None:
    spec = digits(schedule={"ssl_epochs": 3, "sl_epochs": 3})
    assert_same(*both(on_ray, spec, tmp_path))


def test_three_workers_with_few_labels_compute_what_one_process_does(on_ray: Session, tmp_path: Path) -> None:
    """Ranks then hold unlike numbers of labelled rows, and some none: the loss is still the mean over the batch."""
    spec = digits(data={"label_fraction": 0.05, "select": 0.0}, schedule={"ssl_epochs": 2, "sl_epochs": 4})
    found, expected = both(on_ray, spec, tmp_path)
    assert_same(found, expected)
    mixed = [report for report in found.history.reports if report.segment.kind == "mix"]
    assert all(0 < report.labelled < report.images / 5 for report in mixed)


def test_a_task_goes_on_from_its_newest_checkpoint(on_ray: Session, tmp_path: Path) -> None:
    task, heard = task_of(digits(), "again", tmp_path), Heard()
    first = on_ray.execute(task, heard)
    assert heard.began == ["again"]
    assert list(first.history.reports) == heard.segments
    again = on_ray.execute(replace(task, run="again-2"), Heard())
    assert again.history.reports == first.history.reports
    assert (again.correct["raw"] == first.correct["raw"]).all()


def test_a_loss_that_is_not_finite_fails_the_run_and_not_the_workers(on_ray: Session) -> None:
    before, plan = alive("RayTrainWorker"), task_of(digits(), "lost").plan
    optim = plan.spec.optim.model_copy(update={"lr": 1e30})  # more than a job may ask for
    exploding = plan.model_copy(update={"spec": plan.spec.model_copy(update={"optim": optim})})
    with pytest.raises(RunFailed, match=r"^lost: the loss is not finite in steps \d+ to \d+"):
        on_ray.execute(replace(task_of(digits(), "lost"), plan=exploding), Heard())
    assert on_ray.execute(task_of(digits(schedule={"ssl_epochs": 0}), "next"), Heard()).complete
    assert alive("RayTrainWorker") == before
    assert len(before) == WORKERS
    assert on_ray.groups == 1


def test_changes_of_plan_are_heard_before_the_segments_that_follow_them(on_ray: Session) -> None:
    spec, heard = (
        digits(schedule={"ssl_epochs": 8, "sl_epochs": 8, "policy": "budgeted"}, budget={"flops": 4e10}),
        Heard(),
    )
    task = task_of(spec, "spends")
    flops = dict.fromkeys(task.plan.kinds, 1e9)
    outcome = on_ray.execute(replace(task, rates=task.rates.model_copy(update={"step_flops": flops})), heard)
    assert outcome.history.done_steps == 40
    assert [decision for _, decision in heard.decisions] == list(outcome.history.decisions) != []
    for before, decision in heard.decisions:
        assert decision.step == sum(report.segment.steps for report in heard.segments[:before])


def test_measuring_trains_nothing(on_ray: Session) -> None:
    outcome = on_ray.execute(replace(task_of(digits(), "measure"), measure=("ssl", "mix", "sl")), Heard())
    assert set(outcome.history.rates.step_seconds) == {"ssl", "mix", "sl"}
    assert not outcome.history.reports
    assert not outcome.complete


def test_no_other_ray_of_the_machine_has_a_say(on_ray: Session) -> None:
    """Ray Train's own cleaner ends the workers when it asks a Ray that was started later, which knows no such run."""
    on_ray.execute(replace(task_of(digits(), "measure again"), measure=("ssl",)), Heard())
    assert alive("RayTrainWorker")
    assert not alive("PlacementGroupCleaner")


def test_one_worker_trains_without_a_process_group(tmp_path: Path) -> None:
    spec = digits(cluster={"workers": 1}, schedule={"ssl_epochs": 2, "sl_epochs": 2})
    session = open_session(needs_of(spec), Heard())
    try:
        found, expected = both(session, spec, tmp_path)
    finally:
        session.close()
    assert found.complete
    assert [report.ssl_loss for report in found.history.reports] == [r.ssl_loss for r in expected.history.reports]
    assert (found.correct["raw"] == expected.correct["raw"]).all()


def test_the_controller_starts_workers_without_torch(on_ray: Session) -> None:
    on_ray.execute(replace(task_of(digits(), "once more"), measure=("ssl",)), Heard())
    controllers, workers = alive("TrainController.run"), alive("RayTrainWorker")
    assert controllers
    assert not any(has_torch(process) for process in controllers)
    assert any(has_torch(process) for process in workers)


# ---- whole runs -----------------------------------------------------------------------------------------------------


def test_a_run_on_an_image_tree_leaves_its_folder_and_the_ray_that_was_there(damaged: Path) -> None:
    import ray

    report = raymix.run(tree_job(damaged, 2, max_bad_fraction=0.1), quiet=True)
    folder = damaged.parent / "runs" / "tree"
    assert report.status == "done"
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
    trained = raymix.load_model(folder)
    image = trained.transform(damaged / "class0" / "000.jpg")
    assert trained(image[None]).shape == (1, 3)
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == NUM_CPUS


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
