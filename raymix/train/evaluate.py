"""Which rows of a split the model classifies rightly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raymix.data.splits import Splits
from raymix.data.tiles import tiles_of
from raymix.method.steps import Model
from raymix.method.tiles import logits_of_images
from raymix.plan import Plan
from raymix.report.scoring import COUNTS
from raymix.spec import TOP, Metric, Weights
from raymix.train.compiling import eager
from raymix.train.norm import settle
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import autocast_dtype
from raymix.train.supply import EVAL_BATCH

FEWEST = 64  # rows at once, however small the steps are


class Answers(NamedTuple):
    """What a model says of N rows."""

    correct: np.ndarray  # bool (N,), whether a row is classified rightly
    counts: np.ndarray | None  # float64 (N,), what it counts by the metric; None: 1 where it is right, else 0

    @property
    def judged(self) -> np.ndarray:
        """What `raymix.report.judging.Judged` scores."""
        return self.correct if self.counts is None else self.counts


@torch.no_grad()
def evaluate(plan: Plan, model: Model, ids: np.ndarray, labels: np.ndarray, runtime: Runtime) -> Answers:
    """What the model says of the rows `ids`, on every rank; each rank computes its share.

    With tiles it says it of the image, as `raymix.method.tiles` pools them. `labels` are those of all rows, by row id.
    The model is left in evaluation mode, and not changed.
    """
    model.eval()
    mine, num_tiles = ids[runtime.rank :: runtime.world], plan.facts.tiles
    at_once = _at_once(plan, runtime.world)
    whole = max(1, at_once // num_tiles) * num_tiles  # tiles of one image come together
    truth, done = torch.from_numpy(labels[mine]).to(runtime.device), 0
    dtype, parts, metric = autocast_dtype(plan, runtime.device), list[Tensor](), plan.spec.metric
    with eager(), torch.autocast(runtime.device.type, dtype, enabled=dtype is not None):
        for x_BSSC in runtime.supply.batches(tiles_of(mine, num_tiles), whole):
            runtime.pulse.moves += 1
            tiles = torch.cat([model.classify(x_bSSC) for x_bSSC in torch.split(x_BSSC, at_once)])
            logits = logits_of_images(tiles, plan.spec.data.tile)
            parts.append(_told(logits, truth[done : done + len(logits)], metric))
            done += len(logits)
    local = torch.cat(parts).cpu().numpy() if parts else None
    ranks = [part for part in runtime.gather(local) if part is not None]
    told = np.empty((len(ids), ranks[0].shape[1] if ranks else 1), ranks[0].dtype if ranks else bool)
    for rank, part in enumerate(ranks):  # those without rows are the last ones
        told[rank :: runtime.world] = part
    correct = told[:, 0].astype(bool)
    if (count := COUNTS.get(metric)) is not None:
        return Answers(correct, count(told[:, 1:], labels[ids], plan.spec.report, plan.facts.class_names))
    return Answers(correct, told[:, 1].astype(np.float64) if metric == "top5" and ranks else None)


def _told(logits_BC: Tensor, truth_B: Tensor, metric: Metric) -> Tensor:
    """Of each row whether it is right, and what the metric needs: whether it is among the first, or all probabilities.

    (B, columns), bool or float32.
    """
    right_B1 = logits_BC.argmax(1, keepdim=True) == truth_B[:, None]
    if metric == "top5":
        among_B1 = (logits_BC.topk(TOP, 1).indices == truth_B[:, None]).any(1, keepdim=True)
        return torch.cat((right_B1, among_B1), 1)
    if metric in COUNTS:
        return torch.cat((right_B1, logits_BC.float().softmax(1)), 1)
    return right_B1


def _at_once(plan: Plan, world: int) -> int:
    """Rows: half of what a pass of a step has on a rank, for which its memory serves.

    A masked step's parts are smaller than those of a pass over all patches, and memory is kept in the step's parts.
    """
    return min(EVAL_BATCH, max(FEWEST, plan.spec.batch // 2 // world // plan.spec.optim.accumulate))


def settle_all(plan: Plan, state: TrainState, splits: Splits, runtime: Runtime) -> None:
    """BatchNorm's running statistics, where there are any, as the present weights have them; see `norm.settle`."""
    for model in (state.model, state.averaged):
        if model is not None:
            settle(plan, model, tiles_of(splits.train, plan.facts.tiles), runtime)


def evaluate_all(
    plan: Plan, state: TrainState, splits: Splits, ids: np.ndarray, runtime: Runtime
) -> dict[Weights, Answers]:
    """`evaluate` of the weights as they are (raw) and, where the job asks for them, of the averaged ones (ema)."""
    found: dict[Weights, Answers] = {"raw": evaluate(plan, state.model, ids, splits.labels, runtime)}
    if state.averaged is not None:
        found["ema"] = evaluate(plan, state.averaged, ids, splits.labels, runtime)
    return found
