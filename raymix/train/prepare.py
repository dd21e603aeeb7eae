"""Before the first step after any start: wrap, warm up and time every step kind, then put everything back.

Plain DDP rebuilds its gradient buckets after its first backward, so with three or more ranks a fresh wrapper differs
from a used one in the last bits: the discarded pass makes a restarted group compute what the unbroken one would have.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raymix.method import steps
from raymix.method.steps import Batch
from raymix.plan import Kind, Plan
from raymix.report.history import Rates
from raymix.train.feed import Feed
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState

WARM_UPS = 2
TIMED = 9
TIMED_SECONDS = 5.0  # of all kinds together; slow steps are timed less often


@dataclass
class Stepper:
    """The wrapped steps of a run, ready to be called."""

    modules: dict[Kind, nn.Module]
    optimizer: torch.optim.AdamW
    lr: Tensor  # the optimizer's own, on the device
    autocast: torch.dtype | None
    device: torch.device

    def __call__(self, kind: Kind, batch: Batch, lr: Tensor, w: Tensor) -> Tensor:
        """One optimizer step; returns its statistics (3,), still on the device."""
        self.lr.copy_(lr)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss, stats = self.modules[kind](batch, w)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        result: Tensor = stats
        return result


def autocast_dtype(plan: Plan, device: torch.device) -> torch.dtype | None:
    """bf16 where the job asks for it or, under `auto`, on a GPU."""
    precision = plan.spec.optim.precision
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and device.type == "cuda") else None


def stepper(plan: Plan, kinds: tuple[Kind, ...], state: TrainState, runtime: Runtime) -> Stepper:
    """The steps of `kinds`, wrapped for all ranks."""
    modules = {kind: runtime.wrap(steps.build(plan.spec, state.model, kind)) for kind in kinds}
    lr = state.optimizer.param_groups[0]["lr"]
    return Stepper(modules, state.optimizer, lr, autocast_dtype(plan, runtime.device), runtime.device)


def prepare(
    plan: Plan, kinds: tuple[Kind, ...], state: TrainState, feed: Feed, runtime: Runtime, rates: Rates | None
) -> tuple[Stepper, Rates]:
    """The steps, warmed up, and what each costs; measured unless `rates` are given. The state stays as it was."""
    started = time.perf_counter()
    saved, step = state.snapshot(), stepper(plan, kinds, state, runtime)
    state.model.train()
    batches = {kind: feed.sample(kind) for kind in kinds}
    lr, w = torch.zeros((), device=runtime.device), torch.full((), 0.5, device=runtime.device)
    for kind in kinds:
        for _ in range(WARM_UPS):
            step(kind, batches[kind], lr, w)
    measured = {} if rates else _time(step, batches, lr, w, runtime)
    state.load(saved)
    if rates is None:
        rates = Rates(step_seconds=measured)
    seconds = max(runtime.gather(time.perf_counter() - started))
    return step, rates.model_copy(update={"prepare_seconds": seconds})


def _time(step: Stepper, batches: dict[Kind, Batch], lr: Tensor, w: Tensor, runtime: Runtime) -> dict[Kind, float]:
    """Median seconds of a step of each kind, measured alone and in turns; the mean over ranks."""
    num = 4 if runtime.device.type == "cuda" else 1  # a GPU is timed over a few steps, so that launches overlap
    once = {kind: _seconds(step, kind, batch, lr, w, num) for kind, batch in batches.items()}
    slowest = max(runtime.gather(sum(once.values()) * num))
    rounds = max(1, min(TIMED, int(TIMED_SECONDS / max(slowest, 1e-6))))
    samples: dict[Kind, list[float]] = {kind: [] for kind in batches}
    for _ in range(rounds):
        for kind, batch in batches.items():
            samples[kind].append(_seconds(step, kind, batch, lr, w, num))
    medians = {kind: statistics.median(values) for kind, values in samples.items()}
    everywhere = runtime.gather(medians)
    return {kind: statistics.fmean(rank[kind] for rank in everywhere) for kind in batches}


def _seconds(step: Stepper, kind: Kind, batch: Batch, lr: Tensor, w: Tensor, num: int) -> float:
    synchronise(step.device)
    started = time.perf_counter()
    for _ in range(num):
        step(kind, batch, lr, w)
    synchronise(step.device)
    return (time.perf_counter() - started) / num


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
