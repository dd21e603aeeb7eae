"""A thread that makes workers of a run hang, and sees how soon each is found."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import psutil

from raymix.on_ray.guard import STACKS_FOLDER
from tests.on_ray.halting import order
from tests.on_ray.killing import rows_of, workers_below


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
            self.stopped.append(workers_below(psutil.Process())[rank])  # some rank's
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
