"""`failures.not_finite: skip`: a step whose loss or gradient is not finite changes nothing on any rank.

All of it happens on the device, which nobody waits for, so that a step can be recorded. What all ranks judge by are the
gradients after their all-reduce: a NaN or an infinity of one rank is in everybody's sum.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from raymix.train.state import TrainState


class Skipped(NamedTuple):
    """What a segment left out; counts."""

    steps: int
    with_ssl: int  # of these, steps with an SSL loss
    with_sl: int  # of these, steps with a labelled row, on whichever rank
    labelled: int  # rows that would have fed the supervised loss


NOTHING = Skipped(0, 0, 0, 0)


class Guard:
    """Keeps steps that are not finite from the state, and counts them. One for all kinds of steps of a run.

    `torch.where` and masks throughout: 0 times NaN is NaN.
    """

    def __init__(self, state: TrainState, world: int) -> None:
        device = next(state.model.parameters()).device
        self.found = torch.zeros((), device=device)  # 1: this step is not finite; what torch's fused AdamW asks for
        self._counts_4 = torch.zeros(4, device=device)  # as `Skipped` has them
        self._state, self._world = state, world
        parameters = {name for name, _ in state.model.named_parameters()}
        # what a backbone's forward pass may change: running statistics, counters
        self._buffers = [value for name, value in state.model.state_dict().items() if name not in parameters]
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """A step begins: what its forward pass may change is kept."""
        self._before = [value.clone() for value in self._buffers]

    def marked(self, loss: Tensor) -> Tensor:
        """The loss, to be derived: where it is not finite no gradient is, which MSE past its range would have."""
        return loss * torch.ones_like(loss).masked_fill(~loss.detach().isfinite(), math.nan)

    @torch.no_grad()
    def judge(self, norm: Tensor | None) -> None:
        """Whether the step is left out: by the norm of all gradients, which is at hand where they were clipped."""
        if norm is None:
            gradients = [p.grad for p in self._state.model.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients, foreach=True)
        self.found.copy_(~norm.isfinite())
        for now, before in zip(self._buffers, self._before, strict=True):
            now.copy_(torch.where(self.found > 0, before, now))

    def optimize(self) -> None:
        """The optimizer's step, unless it is left out: weights, moments and step counts then stay as they are."""
        optimizer = self._state.optimizer
        optimizer.found_inf = self.found  # type: ignore[attr-defined] # as torch's GradScaler hands it over
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]

    def unless(self, value: float) -> Tensor:
        """The value, 0 where the step is left out; float32 ()."""
        return value * (1 - self.found)

    def counted(self, stats: Tensor, scale: Tensor, has_ssl: bool, has_sl: bool) -> Tensor:
        """A step's statistics (3,), zero where it is left out; `scale` as the whole batch has it."""
        labelled = (self._world / scale).masked_fill(scale == 0, 0) if has_sl else torch.zeros_like(scale)
        one = torch.ones_like(scale)
        self._counts_4 += self.found * torch.stack((one, one * has_ssl, (labelled > 0).float(), labelled))
        return stats.masked_fill(self.found > 0, 0)

    def clear(self) -> None:
        """A segment begins."""
        self._counts_4.zero_()

    def skipped(self) -> Skipped:
        """What was left out since `clear`, the same on every rank; waits for the device."""
        return Skipped(*(round(count) for count in self._counts_4.tolist()))
