"""How long the device waits for data between two steps."""

from __future__ import annotations

import time
from typing import Any, Protocol

import torch


class DataWait(Protocol):
    """Seconds between one step and the next, over the steps of a segment."""

    def begin(self) -> None:
        """From here on data is waited for: a step was asked for, or the segment begins."""

    def end(self) -> None:
        """The data is there."""

    def seconds(self) -> float:
        """Of all waits; on a GPU, once it has done what it was given."""


class _OnHost:
    """On a CPU a step is over when it returns."""

    def __init__(self) -> None:
        self._seconds, self._since = 0.0, 0.0

    def begin(self) -> None:
        self._since = time.perf_counter()

    def end(self) -> None:
        self._seconds += time.perf_counter() - self._since

    def seconds(self) -> float:
        return self._seconds


class _OnGPU:
    """By the GPU's clock. This process runs ahead of it until the queue of what it is to do is full and then blocks,
    often while it asks for data, for which the GPU does not wait at all.
    """

    def __init__(self) -> None:
        self._begun: list[Any] = []
        self._ended: list[Any] = []

    def begin(self) -> None:
        self._begun.append(_now())

    def end(self) -> None:
        self._ended.append(_now())

    def seconds(self) -> float:
        pairs = zip(self._begun, self._ended, strict=False)  # the last wait was for no further step
        return 1e-3 * float(sum(begun.elapsed_time(ended) for begun, ended in pairs))


def _now() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def data_wait(device: torch.device) -> DataWait:
    """For the steps of one segment."""
    return _OnGPU() if device.type == "cuda" else _OnHost()
