"""The tune section: which spaces a job takes, and the line that says why not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from raymix.jobfile import load_spec, with_values
from raymix.spec import JobError
from raymix.spec.tune import SEARCHES, Axis, Tune
from tests.conftest import JOB

RATIO = {"schedule.mix_ratio": {"uniform": [0, 1]}}


def tune(**fields: Any) -> Tune:
    """The section as a job with it holds it."""
    found = load_spec({**copy.deepcopy(JOB), "tune": {"space": RATIO, **fields}}).tune
    assert found is not None
    return found


SPACES: list[tuple[dict[str, Any], str]] = [
    ({"schedule.mix_ratioo": {"uniform": [0, 1]}}, "schedule.mix_ratioo: unknown key (did you mean schedule.mix_ratio"),
    ({"nothing": {"uniform": [0, 1]}}, "nothing: unknown key"),
    ({"schedule.mix_ratio": {"uniform": [0, 2]}}, "schedule.mix_ratio: must be at most 1, not 2.0"),
    ({"objective.mask_ratio": {"uniform": [0.1, 1]}}, "objective.mask_ratio: must be below 1"),
    ({"optim.batch": {"uniform": [32, 64]}}, "optim.batch: must be a whole number or auto, not 32.0"),
    ({"data.image_size": {"choice": [8, 9]}}, "data.image_size: 9 is not divisible by backbone.patch 2"),
    ({"backbone.patch": {"choice": [2, 3]}}, "backbone.patch: with 3 in it, data.image_size: 8 is not divisible"),
    ({"schedule.mix_ratio": {"uniform": [1, 0]}}, "schedule.mix_ratio: 1 is not below 0"),
    ({"schedule.mix_ratio": {"unifrom": [0, 1]}}, "schedule.mix_ratio.unifrom: unknown key"),
    ({"schedule.mix_ratio": {"uniform": [0]}}, "schedule.mix_ratio.uniform: must be two numbers"),
    ({"schedule.mix_ratio": {"uniform": [0, 0.5, 1]}}, "schedule.mix_ratio.uniform: must be two numbers"),
    ({"optim.batch": {"int": [32, 64.5]}}, "optim.batch.int: must be two whole numbers"),
    ({"optim.lr": {"loguniform": [0, 1]}}, "optim.lr: loguniform needs numbers above 0"),
    ({"optim.lr": {"loguniform": [1e-4, 1e-2], "choice": [1]}}, "optim.lr: needs one of"),
    ({"optim.lr": [1e-4, 1e-2]}, "optim.lr: is not in one of the forms"),
    ({"optim.batch": {"choice": [32, 32]}}, "optim.batch: a value is there twice"),
    ({"optim.batch": {"choice": []}}, "optim.batch.choice: is not in one of the forms"),
    ({"optim.batch": {"grid": [32, 64]}}, "optim.batch: a grid is for search: grid"),
    ({"seed": {"int": [0, 3]}}, "seed: seed is not searched: it also says which rows are select rows"),
    ({"data.select": {"uniform": [0.1, 0.2]}}, "data.select: data.select is not searched"),
    ({"data.label_fraction": {"uniform": [0.1, 1]}}, "data.label_fraction: data.label_fraction is not searched"),
    ({"cluster.workers": {"int": [1, 2]}}, "cluster.workers: cluster is not searched"),
    ({"tune.trials": {"int": [1, 2]}}, "tune.trials: tune is not searched"),
    ({"report.price_per_label": {"uniform": [0, 1]}}, "report.price_per_label: report is not searched"),
    ({"name.x": {"int": [1, 2]}}, "name.x: name is not searched"),
    ({"optim": {"choice": [{}]}, "optim.lr": {"uniform": [0.1, 0.2]}}, "optim.lr: is inside tune.space.optim"),
]


@pytest.mark.parametrize(("space", "line"), SPACES, ids=[line.split(" (")[0] for _, line in SPACES])
def test_a_space_that_the_job_cannot_take_is_refused_by_its_path(space: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as error:
        tune(space=space)
    assert str(error.value).startswith(f"tune.space.{line}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"space": {}}, "tune.space: names no field"),
        ({"search": "pbt"}, "tune.search: pbt is left out: with Ray Train V2, population based training"),
        ({"search": "bayes"}, 'tune.search: unknown value "bayes"'),
        ({"search": "grid"}, "tune.space.schedule.mix_ratio: cannot be counted"),
        ({"search": "grid", "space": {"optim.batch": {"int": [32, 35]}}, "trials": 3}, "tune.trials: 3 of the 4"),
        ({"objectives": ["worker_seconds"]}, "tune.objectives: [worker_seconds] is no such list"),
        ({"objectives": ["accuracy", "worker_seconds"], "asha": {}}, "tune.asha: ends trials by their accuracy alone"),
        ({"asha": {"rungs": [0.3, 0.1]}}, "tune.asha.rungs: [0.3, 0.1] are not shares that rise"),
        ({"asha": {"rungs": ["10%", 1]}}, "tune.asha.rungs: [0.1, 1.0] are not shares that rise"),
        ({"budget": {}}, "tune.budget: names no amount"),
        ({"budget": {"wall": "1h", "money": 3}}, "tune.budget: wall and money are both set"),
        ({"budget": {"money": 3}}, "tune.budget.money: what a worker-hour costs is not set"),
        ({"arms": ["mix", "mixed"]}, "tune.arms: unknown arm mixed"),
        ({"arms": ["mix", "mix"]}, "tune.arms: an arm is named twice"),
        ({"concurrent": 0}, "tune.concurrent: must be auto or at least 1, not 0"),
        ({"trial": 3}, "tune.trial: unknown key (did you mean tune.trials?)"),
    ],
)
def test_a_search_that_cannot_be_is_refused(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(JobError) as error:
        tune(**fields)
    assert str(error.value).startswith(line)


def test_values_that_fit_only_together_are_taken() -> None:
    """A constant weight has one value, so its start is searched with the curve or not at all."""
    start = {"schedule.weight.start": {"uniform": [0, 1]}}
    with pytest.raises(JobError, match=r"^tune\.space\.schedule\.weight\.start: with 0\.0 in it"):
        tune(space=start)
    assert tune(space={"schedule.weight.curve": {"choice": ["linear", "cosine"]}, **start}).num_trials == 20


def test_any_field_by_its_path() -> None:
    space = {
        "schedule.weight": {"choice": [{"cosine": [1, 0]}, {"constant": 0.5}]},
        "objective.mix_mask_ratio": {"choice": [None, 0.5]},
        "objective.decode_from": {"choice": [None, 2, 3]},
        "schedule.whole_rows": {"uniform": [0, 0.5]},
        "optim.betas": {"choice": [[0.9, 0.95], [0.9, 0.999]]},
        "data.augment.color": {"uniform": [0, 0.5]},
        "backbone.size": {"choice": ["nano", "tiny"]},
        "backbone.drop_path": {"uniform": [0, 0.3]},
        "optim.layer_decay": {"uniform": [0.6, 1]},
    }
    assert set(tune(space=space).space) == set(space)
    spec = load_spec({**copy.deepcopy(JOB), "tune": {"space": space}})
    made = with_values(spec, {path: axis["choice"][0] for path, axis in space.items() if "choice" in axis})
    assert (made.tune, made.schedule.weight.curve) == (None, "cosine")
    assert made.data.train == spec.data.train


def test_set_reaches_into_the_space() -> None:
    job = {**copy.deepcopy(JOB), "tune": {"space": RATIO}}
    found = load_spec(job, ["tune.space.optim.lr={loguniform: [1e-4, 1e-2]}", "tune.trials=3"]).tune
    assert found is not None
    assert (list(found.space), found.trials) == (["schedule.mix_ratio", "optim.lr"], 3)


@pytest.mark.parametrize(
    ("axis", "ends"),
    [
        ({"uniform": [2, 4]}, (2, 4)),
        ({"loguniform": [1e-4, 1e-2]}, (1e-4, 1e-2)),
        ({"int": [1, 3]}, (1, 3)),
        ({"choice": ["a", "b", "c"]}, ("a", "c")),
    ],
)
def test_an_axis_from_its_one_end_to_the_other(axis: dict[str, Any], ends: tuple[Any, Any]) -> None:
    found = Axis.model_validate(axis)
    assert found.at(0.0) == pytest.approx(ends[0])
    assert found.at(1 - 1e-12) == pytest.approx(ends[1])


def test_short_names_are_still_their_own() -> None:
    space = {"optim.lr": {"uniform": [0.1, 1]}, "schedule.weight.start": {"choice": [0.5]}}
    space["objective.mask_ratio"], space["objective.mix_mask_ratio"] = {"uniform": [0.1, 0.9]}, {"choice": [0.5]}
    assert list(tune(space=space).axes.values()) == ["lr", "start", "mask_ratio", "mix_mask_ratio"]


def test_the_names_of_searches_are_those_of_the_table() -> None:
    from raymix.search.points import POINTS

    assert set(POINTS) == set(SEARCHES)
