"""What prepare measures beside the steps, and that the state is as it was after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Digits

from raymix.report import work
from raymix.train import measure
from raymix.train.checkpoint import names, snapshot, write
from raymix.train.feed import Feed
from raymix.train.prepare import prepare
from raymix.train.supply import Supply

Make = Callable[..., Digits]
RESNET: dict[str, Any] = {"type": "timm", "name": "resnet10t", "args": {"channels": [8, 8, 16, 16]}}


class Watched:
    """A supply that keeps which rows it was asked for on their own."""

    def __init__(self, supply: Supply) -> None:
        self.supply, self.asked = supply, list[int]()

    def batches(self, ids: np.ndarray, *most: int) -> Any:
        self.asked += ids.tolist()
        return self.supply.batches(ids, *most)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.supply, name)


def prepared(digits: Digits, folder: Path | None = None) -> tuple[Any, Any, Watched]:
    runtime, state = digits.runtime(), digits.state()
    watched = Watched(runtime.supply)
    runtime.supply = watched  # type: ignore[assignment]
    feed = Feed(digits.plan, digits.splits, runtime)
    _, rates = prepare(digits.plan, digits.plan.kinds, state, feed, runtime, None, checkpoints=folder)
    return rates, state, watched


def test_rates_hold_flops_evaluation_and_checkpoints(digits: Make, tmp_path: Path) -> None:
    made = digits()
    rates, _, _ = prepared(made, tmp_path)
    assert rates.step_flops == {
        kind: work.step_flops(made.plan.spec, made.plan.facts.num_classes, kind) for kind in made.plan.kinds
    }
    assert 0 < rates.row_seconds < rates.step_seconds["sl"]
    assert 0 < rates.checkpoint_seconds < 5
    assert rates.source == "measured"


def test_the_trial_checkpoint_is_taken_away_and_no_folder_costs_nothing(digits: Make, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (folder / measure._TRIAL / "step-000000000").mkdir(parents=True)  # left by a process that was killed
    prepared(digits(), folder)
    assert list(folder.iterdir()) == []
    rates, state, _ = prepared(digits())
    assert rates.checkpoint_seconds == 0
    (folder / measure._TRIAL).mkdir()
    write(folder, snapshot(state, "run"))
    assert [path.name for path in folder.iterdir()] == names(folder), "the next checkpoint clears it away"


def test_only_training_rows_are_looked_at(digits: Make) -> None:
    made = digits()
    _, _, watched = prepared(made)
    assert set(watched.asked) <= set(made.splits.train.tolist())
    assert watched.asked


@pytest.mark.parametrize(
    "backbone", [{"size": "nano", "patch": 2}, {**RESNET, "args": {"drop_rate": 0.1, **RESNET["args"]}}]
)
def test_state_mode_and_random_numbers_stay(digits: Make, tmp_path: Path, backbone: dict[str, Any]) -> None:
    made = digits(backbone=backbone, objective={"type": "simclr"})
    runtime, state = made.runtime(), made.state()
    before = state.snapshot()
    measured = measure.row_seconds(made.plan, state.model.train(), made.splits, runtime)
    assert measured > 0
    assert state.model.training
    _, after, _ = prepared(made, tmp_path)
    assert after.model.training
    for now in (state, after):
        assert all(torch.equal(value, before[name]) for name, value in now.tensors().items()), "BatchNorm's included"


def test_of_other_backbones_flops_are_counted_only_where_they_are_wanted(digits: Make) -> None:
    made = digits(backbone=RESNET, objective={"type": "simclr"})
    model = made.state().model
    assert measure.flops(made.plan, model, ("sl",), count=False) == {}
    assert measure.flops(made.plan, model, ("sl",), count=True)["sl"] > 0
