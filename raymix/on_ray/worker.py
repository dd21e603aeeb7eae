"""The training worker: one process of a DDP group, which Ray Train starts, restarts and ends."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psutil
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from ray.train.collective import broadcast_from_rank_zero
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from raymix.on_ray.beating import beating
from raymix.on_ray.leaving import Notice
from raymix.on_ray.reading import Streaming
from raymix.plan import Decision, Plan, Segment
from raymix.policy import Named
from raymix.report.history import History, SegmentReport
from raymix.session import Failure
from raymix.train.begin import NotBegun
from raymix.train.cache import Cache
from raymix.train.checkpoint import NotSaved
from raymix.train.device import name_of
from raymix.train.execute import execute, set_up_process
from raymix.train.full import DeviceFull
from raymix.train.stream import Streamed
from raymix.train.supply import Supply
from raymix.train.task import Outcome, Task

POLL_SECONDS = 0.1
WAIT = timedelta(minutes=30)  # in which every rank must come to a collective; a rank that died is noticed by Ray
_store_at = partial(dist.TCPStore, timeout=WAIT)  # type: ignore[attr-defined] # documented, if not re-exported


class RayRuntime:
    """One rank of a Ray Train worker group. Rank 0 alone talks to the mailbox; the others hear it from rank 0."""

    def __init__(self, mailbox: Any, threads: int) -> None:
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.pulse = beating(mailbox, self.rank, self.world)
        self.device = ray.train.torch.get_device()
        set_up_process(self.device, threads)
        self._mailbox, self._notice = mailbox, Notice()
        # plain data travels over gloo also where gradients travel over NCCL
        self._group: Any = None
        if self.world > 1:
            _connect(self.rank, self.world, self.device)
            self._group = dist.group.WORLD if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
        self._run, self._told = "", 0
        self._next: Any = None
        self._stop: Any = None
        self._parting = False  # on rank 0: another group takes over

    supply: Supply

    def load(self, where: str, gpu_share: float) -> bool:
        """Waits for the decoded images and puts them where the job says, or learns to read; False: none will come."""
        # every rank asks for itself: a reference that came any other way than through Ray is never fulfilled
        while (images := ray.get(self._mailbox.images.remote())) == "wait":
            time.sleep(POLL_SECONDS)
        if images == "close":
            return False
        if isinstance(images, Streaming):
            self.supply = Streamed(images.frame, self.device, images.start(), images.chunk_bytes, images.leg_chunks)
        else:
            self.supply = Cache(images.on_this_node(), self.device, where, gpu_share)
        if self.rank == 0:
            self._mailbox.join.remote(self.device.type, name_of(self.device), self.supply.where, self.world)
        return True

    def next_task(self) -> Task | None:
        """The next run, the same on every rank; None: there is none left."""
        self.pulse.enter("waiting")
        # every rank hears every answer, so that none waits long enough in silence to give up
        while (task := self._broadcast(self._ask_for_task())) == "wait":
            time.sleep(POLL_SECONDS)
        return None if task == "close" else pickle.loads(task)

    def finish(self, task: Task, outcome: Outcome | Failure) -> None:
        """Hands over what a run brought, or why it brought nothing, and waits until it has arrived.

        A group that another takes over from has brought nothing yet: it waits for its end.
        """
        if isinstance(outcome, Outcome) and self._broadcast(self._parting):
            if self.rank == 0:
                ray.get(self._mailbox.saved.remote())
            while True:
                time.sleep(POLL_SECONDS)
        if self.rank == 0:
            self.tell(task, outcome)

    def tell(self, task: Task, outcome: Outcome | Failure) -> None:
        """The same, by whichever rank; the first one is heard."""
        ray.get(self._mailbox.finish.remote(task.run, pickle.dumps(outcome)))

    def close(self) -> None:
        """No collective follows."""
        if self._group is not None:
            dist.destroy_process_group()

    def wrap(self, step: nn.Module) -> nn.Module:
        """The step under DDP; as it is where it is alone."""
        if self.world == 1:
            return step
        # no buffer changes in training, so none is broadcast
        return DistributedDataParallel(step, broadcast_buffers=False)

    def reduce(self, tensor: Tensor) -> Callable[[], object]:
        """By an all-reduce."""
        going: dist.Work = dist.all_reduce(tensor, async_op=True)
        return going.wait

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks."""
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self._group)
        return values

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Tells the driver, and starts to listen for its stop."""
        self._run, self._told, self._next, self._parting = run, len(history.reports), None, False
        if self.rank == 0:
            ray.get(self._mailbox.begin.remote(run, plan, history))
            self._stop = self._mailbox.stopped.remote()

    def name_next(self, history: History) -> Named:
        """What the driver's policy names: asked for one segment ahead, on what was known when the last one began."""
        named = Named(None)
        if self.rank == 0:
            stopping, _ = ray.wait([self._stop], timeout=0)
            if stopping:
                self._parting = ray.get(self._stop)
            else:
                named = ray.get(self._next or self._ask(history, None))
                self._next = self._ask(history, named.segment) if named.segment else None
        told: Named = self._broadcast(named)
        return told

    def leaving(self) -> bool:
        """Whether Ray has been told that a node of this group goes; the driver hears of it once."""
        if self.rank == 0 and (words := self._notice.news()):
            self.note(words)
        return self._notice.given

    def decided(self, decision: Decision) -> None:
        """Tells the driver without waiting for it."""
        if self.rank == 0:
            self._mailbox.decided.remote(self._run, decision)

    def report(self, report: SegmentReport) -> None:
        """Tells the driver without waiting for it."""
        if self.rank == 0:
            self._mailbox.report.remote(self._run, report)

    def note(self, text: str) -> None:
        """Tells the driver without waiting for it."""
        if self.rank == 0:
            self._mailbox.note.remote(self._run, text)

    def _ask_for_task(self) -> Any:
        return ray.get(self._mailbox.next_task.remote()) if self.rank == 0 else None

    def _ask(self, history: History, pending: Segment | None) -> Any:
        """The policy's answer to come. Only reports that the mailbox has not seen travel."""
        told, self._told = self._told, len(history.reports)
        return self._mailbox.name_next.remote(told, list(history.reports[told:]), pending)

    def _broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self._group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]


def work_off(config: dict[str, Any]) -> None:
    """Tasks, one after another, until the driver has none left."""
    runtime = RayRuntime(config["mailbox"], config["threads"])
    if runtime.load(config["cache"], config["gpu_share"]):
        while (task := runtime.next_task()) is not None:
            try:
                outcome: Outcome | Failure = execute(task, runtime)
            except (FloatingPointError, NotBegun) as error:  # a restart would come to the same point
                outcome = Failure(f"{task.run}: {error}", again=False)
            except DeviceFull as error:
                outcome = Failure(f"{task.run}: {error}", again=False)
                if runtime.world > 1:  # the others wait in a collective: this group ends, and no other takes it up
                    runtime.tell(task, outcome)
                    raise
            except NotSaved as error:
                outcome = Failure(f"{task.run}: {error}", again=True)
            runtime.finish(task, outcome)
    runtime.close()


def _connect(rank: int, world: int, device: torch.device) -> None:
    """Makes the process group: rank 0 opens the store at a free port, and Ray tells the others where it is.

    Workers of one node listen on loopback, which no other machine reaches; others on the address that Ray knows.
    """
    alone = ray.train.get_context().get_local_world_size() == world
    if alone and sys.platform == "linux":
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, "lo")
    host = "127.0.0.1" if alone else ray.util.get_node_ip_address()
    if not alone and "GLOO_SOCKET_IFNAME" not in os.environ and (interface := _interface_of(host)):
        # by itself gloo takes what the machine's name resolves to, which is loopback where /etc/hosts says so
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    store = _open_store(host) if rank == 0 else None
    host, port = broadcast_from_rank_zero((host, store.port) if store else None)
    store = store or _store_at(host, port)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=WAIT)


def _interface_of(host: str) -> str | None:
    """The network interface of this machine that has an address."""
    found = psutil.net_if_addrs()
    return next((name for name, addresses in found.items() if any(one.address == host for one in addresses)), None)


def _open_store(host: str) -> Any:
    """A store that listens there alone: by itself, torch's listens on every address of the machine."""
    listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = listening.getsockname()[1]
    return _store_at(host, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach())
