"""One rank of the rival of `raymix bench scale`: a plain PyTorch loop under DDP, as torchrun starts it.

It does what the command asks over a socket and waits there, blocked, while raymix is on turn; where the command is
gone, it ends. As fast as DDP by hand gets: gradients are views of the buckets, buffers are not broadcast, a step kind
has a wrapper of its own over what it trains, so none looks for unused parameters, and one rank alone has no wrapper.
On a GPU the loss is compiled as a whole and the step, all-reduce included, recorded as a CUDA graph, as torch's notes
on CUDA graphs with DDP say; there is a second recording without the all-reduce.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Client, Connection
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymix.bench.plain import PlainLoop, Recipe
from raymix.bench.scaling.messages import SOCKET, Failed, Hello, Load, Run
from raymix.bench.scaling.setting import window
from raymix.bench.setting import recipe
from raymix.method.steps import Model
from raymix.plan import Kind
from raymix.train.device import quicken
from raymix.train.execute import set_up_process
from raymix.train.measure import synchronise
from raymix.train.state import TrainState

NICENESS = 15  # of Ray's workers by default: the ranks get no more of a busy machine than they do
WARM_UPS = 11  # before DDP is recorded: it looks at its own timing in the tenth


class Loop(PlainLoop):
    """The plain loop on its share of every batch; all ranks take the rows of one permutation an epoch."""

    def __init__(self, model: Model, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self._drawn = torch.Generator(images.device)
        self._drawn.manual_seed(0)
        self._apart: torch.cuda.CUDAGraph | None = None
        self.averaged = True
        self._ddp: DistributedDataParallel | None = None
        super().__init__(model, images, labels, recipe)
        if not recipe.fast:
            self._ddp = self._wrapped()

    def order(self) -> Tensor:
        """This rank's rows of an epoch."""
        drawn = torch.randperm(len(self.images), device=self.device, generator=self._drawn)
        return drawn[self._rank :: self._world]

    def step(self) -> None:
        """One optimizer step."""
        if self.graph is not None and not self.averaged:
            assert self._apart is not None
            self._apart.replay()
        else:
            super().step()

    def _step(self) -> None:
        with self._alone():
            super()._step()

    def _alone(self) -> AbstractContextManager[None]:
        if self._ddp is None or self.averaged:
            return nullcontext()
        context: AbstractContextManager[None] = self._ddp.no_sync()
        return context

    def _wrapped(self) -> DistributedDataParallel | None:
        """From here on the loss goes through DDP."""
        if self._world == 1:
            return None
        parts = {"ssl": ("f", "g"), "mix": ("f", "g", "h"), "sl": ("f", "h")}[self.recipe.kind]
        whole = _Whole(self.loss, nn.ModuleList(getattr(self.model, part) for part in parts))
        ddp = DistributedDataParallel(whole, broadcast_buffers=False, gradient_as_bucket_view=True)
        self.loss = ddp  # type: ignore[method-assign]
        return ddp

    def _speed_up(self) -> None:
        torch._dynamo.config.recompile_limit = 64
        self.loss = torch.compile(self.loss, dynamic=False)  # type: ignore[method-assign]
        if self.device.type != "cuda":
            self._ddp = self._wrapped()
            return
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._ddp = self._wrapped()
            self.again(WARM_UPS)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        graph = self._recorded(None)
        if self._ddp is not None:
            self.averaged = False
            self._apart = self._recorded(graph.pool())
            self.averaged = True
        self.graph = graph
        quicken()

    def _recorded(self, pool: Any) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._step()
        return graph


class _Whole(nn.Module):
    """The loss as a module that holds what it trains."""

    def __init__(self, loss: Any, parts: nn.ModuleList) -> None:
        super().__init__()
        self.loss, self.parts = loss, parts

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.loss(images, labels)
        return loss


class _Rank:
    """Answers what the command asks."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.loops: dict[Kind, Loop] = {}

    def load(self, asked: Load) -> None:
        self.loops = {}
        stored = np.load(asked.images)
        images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).contiguous().to(self.device)
        labels = torch.from_numpy(stored["labels"]).to(self.device)
        for kind in asked.kinds:
            planned = window(asked.spec, {kind: 1}, len(images))
            model = TrainState.fresh(planned, self.device).model
            if dist.get_world_size() > 1 and self.device.type == "cuda":
                model.f = nn.SyncBatchNorm.convert_sync_batchnorm(model.f)  # type: ignore[no-untyped-call]
            self.loops[kind] = Loop(model, images, labels, recipe(planned, kind, self.device, asked.fast))
        synchronise(self.device)

    def run(self, asked: Run) -> float:
        loop = self.loops[asked.kind]
        loop.averaged = asked.averaged
        dist.barrier()
        synchronise(self.device)
        started = time.perf_counter()
        loop.run(asked.steps)
        synchronise(self.device)
        return time.perf_counter() - started


def main(kind: str) -> None:
    """Serves until the command hangs up. `kind`: cpu or cuda."""
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if kind == "cuda" else torch.device("cpu")
    set_up_process(device, threads=1)
    os.nice(int(os.environ.get("RAY_worker_niceness", NICENESS)))  # noqa: SIM112 (Ray spells it so)
    if sys.platform == "linux":  # all ranks are on this machine
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    with Client(os.environ[SOCKET], family="AF_UNIX") as line:
        line.send(Hello(local, os.getpid()))
        try:
            dist.init_process_group("nccl" if kind == "cuda" else "gloo")
            _serve(line, _Rank(device))
            dist.destroy_process_group()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)  # nobody asks any more, and another rank may wait in a collective for ever
        except Exception as error:
            line.send(Failed(f"rank {local}: {type(error).__name__}: {' '.join(str(error).split())[:400]}"))
            raise


def _serve(line: Connection, rank: _Rank) -> None:
    line.send(None)
    while (asked := line.recv()) is not None:
        if isinstance(asked, Load):
            rank.load(asked)
            line.send(None)
        else:
            line.send(rank.run(asked))


if __name__ == "__main__":
    main(sys.argv[1])
