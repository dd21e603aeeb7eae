"""raymix's own steps in a loop that is not raymix's: with the same images and keys they give the same weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_runs import CPU, Digits, trained
from torch.utils.data import DataLoader, TensorDataset

from raymix.method import draw, optim, steps
from raymix.method.steps import Batch, Model
from raymix.plan import positions
from raymix.schedule import Schedule
from raymix.train.state import TrainState


@pytest.mark.parametrize("interleave", ["joint", "alternate"])
def test_the_same_weights_as_raymix(digits: Callable[..., Digits], interleave: str) -> None:
    asked = digits(schedule={"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 0.5, "interleave": interleave})
    plan, spec, ids = asked.plan, asked.plan.spec, asked.splits.train
    state = asked.state()
    trained(asked, state, asked.runtime())

    schedule, labels = Schedule.from_plan(plan), asked.splits.labels[ids]
    data = TensorDataset(
        torch.from_numpy(asked.images.pixels[asked.images.slots[ids]]),
        torch.from_numpy(labels),
        torch.from_numpy(ids),
    )
    model: Model = TrainState.fresh(plan, CPU).model.train()
    modules = {kind: steps.build(spec, model, kind) for kind in plan.kinds}
    optimizer = optim.build(model, spec.optim)
    loader = DataLoader(data, batch_sampler=schedule.batches(labels, seed=spec.seed))
    for step, (x_BSSC, y_B, row_B) in zip(schedule, loader, strict=True):
        [(stream, rows)] = step.rows.items()
        num_rows = len(ids) if stream == "all" else int((labels >= 0).sum())
        epoch_B = (positions(plan, step.number)[stream] + torch.arange(rows)) // num_rows
        scale = 1 / (y_B >= 0).sum().clamp(min=1)
        batch = Batch(x_BSSC, y_B, draw.keys(spec.seed, epoch_B, row_B), scale)
        loss, _ = modules[step.kind](batch, torch.tensor(step.weight))
        loss.backward()
        optimizer.param_groups[0]["lr"].fill_(step.lr)
        optimizer.step()
        optimizer.zero_grad()
    assert len(schedule) > 20
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state.model.state_dict()[name], rtol=1e-6, atol=1e-7, msg=name)
