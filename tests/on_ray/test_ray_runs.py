"""Tasks on real Ray workers, next to the same without Ray."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from raymix.data.frame import Frame
from raymix.jobfile import load_spec
from raymix.local import LocalSession
from raymix.plan import rate
from raymix.report.history import Rates
from raymix.report.run import RunReport
from raymix.runner import check, rows_of
from raymix.session import Needs, RunFailed, Session, open_session
from raymix.spec import JobSpec
from raymix.train.task import Outcome, Task
from tests.conftest import JOB
from tests.planted import FACTORY

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
    """Processes of this one's Ray that call themselves so; one that is asked something adds what it is asked."""
    below = psutil.Process().children(recursive=True)
    return [process.pid for process in below if (process.cmdline() or [""])[0].partition(".")[0] == f"ray::{title}"]


def has_torch(process: int) -> bool:
    """Whether a process has loaded torch; one that has just ended has not."""
    with suppress(psutil.NoSuchProcess):
        return any("libtorch" in part.path for part in psutil.Process(process).memory_maps())
    return False


def both(session: Session, spec: JobSpec, folder: Path) -> tuple[Outcome, Outcome]:
    """The same task on its workers and in this process."""
    run = folder.name
    torch.set_num_threads(1)
    alone = LocalSession(needs_of(spec), Heard())
    expected = alone.execute(task_of(spec, run, folder / "alone"), Heard())
    return session.execute(task_of(spec, run, folder / "ray"), Heard()), expected


# ---- one group of three ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_ray(attached: None) -> Iterator[Session]:
    """Three workers that hold the digits."""
    session = open_session(needs_of(digits()), Heard())
    yield session
    session.close()


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


def test_a_task_that_was_stopped_goes_on_as_if_it_had_not_been(on_ray: Session, tmp_path: Path) -> None:
    class Stopping(Heard):
        def segment(self, run: str, report: Any) -> None:
            super().segment(run, report)
            on_ray.stop()

    task = task_of(digits(schedule={"ssl_epochs": 4, "sl_epochs": 4}), "whole", tmp_path / "whole")
    whole = on_ray.execute(task, Heard())
    parts = replace(task, run="parts", checkpoints=str(tmp_path / "parts"))
    first = on_ray.execute(parts, Stopping())
    on_ray._stopping = False  # type: ignore[attr-defined]  # a session that was stopped ends; this one goes on
    assert not first.complete
    assert 0 < len(first.history.reports) < len(whole.history.reports)
    rest = on_ray.execute(replace(parts, run="parts-2"), Heard())
    assert rest.complete
    assert rest.seen == whole.seen
    for mine, other in zip(rest.history.reports, whole.history.reports, strict=True):
        assert (mine.segment, mine.ssl_loss, mine.sl_loss) == (other.segment, other.ssl_loss, other.sl_loss)
    assert (rest.correct["raw"] == whole.correct["raw"]).all()


def test_a_loss_that_is_not_finite_fails_the_run_and_not_the_workers(on_ray: Session) -> None:
    assert on_ray.execute(task_of(digits(schedule={"ssl_epochs": 0}), "before"), Heard()).complete
    before, plan = alive("RayTrainWorker"), task_of(digits(), "lost").plan
    optim = plan.spec.optim.model_copy(update={"lr": 1e30})  # more than a job may ask for
    exploding = plan.model_copy(update={"spec": plan.spec.model_copy(update={"optim": optim})})
    with pytest.raises(RunFailed, match=r"^lost: (the loss|a gradient) is not finite in steps \d+ to \d+"):
        on_ray.execute(replace(task_of(digits(), "lost"), plan=exploding), Heard())
    assert on_ray.execute(task_of(digits(schedule={"ssl_epochs": 0}), "next"), Heard()).complete
    assert alive("RayTrainWorker") == before
    assert len(before) == WORKERS
    assert on_ray.groups == 1


def test_a_run_is_rolled_back_by_all_workers_and_goes_on(on_ray: Session, tmp_path: Path) -> None:
    """Without a restart; the driver's policy, which is asked a segment ahead, hears of it."""
    backbone = {"type": "import", "factory": FACTORY, "args": {"limit": 0.025, "norm": False}}
    job = {**copy.deepcopy(JOB), "backbone": backbone, "schedule": {"ssl_epochs": 0, "sl_epochs": 3}}
    job |= {"cluster": {"workers": WORKERS}, "optim": {"batch": 96, "lr": 2e-3, "warmup": 0}, "evaluate": {"every": 0}}
    spec = load_spec({**job, "checkpoint": {"every": 3600}, "failures": {"not_finite": "roll_back"}})
    groups, heard = on_ray.groups, Heard()
    checked = check(spec, (FACTORY,))
    task = replace(task_of(digits(), "back", tmp_path, steps=3), plan=checked.plan, splits=checked.splits)
    outcome = on_ray.execute(replace(task, allow_import=(FACTORY,)), heard)
    assert outcome.complete
    [back] = outcome.history.roll_backs
    assert back.step == 0
    assert heard.began == ["back", "back"]
    assert [note.startswith("back: the loss is not finite in steps ") for note in heard.notes] == [True]
    starts = [report.segment.start for report in outcome.history.reports]
    assert starts == sorted(set(starts))
    rates = [report.segment.lr[0] / rate(checked.plan, report.segment.start) for report in outcome.history.reports]
    assert rates == [pytest.approx(0.5)] * len(starts)
    assert len(heard.segments) > len(starts)
    assert on_ray.groups == groups


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


def test_the_controller_is_no_process_of_its_own(on_ray: Session) -> None:
    on_ray.execute(replace(task_of(digits(), "once more"), measure=("ssl",)), Heard())
    assert not alive("TrainController")
    assert any(has_torch(process) for process in alive("RayTrainWorker"))
