"""The images of a node, once, in memory that all its workers map.

Ray's object store would hold them twice while they are put together, since what lies in it cannot be written; anonymous
shared memory of the driver is freed by the system however the driver ends.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.data.frame import Frame, Pixels
from raymix.data.images import Images
from raymix.data.rows import Ids

COPY_BYTES = 64 * 2**20  # that travel from node to node at once


class Held(NamedTuple):
    """Where a node's images are."""

    node: str
    path: str  # of the memory, as another process of the node opens it
    num: int
    frame: Frame

    def is_here(self) -> bool:
        """Whether this process is on that node."""
        return _node() == self.node

    def images(self) -> Pixels:
        """The images (N, S, S, C), read-only; a process of the same node sees the memory itself."""
        if not self.num:
            return self.frame.empty(0)
        return np.memmap(self.path, self.frame.dtype, "r", shape=(self.num, *self.frame.shape))

    def room(self, first: int, last: int) -> Pixels:
        """The memory of the images [first, last), to be written."""
        if last == first:
            return self.frame.empty(0)
        offset, shape = first * self.frame.nbytes, (last - first, *self.frame.shape)
        return np.memmap(self.path, self.frame.dtype, "r+", offset=offset, shape=shape)


class Memory:
    """Room for images, owned by this process."""

    def __init__(self, num_images: int, frame: Frame) -> None:
        self._temporary = not hasattr(os, "memfd_create")
        if self._temporary:
            self._descriptor, path = tempfile.mkstemp(prefix="raymix-images-")
        else:
            self._descriptor = os.memfd_create("raymix-images")
            path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        os.truncate(self._descriptor, num_images * frame.nbytes)
        self.held = Held(_node(), path, num_images, frame)

    def close(self) -> None:
        """Gives it back once nobody maps it any more."""
        os.close(self._descriptor)
        if self._temporary:
            os.remove(self.held.path)


class Kept(NamedTuple):
    """The images of a session, as workers are told of them."""

    held: Held
    slots: Ids
    name: str  # of the actors that bring the images to other nodes

    @classmethod
    def of(cls, memory: Memory, images: Images) -> Kept:
        """The images that were put together in some memory."""
        held = memory.held._replace(num=len(images.pixels))
        return cls(held, images.slots, f"raymix-{uuid.uuid4().hex[:12]}")

    def on_this_node(self) -> Images:
        """The images, out of this node's own memory; brought here where the node has none yet."""
        held = self.held
        if not held.is_here():
            node = _node()
            source = _actor(_Source, f"{self.name}-source", held.node, held)
            copy = _actor(_Copy, f"{self.name}-{node}", node, held.num, held.frame)
            _actors.extend((source, copy))
            held = ray.get(copy.fetch.remote(source))
        return Images(pixels=held.images(), slots=self.slots, skipped={})


class _Source:
    """On the node that has the images: hands them out."""

    def __init__(self, held: Held) -> None:
        self._images = held.images()

    def part(self, first: int, last: int) -> Pixels:
        return self._images[first:last]


class _Copy:
    """On a node that has none yet: holds them for its workers."""

    def __init__(self, num_images: int, frame: Frame) -> None:
        self._memory = Memory(num_images, frame)
        self._whole = False

    def fetch(self, source: Any) -> Held:
        held = self._memory.held
        step = max(1, COPY_BYTES // held.frame.nbytes)
        for first in range(0, 0 if self._whole else held.num, step):
            last = min(first + step, held.num)
            held.room(first, last)[:] = ray.get(source.part.remote(first, last))
        self._whole = True
        return held


_actors: list[Any] = []  # an actor lives as long as somebody holds on to it


def _actor(kind: type, name: str, node: str, *arguments: Any) -> Any:
    """The actor of that name on a node; made where there is none."""
    where = NodeAffinitySchedulingStrategy(node, soft=False)
    made = ray.remote(kind).options(name=name, get_if_exists=True, num_cpus=0, scheduling_strategy=where)
    return made.remote(*arguments)


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())
