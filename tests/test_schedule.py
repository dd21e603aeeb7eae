"""raymix.Schedule: step for step what the plan and the policy say, for a training loop that is not raymix's."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest

import raymix
from raymix.data.order import Order
from raymix.plan import Plan, rate, rows_per_step, weight
from raymix.policy import unroll
from raymix.report.history import Rates
from raymix.schedule import Schedule, Step
from raymix.spec import JobError

PlanOf = Callable[..., Plan]
EPOCHS = {"ssl_epochs": 6, "sl_epochs": 9, "mix_ratio": 0.5}
SCHEDULES: dict[str, dict[str, Any]] = {
    "joint": {},
    "curve": {"weight": {"curve": "linear", "start": 1.0, "end": 0.0}},
    "alternate epochs": {"interleave": "alternate"},
    "alternate steps": {"interleave": "alternate", "alternate_steps": 3},
    "sl_drop": {"sl_drop": 0.5},
    "ssl, then sl": {"mix_ratio": 0.0},
    "all mixed": {"mix_ratio": 1.0},
    "sl alone": {"ssl_epochs": 0},
}


def schedule_of(num_labelled: int = 100, batch: int = 32, **others: Any) -> Schedule:
    return Schedule(num_images=400, num_labelled=num_labelled, batch=batch, **{**EPOCHS, **others})


@pytest.mark.parametrize("restart", ["never", "phase"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_it_is_the_plan_step_for_step(plan_of: PlanOf, name: str, restart: Any) -> None:
    optim = {"batch": 32, "lr": 3e-3, "warmup": 0.1, "restart": restart}
    plan = plan_of(400, 100, schedule={**EPOCHS, **SCHEDULES[name]}, optim=optim)
    steps = list(schedule_of(lr=3e-3, warmup=0.1, restart=restart, **SCHEDULES[name]))
    assert [step.number for step in steps] == list(range(plan.num_steps))
    segments = unroll(plan, Rates(step_seconds=dict.fromkeys(plan.kinds, 0.3)))
    kinds = [kind for named in segments for kind, count in named.pattern for _ in range(count)]
    assert [step.kind for step in steps] == kinds
    for step in steps:
        assert step.lr == rate(plan, step.number)
        assert step.weight == {"ssl": 1, "sl": 0, "sl_drop": 0}.get(step.kind, weight(plan, step.number))
        assert step.rows == rows_per_step(plan, step.kind)
    assert [step.number for step in steps if step.restart] == [
        phase.start for phase in plan.phases if restart == "phase"
    ]
    assert [step._replace(evaluate=False) for step in Schedule.from_plan(plan)] == steps


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_by_number_is_the_same_step(name: str) -> None:
    schedule = schedule_of(**SCHEDULES[name])
    steps = list(schedule)
    assert len(schedule) == len(steps) > 25
    assert [schedule[number] for number in range(len(schedule))] == steps
    assert schedule[-1] == steps[-1]
    for start in (0, 1, len(steps) // 2, len(steps) - 1, len(steps)):
        assert list(schedule.steps(start)) == steps[start:], "a run that was broken off goes on"
        assert schedule.history.done_steps == len(steps)
    with pytest.raises(IndexError, match=rf"step {len(steps)} of a schedule of {len(steps)}"):
        schedule[len(steps)]


def test_a_steps_loss_looks_only_at_what_it_needs() -> None:
    def unwanted() -> float:
        raise AssertionError

    kinds: dict[str, Step] = {step.kind: step for step in schedule_of(sl_drop=0.5, weight={"start": 0.25, "end": 0.25})}
    assert kinds["ssl"].loss(ssl=lambda: 2.0, sl=unwanted) == 2
    assert kinds["sl"].loss(ssl=unwanted, sl=lambda: 4.0) == 4
    assert kinds["sl_drop"].loss(ssl=None, sl=4.0) == 4
    assert kinds["mix"].loss(ssl=lambda: 2.0, sl=4.0) == 0.25 * 2 + 0.75 * 4


# ---- the policy ---------------------------------------------------------------------------------------------------


def test_the_policy_hears_what_was_measured() -> None:
    schedule = schedule_of(num_select=50)
    asked: list[int] = []
    for step in schedule:
        time.sleep({"ssl": 0.001, "mix": 0.004, "sl": 0.002}[step.kind])
        if step.evaluate:
            asked.append(step.number)
            schedule.report(select_top1=float(step.number), sl_loss=0.5, evaluate_seconds=1e-5)
    history = schedule.history
    assert history.done_steps == len(schedule)
    seconds = history.rates.step_seconds
    assert seconds["ssl"] < seconds["mix"] < 0.1
    assert 0.001 < seconds["sl"] < seconds["mix"]
    assert len(asked) > 10
    told = {report.segment.start + report.segment.steps - 1: report for report in history.reports}
    assert [number for number, report in told.items() if report.select_top1 is not None] == asked
    assert all(told[number].select_top1 == number and told[number].sl_loss == 0.5 for number in asked)
    mixed = [report for report in history.reports if report.segment.kind == "mix"]
    assert all(report.labelled == report.images / 4 for report in mixed), "a quarter has a label"
    assert sum(report.images for report in history.reports) == 32 * len(schedule)


def test_evaluations_that_take_long_become_rare() -> None:
    schedule, asked = schedule_of(num_select=50), []
    for step in schedule:
        if step.evaluate:
            asked.append(step.number)
            schedule.report(select_top1=50, evaluate_seconds=1000)
    assert asked[-1] == len(schedule) - 1, "without val rows a run is judged by select at its end, whatever it costs"
    assert 1 <= len(asked[:-1]) <= 2, "the one that runs when the next is asked for is not known yet"


def test_what_no_policy_looks_at_is_refused() -> None:
    with pytest.raises(JobError, match=r"^top1: is nothing that policies look at \(one of select_top1, "):
        schedule_of().report(top1=3)


# ---- the images of each step ----------------------------------------------------------------------------------------


def labels_of(num_images: int = 400, every: int = 4) -> np.ndarray:
    places = np.arange(num_images)
    return np.where(places % every == 0, places % 10, -1)


@pytest.mark.parametrize("name", SCHEDULES)
def test_streams_go_on_across_phases_and_drop_nothing(name: str) -> None:
    schedule, labels = schedule_of(**SCHEDULES[name]), labels_of()
    batches = list(schedule.batches(labels, seed=3))
    assert len(batches) == len(schedule) == len(schedule.batches(labels))
    for stream, ids in (("all", np.arange(400)), ("labelled", np.flatnonzero(labels >= 0))):
        taken = [rows for step, rows in zip(schedule, batches, strict=True) if stream in step.rows]
        flat = list(chain.from_iterable(taken))
        assert flat == Order(ids, 3, stream).rows(0, len(flat))[0].tolist()
        for first in range(0, len(flat) - len(ids), len(ids)):
            assert sorted(flat[first : first + len(ids)]) == ids.tolist(), "every image once an epoch"


def test_a_mix_batch_has_its_share_of_labels() -> None:
    schedule, labels = schedule_of(labelled_share=0.75), labels_of()
    for step, rows in zip(schedule, schedule.batches(labels), strict=True):
        if step.kind == "mix":
            assert step.rows == {"labelled": 24, "unlabelled": 8}
            assert (labels[rows] >= 0).sum() == 24


def test_the_images_after_a_restart_and_of_several_processes() -> None:
    schedule, labels = schedule_of(), labels_of()
    whole = list(schedule.batches(labels))
    assert whole != list(schedule.batches(labels, seed=1))
    assert list(schedule.batches(labels, start=70)) == whole[70:]
    parts = [list(schedule.batches(labels, rank=rank, world=4)) for rank in range(4)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(chain.from_iterable(shares)) == sorted(batch)
        assert {len(share) for share in shares} == {8}
    epochs = [whole[number] for number in range(25)]
    assert all(first != second for first, second in pairwise(epochs))


def test_a_dataloader_takes_them() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    schedule, labels = schedule_of(), labels_of()
    data = TensorDataset(torch.arange(400), torch.from_numpy(labels))
    loader = DataLoader(data, batch_sampler=schedule.batches(torch.from_numpy(labels)))
    for step, (x, y), rows in zip(schedule, loader, schedule.batches(labels), strict=True):
        assert x.tolist() == rows
        assert (y >= 0).all() or step.kind != "sl"


# ---- wrong arguments ------------------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "num_images: must be at least 1, not 0": {"num_images": 0},
    "num_images: must be a whole number, not 2.5": {"num_images": 2.5},
    "num_labelled: must be at least 0, not -1": {"num_labelled": -1},
    "num_labelled: 500 is more than the 400 images": {"num_labelled": 500},
    "num_labelled: 0, and there are SL epochs (set sl_epochs=0": {"num_labelled": 0},
    "batch: 512 is larger than the 400 training rows (take a smaller batch)": {"batch": 512},
    "batch: must be at least 2, not 1": {"batch": 1},
    "batch: must be a whole number, not 'auto'": {"batch": "auto"},
    "lr: must be above 0, not 0": {"lr": 0},
    "mix_ratio: must be at most 1, not 1.5": {"mix_ratio": 1.5},
    "mixratio: unknown key (did you mean mix_ratio?)": {"mixratio": 0.5},
    "weight.curve: a constant weight cannot go from": {"weight": {"start": 1, "end": 0}},
    "policy: unknown value": {"policy": "best"},
    "sl_epochs: 0.01 epochs of 100 labelled rows do not fill one batch of 32 (ask for at least 1": {"sl_epochs": 0.01},
    "labelled_share: there are no unlabelled training rows": {"labelled_share": 0.5, "num_labelled": 400},
    "labelled_share: interleave: alternate has no mix batch": {"labelled_share": 0.5, "interleave": "alternate"},
    "alternate_steps: applies to interleave: alternate only (set interleave=alternate": {"alternate_steps": 3},
    "shared_pass: says how raymix's own steps": {"shared_pass": "full"},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_argument_is_named_in_one_line(message: str) -> None:
    asked = {"num_images": 400, "num_labelled": 100, "batch": 32, **EPOCHS, **WRONG[message]}
    with pytest.raises(raymix.JobError) as refused:
        raymix.Schedule(**asked)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_labels_of_another_data_set_are_refused() -> None:
    for labels in (labels_of(396), labels_of(every=5), labels_of().reshape(20, 20)):
        with pytest.raises(JobError, match=r"^labels: .*the schedule is for 400, 100 labelled"):
            schedule_of().batches(labels)
    with pytest.raises(JobError, match=r"^world: 5 does not divide a batch of 32"):
        schedule_of().batches(labels_of(), world=5)
