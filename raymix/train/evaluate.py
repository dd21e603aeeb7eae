"""Which rows of a split the model classifies rightly."""

from __future__ import annotations

import numpy as np
import torch

from raymix.plan import Plan
from raymix.train.prepare import autocast_dtype
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState


@torch.no_grad()
def evaluate(plan: Plan, state: TrainState, ids: np.ndarray, labels: np.ndarray, runtime: Runtime) -> np.ndarray:
    """Whether each row of `ids` is classified rightly, bool (len(ids),), on every rank; each rank computes its share.

    `labels` are those of all rows, by row id. The state is not changed.
    """
    state.model.eval()
    mine = ids[runtime.rank :: runtime.world]
    truth, done = torch.from_numpy(labels[mine]).to(runtime.device), 0
    dtype, parts = autocast_dtype(plan, runtime.device), []
    with torch.autocast(runtime.device.type, dtype, enabled=dtype is not None):
        for x_BSSC in runtime.supply.batches(mine):
            logits = state.model.classify(x_BSSC)
            parts.append(logits.argmax(1) == truth[done : done + len(x_BSSC)])
            done += len(x_BSSC)
    local = torch.cat(parts).cpu().numpy() if parts else np.zeros(0, dtype=bool)
    correct = np.zeros(len(ids), dtype=bool)
    for rank, part in enumerate(runtime.gather(local)):
        correct[rank :: runtime.world] = part
    return correct
