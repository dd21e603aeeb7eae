"""Backbones whose tokens can be had after any of their blocks: for objectives that decode from within."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from raymix.method.backbones.base import Backbone


class Layered(Backbone):
    """A backbone of blocks, one after another.

    Attributes:
        num_blocks: how many.
    """

    num_blocks: int

    @abstractmethod
    def tapped(
        self,
        block: int,
        on: bool,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens after a block, counted from 1, as they are there (no norm), and those that `forward` gives.

        `on` False: what follows the block is not computed.
        """

    @abstractmethod
    def after(self, block: int) -> list[nn.Module]:
        """All that has parameters and follows a block."""


class Tapped(nn.Module):
    """A backbone's tokens after a block and, if `on`, its last ones. It shares the backbone's weights.

    Without `on` it holds the parameters up to that block alone: a step is to hold what it trains.
    """

    def __init__(self, f: Layered, block: int, on: bool) -> None:
        super().__init__()
        self.num_patches, self.block, self.on = f.num_patches, block, on
        self._tapped = f.tapped  # a bound method: the backbone does not become a part of this
        later = set() if on else {id(p) for part in f.after(block) for p in part.parameters()}
        self.weights = nn.ParameterList(p for p in f.parameters() if id(p) not in later)

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The tokens after the block, as they are there (no norm); with `on` also those that the backbone gives."""
        tap_BLD, z_BLD = self._tapped(self.block, self.on, x_BCHW, keep_BK, hidden_BL, token)
        return tap_BLD if z_BLD is None else (tap_BLD, z_BLD)
