"""The loop's whole outside world, as one small protocol. `raymix.local` and `raymix.on_ray.worker` implement it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raymix.failing.pulse import Pulse
from raymix.plan import Decision, Plan
from raymix.policy import Named
from raymix.report.history import History, SegmentReport
from raymix.train.supply import Supply


class Runtime(Protocol):
    """One training process among `world`, and how it reaches the others and the driver."""

    rank: int
    world: int
    device: torch.device
    supply: Supply
    pulse: Pulse

    def wrap(self, step: nn.Module) -> nn.Module:
        """A step whose gradients are averaged over all ranks."""

    def reduce(self, tensor: Tensor) -> Callable[[], object]:
        """Begins to replace a tensor on the device by its sum over all ranks: for steps recorded, not wrapped.

        What it returns, called, makes what is asked of the device from then on wait for the sum.
        """

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks in order of rank, on every rank. Plain data, no tensors."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """A run starts or goes on after `history`."""

    def name_next(self, history: History) -> Named:
        """What the policy names next, the same on every rank; without segment and end: asked to stop."""

    def leaving(self) -> bool:
        """Whether a machine is about to be taken away, so that rank 0 had better save now. Waits for nobody."""

    def decided(self, decision: Decision) -> None:
        """A change of plan that was named holds from here on. Waits for nobody."""

    def report(self, report: SegmentReport) -> None:
        """A segment is done. Waits for nobody."""

    def note(self, text: str) -> None:
        """A line for the user; rank 0's alone is told. Waits for nobody."""
