"""Before the first step after any start: wrap, warm up and time every step kind, then put everything back.

Plain DDP rebuilds its gradient buckets after its first backward, so with three or more ranks a fresh wrapper differs
from a used one in the last bits: the discarded pass makes a restarted group compute what the unbroken one would have.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from raymix.plan import Kind, Plan
from raymix.report.history import Rates
from raymix.train import compiling, measure
from raymix.train.device import name_of
from raymix.train.feed import Feed
from raymix.train.profile import profile
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import WARM_UPS, Stepper, stepper


def prepare(
    plan: Plan,
    kinds: tuple[Kind, ...],
    state: TrainState,
    feed: Feed,
    runtime: Runtime,
    rates: Rates | None,
    profiled: bool = False,
    folder: Path | None = None,
    checkpoints: Path | None = None,
    count: bool = False,
) -> tuple[Stepper, Rates]:
    """The steps, compiled, warmed up and recorded, and what each costs; measured unless `rates` are given.

    The state stays as it was. `profiled`: a trace of each kind is left in `folder` by the rank that has one.
    `checkpoints`: where the rank that has it tries how long one takes. `count`: FLOPs are wanted even where it takes
    half a second a kind to count them.
    """
    started = time.perf_counter()
    flops = {} if rates else measure.flops(plan, state.model, kinds, count)  # before the model is compiled
    compiling.apply(plan.spec.speed, state.model, runtime.device, runtime.world)
    replay = _replays(plan, runtime) and not (plan.spec.speed.recompute and compiling.draws(state.model))
    draws = replay or compiling.mode_of(plan.spec.speed, runtime.device) != "off"
    saved, step = state.snapshot(), stepper(plan, kinds, state, runtime, draws, replay)
    state.model.train()
    batches = {kind: feed.sample(kind) for kind in kinds}
    lr, w = torch.zeros((), device=runtime.device), torch.full((), 0.5, device=runtime.device)
    with step.warming():
        for kind in kinds:
            for _ in range(WARM_UPS):
                step(kind, batches[kind], lr, w)
    if replay:
        step.record(batches)
    measured = {} if rates else measure.step_seconds(step, batches, lr, w, runtime)
    if profiled:
        profile(step, batches, folder)
    state.load(saved)
    if rates is None:
        with step.between():
            row_seconds = measure.row_seconds(plan, state.model, feed.splits, runtime)
        rates = Rates(
            step_seconds=measured,
            step_flops=flops,
            row_seconds=row_seconds,
            checkpoint_seconds=measure.checkpoint_seconds(state, checkpoints, runtime),
            workers=runtime.world,
            device=name_of(runtime.device),
        )
    seconds = max(runtime.gather(time.perf_counter() - started))
    return step, rates.model_copy(update={"prepare_seconds": seconds})


def _replays(plan: Plan, runtime: Runtime) -> bool:
    """Whether steps are recorded."""
    return runtime.device.type == "cuda" and plan.spec.speed.replay != "off"
