"""The images of a node, once, in memory that all its workers map: an actor that is filled block by block.

Ray's object store would hold them twice while they are put together, since what lies in it cannot be written; anonymous
shared memory is freed by the system however its owner ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.data.block import BlockAccessor
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.data.frame import Frame, Pixels
from raymix.data.images import Assembly, Images, Part
from raymix.data.rows import Ids

COPY_BYTES = 64 * 2**20  # that travel from node to node at once


class Held(NamedTuple):
    """Where a node's images are."""

    node: str
    path: str  # of the memory, as another process of the node opens it
    num: int
    frame: Frame

    def mapped(self) -> Pixels:
        """The images (N, S, S, C), read-only; a process of the same node sees the memory itself."""
        if not self.num:
            return self.frame.empty(0)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            memory = mmap.mmap(descriptor, self.num * self.frame.nbytes, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        return np.frombuffer(memory, self.frame.dtype).reshape(self.num, *self.frame.shape)


class Holder:
    """Made an actor by `make` and `on_this_node`; one a node."""

    def __init__(self, num_images: int, frame: Frame) -> None:
        self._frame, self._num = frame, num_images
        num_bytes = max(1, num_images * frame.nbytes)
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("raymix-images")
            self._path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, self._path = tempfile.mkstemp(prefix="raymix-images-")
        os.truncate(self._descriptor, num_bytes)
        self._memory = mmap.mmap(self._descriptor, num_bytes)
        pixels = np.frombuffer(self._memory, frame.dtype, num_images * frame.nbytes // frame.dtype.itemsize)
        self._pixels: Pixels = pixels.reshape(num_images, *frame.shape)
        self._assembly: Assembly | None = None

    def begin(self, num_rows: int, ids: Ids) -> None:
        """Images of `ids` will come by `add`."""
        self._assembly = Assembly(num_rows, ids, self._frame, self._pixels)

    def add(self, block: Any) -> int:
        """A block of decoded rows: `id`, `pixels`, `cause` where one could not be read. Returns the number of rows."""
        assert self._assembly is not None
        columns = BlockAccessor.for_block(block).to_numpy(["id", "cause", "pixels"])
        ids, causes, pixels = columns["id"], columns["cause"], columns["pixels"]
        good = causes == ""
        bad = {int(row): str(cause) for row, cause in zip(ids[~good], causes[~good], strict=True)}
        self._assembly.add(Part(ids[good], pixels[good] if bad else pixels, bad))
        return len(ids)

    def images(self) -> tuple[Held, Ids, dict[int, str]]:
        """Where they are, the place of each row, and the rows that could not be read."""
        assert self._assembly is not None
        done: Images = self._assembly.images()
        self._num, self._assembly = len(done.pixels), None
        return self._held(), done.slots, done.skipped

    def part(self, first: int, last: int) -> Pixels:
        """The images [first, last), for another node."""
        return self._pixels[first:last]

    def copy(self, other: Any) -> Held:
        """All images of a holder on another node."""
        step = max(1, COPY_BYTES // self._frame.nbytes)
        for first in range(0, self._num, step):
            last = min(first + step, self._num)
            self._pixels[first:last] = ray.get(other.part.remote(first, last))
        return self._held()

    def _held(self) -> Held:
        return Held(ray.get_runtime_context().get_node_id(), self._path, self._num, self._frame)


class Kept(NamedTuple):
    """The images of a session, as workers are told of them."""

    holder: Any  # the actor that was filled
    held: Held
    slots: Ids
    name: str  # of the session's holders on other nodes

    def on_this_node(self) -> Images:
        """The images, out of this node's own memory; fetched from the first holder where the node has none yet."""
        held, node = self.held, ray.get_runtime_context().get_node_id()
        if node != held.node:
            options = {"name": f"{self.name}-{node}", "get_if_exists": True, **_on(node)}
            holder = ray.remote(Holder).options(**options).remote(held.num, held.frame)
            held = ray.get(holder.copy.remote(self.holder))
            _others.append(holder)
        return Images(pixels=held.mapped(), slots=self.slots, skipped={})


_others: list[Any] = []  # an actor lives as long as somebody holds on to it


def make(num_images: int, frame: Frame) -> Any:
    """A holder on this process's node."""
    node = ray.get_runtime_context().get_node_id()
    return ray.remote(Holder).options(**_on(node)).remote(num_images, frame)


def _on(node: str) -> dict[str, Any]:
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
