"""Ranks over gloo in processes of their own: a Runtime as Ray's workers have it, without Ray."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_runs import CPU, Digits, Watcher, trained
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymix.local import LocalRuntime
from raymix.train.cache import Cache
from raymix.train.execute import execute
from raymix.train.state import TrainState
from raymix.train.task import Task

NUM = 3


class GlooRuntime(LocalRuntime):
    """One rank of several; every rank asks the policy itself, with the same history."""

    def __init__(self, digits: Digits, stop_after: int | None = None) -> None:
        watcher = Watcher(stop_after)
        super().__init__(Cache(digits.images, CPU), CPU, watcher)
        watcher.runtime = self
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def wrap(self, step: nn.Module) -> nn.Module:
        return DistributedDataParallel(step, broadcast_buffers=False)

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


class Steps(NamedTuple):
    """What some steps brought."""

    stats: Tensor  # a row a step; of ranks: their mean loss and summed hits
    tensors: dict[str, Tensor]  # of the state after them
    labelled: Tensor  # labelled rows of each rank in each step


def steps_of(digits: Digits, runtime: LocalRuntime) -> Steps:
    """Every step of the plan on this rank, from fresh weights."""
    state = TrainState.fresh(digits.plan, CPU)
    for group in state.optimizer.param_groups:
        # some gradients are zero but for rounding (biases of attention keys); AdamW would blow their noise up to lr
        group["eps"] = 1e-3
    seen: list[int] = []
    steps = runtime.supply.steps

    def counted(parts: Any, ids_TB: Any) -> Any:
        seen.extend((digits.splits.labels[ids_TB] >= 0).sum(1).tolist())
        return steps(parts, ids_TB)

    runtime.supply.steps = counted  # type: ignore[method-assign]
    stats = torch.stack(trained(digits, state, runtime))
    parts = runtime.gather(stats.numpy())
    together = torch.stack([torch.from_numpy(part) for part in parts])
    together = torch.cat((together[:, :, :2].mean(0), together[:, :, 2:].sum(0)), 1)
    return Steps(together, state.snapshot(), torch.tensor(runtime.gather(seen)))


def spawn(runs: dict[str, Digits], resumed: str, folder: Path) -> list[dict[str, Steps]]:
    """The steps of each run on every rank of a new group; the run `resumed` is also broken off and gone on with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, args=(port, runs, resumed, str(folder)), nprocs=NUM)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(NUM)]


def _rank(rank: int, port: int, runs: dict[str, Digits], resumed: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=NUM)
    found = {name: steps_of(digits, GlooRuntime(digits)) for name, digits in runs.items()}
    torch.save(found, f"{folder}/{rank}.pt")
    digits = runs[resumed]
    for where, stops in (("whole", (None,)), ("parts", (2, 3, None))):
        for stop in stops:
            runtime = GlooRuntime(digits, stop)  # fresh state, fresh wrappers: as after a restart
            task = Task("digits", digits.plan, digits.splits, digits.rates(2), f"{folder}/{where}")
            execute(task, runtime)
    dist.destroy_process_group()
