"""What `raymix bench data` needs of Ray: a Ray to start, a plain Ray Data reader, processes that map images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray
import torch
from ray.data import DataContext, ExecutionOptions, ExecutionResources

from raymix.on_ray.cluster import connect, disconnect, hush_data
from raymix.on_ray.hold import Kept
from raymix.spec import Cluster
from raymix.train.cache import Cache

_PAGE = 4096


@contextmanager
def started(store: int | None = None) -> Iterator[None]:
    """A Ray of this machine with an object store of `store` bytes; where this process has one already, that one."""
    owned = connect(Cluster(workers=1, object_store=store), verbose=False)
    hush_data()
    try:
        yield
    finally:
        if owned:
            disconnect()


class ImageReader:
    """`ray.data.read_images` as it comes, on `cpus` CPUs; `size`: what images are resized to, None: nothing."""

    def __init__(self, root: str, size: int | None, cpus: int) -> None:
        context = DataContext.get_current()
        before = context.execution_options
        context.execution_options = ExecutionOptions(resource_limits=ExecutionResources(cpu=cpus))
        try:  # a data set keeps a copy of the options that it is made under
            self._data = ray.data.read_images(root, mode="RGB", size=(size, size) if size else None)
        finally:
            context.execution_options = before

    def epoch(self, batch: int) -> Iterator[int]:
        """Reads all images once; the number in each batch."""
        for images in self._data.iter_batches(batch_size=batch):
            yield len(images["image"])


class Mappers:
    """Processes that stand for the workers of a group: they map the images of their node and touch all of them."""

    def __init__(self, num: int) -> None:
        self._actors = [ray.remote(_Mapper).options(num_cpus=0).remote() for _ in range(num)]
        ray.get([actor.touch.remote() for actor in self._actors])

    def map(self, kept: Kept, num: int) -> None:
        """The first `num` of them hold the images from now on."""
        ray.get([actor.map.remote(kept) for actor in self._actors[:num]])
        ray.get([actor.touch.remote() for actor in self._actors[:num]])

    def close(self) -> None:
        """Ends the processes."""
        for actor in self._actors:
            ray.kill(actor)


class _Mapper:
    def __init__(self) -> None:
        self._cache: Cache | None = None

    def map(self, kept: Kept) -> None:
        if self._cache is None:
            self._cache = Cache(kept.on_this_node(), torch.device("cpu"))

    def touch(self) -> int:
        """Reads a byte of each page."""
        return 0 if self._cache is None else int(self._cache.pixels_NSSC.view(-1)[::_PAGE].sum())
