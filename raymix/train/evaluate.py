"""Which rows of a split the model classifies rightly."""

from __future__ import annotations

import numpy as np
import torch

from raymix.data.splits import Splits
from raymix.method.steps import Model
from raymix.plan import Plan
from raymix.spec import Weights
from raymix.train.compiling import eager
from raymix.train.norm import settle
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import autocast_dtype
from raymix.train.supply import EVAL_BATCH

FEWEST = 64  # rows at once, however small the steps are


@torch.no_grad()
def evaluate(plan: Plan, model: Model, ids: np.ndarray, labels: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Whether each row of `ids` is classified rightly, bool (len(ids),), on every rank; each rank computes its share.

    `labels` are those of all rows, by row id. The model is left in evaluation mode, and not changed.
    """
    model.eval()
    mine = ids[runtime.rank :: runtime.world]
    truth, done = torch.from_numpy(labels[mine]).to(runtime.device), 0
    dtype, parts = autocast_dtype(plan, runtime.device), []
    with eager(), torch.autocast(runtime.device.type, dtype, enabled=dtype is not None):
        for x_BSSC in runtime.supply.batches(mine, _at_once(plan, runtime.world)):
            runtime.pulse.moves += 1
            logits = model.classify(x_BSSC)
            parts.append(logits.argmax(1) == truth[done : done + len(x_BSSC)])
            done += len(x_BSSC)
    local = torch.cat(parts).cpu().numpy() if parts else np.zeros(0, dtype=bool)
    correct = np.zeros(len(ids), dtype=bool)
    for rank, part in enumerate(runtime.gather(local)):
        correct[rank :: runtime.world] = part
    return correct


def _at_once(plan: Plan, world: int) -> int:
    """Rows: half of what a pass of a step has on a rank, for which its memory serves.

    A masked step's parts are smaller than those of a pass over all patches, and memory is kept in the step's parts.
    """
    return min(EVAL_BATCH, max(FEWEST, plan.spec.batch // 2 // world // plan.spec.optim.accumulate))


def settle_all(plan: Plan, state: TrainState, splits: Splits, runtime: Runtime) -> None:
    """BatchNorm's running statistics, where there are any, as the present weights have them; see `norm.settle`."""
    for model in (state.model, state.averaged):
        if model is not None:
            settle(plan, model, splits.train, runtime)


def evaluate_all(
    plan: Plan, state: TrainState, splits: Splits, ids: np.ndarray, runtime: Runtime
) -> dict[Weights, np.ndarray]:
    """`evaluate` of the weights as they are (raw) and, where the job asks for them, of the averaged ones (ema)."""
    found: dict[Weights, np.ndarray] = {"raw": evaluate(plan, state.model, ids, splits.labels, runtime)}
    if state.averaged is not None:
        found["ema"] = evaluate(plan, state.averaged, ids, splits.labels, runtime)
    return found
