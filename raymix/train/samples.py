"""A few rows that were never trained on, as a report shows them: the image, and what the objective makes of it.

N rows, C channels, S pixels a side as stored, H W as shown.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raymix.data.splits import Splits
from raymix.method import draw
from raymix.method.objectives import View
from raymix.method.steps import Model, look
from raymix.method.views import Augment
from raymix.plan import Kind, Plan
from raymix.spec import MIX_KINDS
from raymix.train.compiling import eager
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import autocast_dtype
from raymix.train.task import Samples

NUM = 8  # rows
LARGEST_SIDE = 96  # pixels: the page with all of them stays below 2 MB


@torch.no_grad()
def samples(plan: Plan, state: TrainState, splits: Splits, runtime: Runtime) -> Samples | None:
    """Rows of val, or without val of select, spread over them, or a tile of each; None: there are none. For one rank.

    Nothing is changed. They are seen by the weights whose accuracy the run reports. Before any step with the
    objective's loss it has nothing to show, and before any with labels the classifier has not.
    """
    ids = splits.val if len(splits.val) else splits.select
    kinds = {kind for report in state.history.reports for kind, _ in report.segment.pattern}
    if not len(ids) or not kinds:
        return None
    ids = ids[np.unique(np.linspace(0, len(ids) - 1, NUM).round().astype(int))]
    tiles = ids * plan.facts.tiles + np.arange(len(ids)) % plan.facts.tiles  # of each image another one
    averaged = state.averaged if plan.spec.evaluate.weights == "ema" else None
    model = averaged or state.model
    model.eval()
    dtype = autocast_dtype(plan, runtime.device)
    with eager(), torch.autocast(runtime.device.type, dtype, enabled=dtype is not None):
        x_NSSC = torch.cat(list(runtime.supply.batches(tiles)))
        pictures = {"image": _shown(model.a, model.a.clean(x_NSSC))}
        if kinds & {"ssl", *MIX_KINDS}:
            rows_N = torch.from_numpy(tiles).to(runtime.device)
            key_N = draw.keys(plan.spec.seed, torch.zeros_like(rows_N), rows_N)
            found = _of_objective(plan, model, x_NSSC, key_N, "ssl" if "ssl" in kinds else "mix")
            pictures |= {name: _shown(model.a, x_NCHW) for name, x_NCHW in found.items()}
        predicted = model.classify(x_NSSC).argmax(1).cpu().numpy() if kinds - {"ssl"} else None
    return Samples(splits.labels[ids], predicted, pictures)


def _of_objective(plan: Plan, model: Model, x_NSSC: Tensor, key_N: Tensor, kind: Kind) -> dict[str, Tensor]:
    """What the objective shows of its work on these images, as its steps see them."""
    passes = plan.spec.passes(model.f.drops)
    whole = (passes.mix if kind == "mix" and passes.mix != "separate" else passes.ssl) == "full"
    m, f = model.m if whole else None, model.up_to(on=False)

    def see(view: View) -> Tensor:
        return look(f, view, m)[0]

    return model.g.pictures(x_NSSC, model.a.clean(x_NSSC), key_N, see, kind)


def _shown(augment: Augment, x_NCHW: Tensor) -> np.ndarray:
    """Normalised images as uint8 (N, H, W, C), no side above LARGEST_SIDE."""
    pixels_NCHW = x_NCHW.float() * augment.std_C11 + augment.mean_C11
    if max(pixels_NCHW.shape[2:]) > LARGEST_SIDE:
        pixels_NCHW = F.interpolate(pixels_NCHW, (LARGEST_SIDE, LARGEST_SIDE), mode="area")
    shown: np.ndarray = pixels_NCHW.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return shown
