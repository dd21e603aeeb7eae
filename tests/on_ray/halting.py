"""A backbone that hangs once, when and how a file says, and then never again."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import torch.distributed as dist
from torch import Tensor, nn

from tests.method.own_backbones import Tokens

FACTORY = "tests.on_ray.halting:tokens"
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
