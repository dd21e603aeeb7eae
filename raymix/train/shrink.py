"""Parts of the backbone leave it at a step of the SL phase: they are masked from then on, on all ranks alike."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from raymix.method import draw, steps
from raymix.method.backbones import shrinking
from raymix.method.steps import Batch
from raymix.plan import Plan, Segment
from raymix.train.compiling import eager
from raymix.train.feed import Feed
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import autocast_dtype

NUM_BATCHES = 8  # of the job's own, whose losses say what matters


def shrink_if_due(plan: Plan, segment: Segment, state: TrainState, feed: Feed, runtime: Runtime) -> None:
    """Masks what `shrink` asks for before the first segment at or after its step, in place.

    What is masked is a function of weights and rows, so a run that is resumed before it masks the same, and one that is
    resumed after it has the masks from its checkpoint. Averaged weights have the same masks.
    """
    due, cut = plan.shrinks_at, plan.spec.shrink
    if due is None or cut is None or segment.start < due or shrinking.is_masked(state.model.f):
        return
    state.model.train()
    local = shrinking.gradients(state.model.f, _losses(plan, state, feed, runtime))
    ranks: list[list[np.ndarray]] = runtime.gather([of.numpy() for of in local])
    # the mean over the ranks is the gradient of the whole batch's loss
    found = [torch.from_numpy(np.mean(of, 0)) for of in zip(*ranks, strict=True)]
    for model in (state.model, state.averaged):
        if model is not None:
            shrinking.close(model.f, cut, found)


def _losses(plan: Plan, state: TrainState, feed: Feed, runtime: Runtime) -> Iterator[Tensor]:
    """Supervised losses of this rank's share of some batches, in no more memory than a part of a step takes."""
    step = steps.build(plan.spec, state.model, "sl", steps.class_weights(plan.spec, plan.facts, runtime.device))
    w, dtype = torch.zeros((), device=runtime.device), autocast_dtype(plan, runtime.device)
    if state.model.adapters is not None:
        state.model.adapters.show()
    for number in range(NUM_BATCHES):
        batch = feed.sample("sl", number)
        rows = max(1, len(batch.y_B) // plan.spec.optim.accumulate)
        part = Batch(batch.x_BSSC[:rows], batch.y_B[:rows], draw.as_tensor(batch.key_B)[:rows], batch.scale)
        with eager(), torch.autocast(runtime.device.type, dtype, enabled=dtype is not None):
            loss, _ = step(part, w)
            yield loss
