"""Ranks over gloo in processes of their own: a Runtime as Ray's workers have it, without Ray."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from normed import model_of
from planted import PLAIN, whitened
from small_runs import CPU, Digits, Watcher, trained
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymix.local import LocalRuntime
from raymix.method.backbones import How
from raymix.train.cache import Cache
from raymix.train.execute import execute
from raymix.train.norm import settle
from raymix.train.state import TrainState
from raymix.train.task import Task
from tests.planted import FACTORY, backbone

NUM = 3
SIMCLR = {"type": "simclr", "projector_width": 32, "output_width": 16}
RUNS: dict[str, dict[str, Any]] = {
    "mae masked": {},
    "mae full, sl_drop": {"schedule": {"shared_pass": "full", "sl_drop": 0.5}},
    "mae, whole rows, decoded from a block": {
        "objective": {"type": "mae", "mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1, "decode_from": 2},
        "schedule": {"whole_rows": 0.5},
    },
    "mae separate": {"schedule": {"shared_pass": "separate"}},
    "mae masked, in parts, clipped": {"optim": {"accumulate": 2, "clip": 0.5, "ema": "10%"}},
    "mae full, in parts, averaged at once": {
        "schedule": {"shared_pass": "full"},
        "optim": {"accumulate": 2, "clip": 0.5},
    },
    "adapted, to be shrunk": {"lora": {"rank": 2}, "shrink": {"mlp": 0.5, "heads": 0.25}},
    "simclr full": {"objective": SIMCLR},
    "simclr separate": {"objective": SIMCLR, "schedule": {"shared_pass": "separate"}},
    "skips": {
        "backbone": backbone(bad="forward", norm=False),
        "data": {"augment": PLAIN},
        "failures": {"not_finite": "skip"},
        "optim": {"ema": "10%"},
    },
}


def asked(job: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Three steps of ssl, six of mix and three of sl."""
    schedule = {"ssl_epochs": 1.5, "sl_epochs": 7, "mix_ratio": 1 / 7, **sections.get("schedule", {})}
    optim = {"batch": 12, "lr": 0.01, "warmup": 0, **sections.get("optim", {})}
    few = {"fraction": 0.08, "select": 0, "augment": {"crop": [0.5, 1], "color": 0.3}}
    data = {**job["data"], **few, **sections.get("data", {})}
    return {**job, "evaluate": {"every": 0}, **sections, "data": data, "schedule": schedule, "optim": optim}


def few_labels(digits: Digits) -> Digits:
    """72 training rows, 6 of them labelled: most ranks have none in most steps. One without a label may be white."""
    train = digits.splits.train[:72]
    labels = digits.splits.labels.copy()
    labels[np.setdiff1d(train, train[::12])] = -1
    if digits.plan.spec.failures.not_finite == "skip":
        digits = whitened(digits, int(train[1]))
    return digits.with_splits(replace(digits.splits, train=train, labels=labels))


class GlooRuntime(LocalRuntime):
    """One rank of several, or of some of them; every rank asks the policy itself, with the same history."""

    def __init__(self, digits: Digits, stop_after: int | None = None, group: Any = None) -> None:
        watcher = Watcher(stop_after)
        super().__init__(Cache(digits.images, CPU), CPU, watcher)
        watcher.runtime = self
        self._group, self.rank, self.world = group, dist.get_rank(group), dist.get_world_size(group)

    def wrap(self, step: nn.Module) -> nn.Module:
        if self.world == 1:
            return step
        return DistributedDataParallel(step, broadcast_buffers=False, process_group=self._group)

    def reduce(self, tensor: Tensor) -> Callable[[], object]:
        going: dist.Work = dist.all_reduce(tensor, group=self._group, async_op=True)
        return going.wait

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self._group)
        return values


# of each run the groups it went through: how many ranks, and after how many segments of theirs it was cut off
SIZES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "1": ((1, None),),
    "2": ((2, None),),
    "3": ((3, None),),
    "3, 1, 3": ((3, 2), (1, 2), (3, None)),
}


class Consumed(NamedTuple):
    """What a run took, whatever groups it went through."""

    ids: Tensor  # (steps, batch) row ids
    losses: Tensor  # (segments, 2) of SSL and SL
    shares: list[int]  # rows a step that a rank of each group took


def consumed(digits: Digits, rank: int, groups: dict[int, Any], folder: str) -> dict[str, Consumed]:
    """Each run of SIZES, as rank 0 finds it."""
    found: dict[str, Consumed] = {}
    for name, sizes in SIZES.items():
        ids: list[np.ndarray] = []
        losses: list[list[float]] = []
        shares: list[int] = []
        for size, stop in sizes:
            if rank < size:
                runtime = GlooRuntime(digits, stop, groups[size])
                mine: list[np.ndarray] = []
                runtime.supply.steps = _kept(runtime.supply.steps, mine)  # type: ignore[method-assign]
                task = Task("digits", digits.plan, digits.splits, digits.rates(2), f"{folder}/of {name}")
                history = execute(task, runtime).history
                # rank r has the positions r, r + world, ... of a batch
                together = np.stack(runtime.gather(np.concatenate(mine)), 2)
                ids.append(together.reshape(len(together), -1))
                shares.append(mine[0].shape[1])
                losses = [[report.ssl_loss or 0.0, report.sl_loss or 0.0] for report in history.reports]
            dist.barrier()
        if rank == 0:
            found[name] = Consumed(torch.from_numpy(np.concatenate(ids)), torch.tensor(losses), shares)
    return found


def _kept(steps: Any, ids: list[np.ndarray]) -> Any:
    """`Flow.steps`, whose ids are kept."""

    def keeping(parts: Any, ids_TB: np.ndarray) -> Any:
        ids.append(ids_TB)
        return steps(parts, ids_TB)

    return keeping


class Steps(NamedTuple):
    """What some steps brought."""

    stats: Tensor  # a row a step; of ranks: their mean loss and summed hits
    tensors: dict[str, Tensor]  # of the state after them
    labelled: Tensor  # labelled rows of each rank in each step
    skipped: list[int]  # steps without a statistic, on each rank


def steps_of(digits: Digits, runtime: LocalRuntime, at_once: bool = False) -> Steps:
    """Every step of the plan on this rank, from fresh weights; gradients are averaged by DDP, or `at_once`."""
    state = TrainState.fresh(digits.plan, CPU, How((FACTORY,)))
    for group in state.optimizer.param_groups:
        # some gradients are zero but for rounding (biases of attention keys); AdamW would blow their noise up to lr
        group["eps"] = 1e-3
    seen: list[int] = []
    steps = runtime.supply.steps

    def counted(parts: Any, ids_TB: Any) -> Any:
        seen.extend((digits.splits.labels[ids_TB] >= 0).sum(1).tolist())
        return steps(parts, ids_TB)

    runtime.supply.steps = counted  # type: ignore[method-assign]
    stats = torch.stack(trained(digits, state, runtime, recorded=at_once))
    parts = runtime.gather(stats.numpy())
    together = torch.stack([torch.from_numpy(part) for part in parts])
    together = torch.cat((together[:, :, :2].mean(0), together[:, :, 2:].sum(0)), 1)
    skipped = [int((of == 0).all(1).sum()) for of in parts]
    return Steps(together, state.snapshot(), torch.tensor(runtime.gather(seen)), skipped)


class Ranks(NamedTuple):
    """What one group of processes was given to do, and what came of it on every rank."""

    runs: dict[str, Digits]
    found: list[dict[str, Steps]]
    folder: Path  # of checkpoints
    normed: list[Digits]
    settled: list[list[dict[str, Tensor]]]
    consumed: dict[str, Consumed]


def spawn(runs: dict[str, Digits], resumed: str, normed: list[Digits], folder: Path) -> Ranks:
    """The steps of each run, and of `normed` the statistics; the run `resumed` is also broken off and gone on with.

    All in one group: each of its processes imports torch, which takes seconds.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, runs, resumed, normed, str(folder)), nprocs=NUM)  # type: ignore[no-untyped-call]
    told = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(NUM)]
    taken = torch.load(folder / "consumed.pt", weights_only=False)
    return Ranks(runs, [found for found, _ in told], folder, normed, [settled for _, settled in told], taken)


def _rank(rank: int, port: int, runs: dict[str, Digits], resumed: str, normed: list[Digits], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=NUM)
    found = {name: steps_of(digits, GlooRuntime(digits), "at once" in name) for name, digits in runs.items()}
    settled = []
    for digits in normed:
        model = model_of(digits, sync=True)  # which must not wait for ranks that have fewer batches
        settle(digits.plan, model, digits.splits.train, GlooRuntime(digits))
        settled.append(model.f.state_dict())
    torch.save((found, settled), f"{folder}/{rank}.pt")
    digits = runs[resumed]
    for where, stops in (("whole", (None,)), ("parts", (2, 4, None))):  # the last one amidst the sl steps
        for stop in stops:
            runtime = GlooRuntime(digits, stop)  # fresh state, fresh wrappers: as after a restart
            task = Task("digits", digits.plan, digits.splits, digits.rates(2), f"{folder}/{where}")
            execute(task, runtime)
    groups = {size: dist.new_group(list(range(size))) for size in range(1, NUM + 1)}
    taken = consumed(runs["mae masked"], rank, groups, folder)
    if rank == 0:
        torch.save(taken, f"{folder}/consumed.pt")
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # all is written; on a busy machine torch's own threads have aborted a process that went the usual way
