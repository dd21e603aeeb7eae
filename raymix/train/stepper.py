"""One optimizer step of each kind: written once, then called as it is or recorded and replayed as a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymix.failing.pulse import Pulse
from raymix.method import draw, optim, steps
from raymix.method.steps import Batch
from raymix.plan import SL_KINDS, Kind, Plan
from raymix.train.averaging import Averaging
from raymix.train.device import quicken
from raymix.train.guard import Guard
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState

WARM_UPS = 2


@dataclass
class Stepper:
    """The steps of a run, ready to be called.

    Attributes:
        updates: forward, backward and optimizer, by kind; they read `lr` and `w`, which lie on the device.
        recorded: the same as CUDA graphs, once `record` was called.
        draws: whether each step draws its own random numbers; else many steps' are drawn at once (`draw.Keys`), which
            saves launches where nothing is compiled.
        guard: leaves out steps that are not finite, where a job asks for that.
    """

    updates: dict[Kind, Update]
    lr: Tensor  # the optimizer's own
    w: Tensor
    device: torch.device
    draws: bool
    recorded: dict[Kind, _Recorded]
    pulse: Pulse
    guard: Guard | None = None
    _room: _Room | None = None  # where recorded steps compute

    def __call__(self, kind: Kind, batch: Batch, lr: Tensor, w: Tensor) -> Tensor:
        """One optimizer step; returns its statistics (3,), still on the device, until the next step of this kind."""
        self.pulse.moves += 1
        if kind in self.recorded:
            return self.recorded[kind](batch, lr, w)
        self.lr.copy_(lr)
        self.w.copy_(w)
        return self.updates[kind](Batch(*_tensors(batch)) if self.draws else batch)

    def record(self, samples: dict[Kind, Batch]) -> None:
        """Records every kind as a CUDA graph; all share one pool of memory, since one runs at a time."""
        assert self._room is not None, "these steps were made to be called as they are"
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # what warming up took is taken again by the pool
        for kind, sample in samples.items():
            self.recorded[kind] = _Recorded(self.updates[kind], sample, self.lr, self.w, self._room)
        quicken()

    @contextmanager
    def warming(self) -> Iterator[None]:
        """For the steps before `record`, on the stream that it records on: cuBLAS keeps a workspace for each stream."""
        if self._room is None:
            yield
            return
        with self._room.current():
            yield

    @contextmanager
    def between(self) -> Iterator[None]:
        """For work between steps: it computes in the memory that recorded steps use while they run.

        Tensors made within do not outlive it: the next step writes over them.
        """
        if self._room is None:
            yield
            return
        with self._room.current(), torch.cuda.use_mem_pool(self._room.pool):
            yield


@dataclass
class Update:
    """What one step does to the state: forward and backward of each part of the batch, then the optimizer."""

    module: nn.Module
    state: TrainState
    w: Tensor
    autocast: torch.dtype | None
    accumulate: int
    clip: float | None
    decay: float  # of the averaged weights
    is_sl: bool  # a step of the SL phase: optim.layer_decay and lora apply
    guard: Guard | None
    losses: tuple[bool, bool]  # whether it has an SSL loss and a supervised one
    averaging: Averaging | None  # of gradients over all ranks, where `module` does not

    def __call__(self, batch: Batch) -> Tensor:
        """Changes the state; returns the step's statistics (3,), on the device."""
        total: Tensor | None = None
        if self.state.model.adapters is not None:
            self.state.model.adapters.learn(self.is_sl)
        if self.guard is not None:
            self.guard.begin()
        for part, last in _parts(batch, self.accumulate):
            with self._backward(last):
                with torch.autocast(batch.y_B.device.type, self.autocast, enabled=self.autocast is not None):
                    loss, stats = self.module(part, self.w)
                if self.guard is not None:
                    loss = self.guard.marked(loss)
                (loss / self.accumulate if self.accumulate > 1 else loss).backward()
            total = stats if total is None else total + stats
        assert total is not None
        self._optimize()
        if self.accumulate > 1:  # the losses are means, the hits a sum
            total[:2] /= self.accumulate
        return total if self.guard is None else self.guard.counted(total, batch.scale, *self.losses)

    def _optimize(self) -> None:
        state, norm = self.state, None
        if self.clip is not None:
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), self.clip, foreach=True)
        optim.set_rates(state.optimizer, self.is_sl)
        if self.guard is None:
            state.optimizer.step()
        else:
            self.guard.judge(norm)
            self.guard.optimize()
        state.optimizer.zero_grad(set_to_none=True)
        if state.averaged is not None:
            new = 1 - self.decay if self.guard is None else self.guard.unless(1 - self.decay)
            optim.average(list(state.averaged.parameters()), list(state.model.parameters()), new)

    def _backward(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over the ranks once, with those of the last part."""
        if last and self.averaging is not None:
            return self.averaging.backward()
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        context: AbstractContextManager[None] = self.module.no_sync()
        return context


class _Room:
    """The memory that recorded steps share, and the stream that they were recorded on, to which free parts belong."""

    def __init__(self) -> None:
        self.pool = torch.cuda.MemPool()
        self.stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    @contextmanager
    def current(self) -> Iterator[None]:
        """Its stream is the current one, after what was asked of the one before, which then waits for it."""
        now = torch.cuda.current_stream()
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            yield
        now.wait_stream(self.stream)


class _Recorded:
    """A step as a CUDA graph, which reads its batch from where the sample was when it was recorded."""

    def __init__(self, update: Update, sample: Batch, lr: Tensor, w: Tensor, room: _Room) -> None:
        x_BSSC, y_B, key_B, scale = (value.clone() for value in _tensors(sample))
        self._x_BSSC, self._counts, self._factors = x_BSSC, [y_B, key_B], [lr, w, scale]
        self._graph = torch.cuda.CUDAGraph()
        # other threads go on, NCCL's that looks after former collectives for one
        pool: Any = room.pool.id
        with torch.cuda.graph(self._graph, pool, room.stream, capture_error_mode="thread_local"):
            stats = update(Batch(x_BSSC, y_B, key_B, scale))
        self._stats = stats

    def __call__(self, batch: Batch, lr: Tensor, w: Tensor) -> Tensor:
        x_BSSC, y_B, key_B, scale = _tensors(batch)
        self._x_BSSC.copy_(x_BSSC)
        torch._foreach_copy_(self._counts, [y_B, key_B])  # a launch a type, as small steps wait for each
        torch._foreach_copy_(self._factors, [lr, w, scale])
        self._graph.replay()
        return self._stats


def _built(plan: Plan, state: TrainState, kind: Kind, device: torch.device) -> nn.Module:
    """The step of a kind; what it trains needs a gradient, and nothing else in it, which is all that DDP looks at."""
    if state.model.adapters is not None:
        state.model.adapters.learn(kind in SL_KINDS)
    return steps.build(plan.spec, state.model, kind, steps.class_weights(plan.spec, plan.facts, device))


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The batch with its keys as they are."""
    return batch.x_BSSC, batch.y_B, draw.as_tensor(batch.key_B), batch.scale


def _parts(batch: Batch, num: int) -> Iterator[tuple[Batch, bool]]:
    """`num` consecutive parts, and whether each is the last.

    A part's loss is divided by `num`, so its scale, which makes a share of the whole batch's mean, is multiplied.
    """
    if num == 1:
        yield batch, True
        return
    x_BSSC, y_B, key_B, scale = _tensors(batch)
    pieces = zip(x_BSSC.chunk(num), y_B.chunk(num), key_B.chunk(num), strict=True)
    for number, (x, y, key) in enumerate(pieces, 1):
        yield Batch(x, y, key, scale * num), number == num


def autocast_dtype(plan: Plan, device: torch.device) -> torch.dtype | None:
    """bf16 where the job asks for it or, under `auto`, on a GPU."""
    return dtype_of(plan.spec.optim.precision, device)


def dtype_of(precision: str, device: torch.device) -> torch.dtype | None:
    """What products are computed in under `optim.precision`; None: in fp32."""
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and device.type == "cuda") else None


def stepper(
    plan: Plan,
    kinds: tuple[Kind, ...],
    state: TrainState,
    runtime: Runtime,
    draws: bool = False,
    recorded: bool = False,
) -> Stepper:
    """The steps of `kinds` over all ranks, not yet recorded.

    `recorded`: they will be. DDP, a set of buckets and hooks for each kind, is then left out for `Averaging`.
    """
    device, asked = runtime.device, plan.spec.optim
    w = torch.zeros((), device=device)
    decay = optim.decay_of(asked.ema, plan.num_steps) if asked.ema is not None else 0.0
    autocast = autocast_dtype(plan, device)
    guard = Guard(state, runtime.world) if plan.spec.failures.not_finite == "skip" else None
    updates = {
        kind: Update(
            step if recorded else runtime.wrap(step),
            state, w, autocast, asked.accumulate, asked.clip, decay, kind in SL_KINDS,
            guard, (plan.spec.has_ssl_loss(kind), kind != "ssl"),
            Averaging(state.model, runtime) if recorded and runtime.world > 1 else None,
        )
        for kind in kinds
        for step in [_built(plan, state, kind, device)]
    }  # fmt: skip
    rate = state.optimizer.param_groups[0]["lr"]
    room = _Room() if recorded and device.type == "cuda" else None
    return Stepper(updates, rate, w, device, draws, {}, runtime.pulse, guard, room)
