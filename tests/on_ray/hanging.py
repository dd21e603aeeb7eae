"""A backbone that hangs once, when and how a file says, and then never again; and a thread that says so."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from pathlib import Path

import psutil
import torch.distributed as dist
from torch import Tensor, nn

from raymix.on_ray.guard import STACKS_FOLDER
from tests.method.own_backbones import Tokens
from tests.on_ray.test_chaos import rows_of

FACTORY = "tests.on_ray.hanging:tokens"
DONE = ".done"


class Hanging(Tokens):
    """Tokens that look for a file in each forward pass."""

    def __init__(self, image_size: int, num_channels: int, order: str) -> None:
        super().__init__(image_size, num_channels, 16)
        self._order = Path(order)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        time.sleep(0.01)  # a run is not over too soon on a fast machine
        if self.training and self._order.exists():
            self._obey()
        return super().forward(x, keep)

    def _obey(self) -> None:
        rank, kind = self._order.read_text().split()
        if (dist.get_rank() if dist.is_initialized() else 0) != int(rank):
            return
        if kind == "raise":  # each time
            raise ValueError("asked to fail")
        self._order.rename(self._order.with_suffix(DONE))
        if kind == "deadlock":
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        elif kind == "held":  # the interpreter, for ages
            re.match("(a+)+$", 64 * "a" + "b")
        else:  # read
            fifo = self._order.with_suffix(".fifo")
            os.mkfifo(fifo)
            fifo.read_bytes()  # nobody writes to it


def order(file: Path, rank: int, kind: str) -> None:
    """The next forward pass in training of that rank hangs."""
    new = file.with_suffix(".new")
    new.write_text(f"{rank} {kind}")
    new.rename(file)


def tokens(image_size: int, num_channels: int, order: str) -> nn.Module:
    """(B, L, D), until the file `order` is there."""
    return Hanging(image_size, num_channels, order)


def workers() -> list[psutil.Process]:
    below = psutil.Process().children(recursive=True)
    return [process for process in below if process.cmdline()[:1] == ["ray::RayTrainWorker"]]


class Hangs(threading.Thread):
    """Makes workers of a run hang, one after another, at steps that are spread over it."""

    def __init__(self, storage: Path, world: int, kinds: list[str], num_steps: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self._world = world
        self._storage, self._folder = storage, storage / "runs" / "digits"
        self._kinds, self._num_steps, self._dice = kinds, num_steps, dice
        self.found = list[float]()  # seconds from each to the last worker's stacks
        self.ranks = list[int]()
        self.stopped = list[psutil.Process]()

    def run(self) -> None:
        for number, kind in enumerate(self._kinds):
            self._wait_for((number + 0.5) / (len(self._kinds) + 1) * self._num_steps)
            time.sleep(self._dice.uniform(0, 0.5))
            rank = self._dice.randrange(self._world)
            self.ranks.append(rank)
            since = self._hang(kind, rank)
            stacks = self._folder / STACKS_FOLDER / f"{number + 1:03d}"
            while len(list(stacks.glob("rank-*.txt"))) < self._world:
                time.sleep(0.02)
            self.found.append(time.monotonic() - since)

    def _wait_for(self, step: float) -> None:
        """Steps are done since the last start, and a checkpoint is there."""
        before = len(rows_of(self._folder))
        while True:
            rows = rows_of(self._folder)
            if len(rows) > before and rows[-1]["step"] >= step and list(self._folder.glob("checkpoints/step-*")):
                return
            before = min(before, len(rows))
            time.sleep(0.02)

    def _hang(self, kind: str, rank: int) -> float:
        if kind == "stopped":
            self.stopped.append(workers()[rank])  # some rank's
            self.stopped[-1].suspend()
            return time.monotonic()
        file = self._storage / "order"
        order(file, rank, kind)
        while file.exists():
            time.sleep(0.01)
        since = time.monotonic()
        for left in self._storage.glob("order.*"):
            left.unlink()
        return since
