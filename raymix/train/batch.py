"""`optim.batch: auto`: the largest batch whose steps fit into the GPU's memory."""

from __future__ import annotations

import gc

import torch

from raymix.data.splits import Splits
from raymix.method.backbones import How
from raymix.plan import Plan, resolve
from raymix.train import compiling
from raymix.train.feed import Feed
from raymix.train.measure import synchronise
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import stepper

SHARE = 0.9  # of the GPU's memory that steps and images may take; the rest is for what the allocator loses
_FIRST = 32  # images a worker that are tried first
_SHRINK = 0.85  # of a batch that did not fit
_MULTIPLE = 8  # images a worker and part: matrix units like it


def largest(plan: Plan, splits: Splits, runtime: Runtime, how: How, ceiling: int) -> int:
    """The largest batch over all ranks, up to `ceiling`, of which every step kind of the plan fits on every rank.

    Memory grows about linearly with the batch: two small ones say how large it can be, and that is tried. Nothing
    is compiled for it, since compiled steps take less.

    Raises:
        torch.OutOfMemoryError: not even the first fits.
    """
    unit = runtime.world * plan.spec.optim.accumulate
    small = max(unit, min(_FIRST * unit, ceiling // unit * unit))
    if 2 * small > ceiling:
        return small
    limit = _limit(runtime)
    first, second = (_peak(plan, splits, runtime, how, batch) for batch in (small, 2 * small))
    if first is None or second is None:
        raise torch.OutOfMemoryError(f"a batch of {2 * small} does not fit into the GPU's memory")
    slope = max(1.0, (second - first) / small)
    batch = min(ceiling, small + int((limit - first) / slope))
    while True:
        batch = max(2 * small, batch // (unit * _MULTIPLE) * unit * _MULTIPLE)
        peak = second if batch == 2 * small else _peak(plan, splits, runtime, how, batch)
        if (peak is not None and peak <= limit) or batch == 2 * small:
            return batch
        batch = int(batch * _SHRINK)


def _peak(plan: Plan, splits: Splits, runtime: Runtime, how: How, batch: int) -> int | None:
    """Bytes that a step of each kind takes at most, on the rank that takes most; None: it does not fit.

    0 on CPUs, where nothing is measured.
    """
    spec = plan.spec.model_copy(update={"optim": plan.spec.optim.model_copy(update={"batch": batch})})
    asked = resolve(spec, plan.facts)
    on_gpu = runtime.device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        _try(asked, splits, runtime, how)
        mine = torch.cuda.max_memory_reserved() if on_gpu else 0
    except torch.OutOfMemoryError:
        mine = None
    everywhere = runtime.gather(mine)
    return None if None in everywhere else max(everywhere)


def fits(plan: Plan, splits: Splits, runtime: Runtime, how: How, batch: int) -> bool:
    """Whether every step kind of the plan fits with such a batch, on every rank; on CPUs, whether it is computed."""
    peak = _peak(plan, splits, runtime, how, batch)
    return peak is not None and (runtime.device.type != "cuda" or peak <= _limit(runtime))


def _limit(runtime: Runtime) -> float:
    return SHARE * torch.cuda.get_device_properties(runtime.device).total_memory


def _try(plan: Plan, splits: Splits, runtime: Runtime, how: How) -> None:
    state = TrainState.fresh(plan, runtime.device, how)
    compiling.apply(plan.spec.speed.model_copy(update={"compile": "off"}), state.model, runtime.device, runtime.world)
    state.model.train()
    feed, step = Feed(plan, splits, runtime), stepper(plan, plan.kinds, state, runtime)
    try:
        for kind in plan.kinds:
            step(kind, feed.sample(kind), torch.zeros(()), torch.full((), 0.5))
        synchronise(runtime.device)
    finally:
        feed.close()
