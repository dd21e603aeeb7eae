"""Backbones of blocks: tokens can be had after any of them, and training may skip them at random.

B batch, N factors a row, D width.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from raymix.method import draw
from raymix.method.backbones.base import Backbone
from raymix.method.draw import Key


class Layered(Backbone):
    """A backbone of blocks, one after another.

    Attributes:
        num_blocks: how many.
        drop_path: probability that a row skips the last block; it grows linearly from 0 at the first.
    """

    num_blocks: int
    drop_path: float = 0.0

    @abstractmethod
    def tapped(
        self,
        block: int,
        on: bool,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
        key_B: Key | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The tokens after a block, counted from 1, as they are there (no norm), and those that `forward` gives.

        `on` False: what follows the block is not computed.
        """

    @abstractmethod
    def after(self, block: int) -> list[nn.Module]:
        """All that has parameters and follows a block."""

    def depths(self) -> dict[nn.Parameter, int]:
        """Where each parameter stands: 0 before the blocks, n in the n-th of them, num_blocks + 1 behind the last."""
        found = dict.fromkeys(self.parameters(), 0)
        for depth, parts in enumerate((self.regions()[:1], *map(self.after, range(1, self.num_blocks + 1))), 1):
            found.update((parameter, depth) for part in parts for parameter in part.parameters())
        return found

    def paths(self, key_B: Key | None, num_rows: int, branches: int) -> Tensor | None:
        """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): factors on what each branch of a block adds to a row.

        0 where the row skips the branch, else 1 over the probability that it does not, so that the mean stays.

        Args:
            key_B: Of the rows; None: nothing is skipped.
            num_rows: Of the pass: a multiple of B where each image is seen more than once.
            branches: Of a block, each skipped by itself.

        Returns:
            float32 (num_blocks * branches, num_rows); None: nothing is skipped.
        """
        if key_B is None or not self.drop_path:
            return None
        num, views = self.num_blocks * branches, num_rows // len(draw.as_tensor(key_B))
        drawn = [draw.uniform(key_B, draw.PATH + view * draw.SECOND_VIEW, num) for view in range(views)]
        drawn_NB = torch.cat(drawn).T
        skipped = torch.linspace(0, self.drop_path, self.num_blocks, device=drawn_NB.device)
        skipped_N1 = skipped[:, None].expand(-1, branches).reshape(num, 1)
        return ((drawn_NB >= skipped_N1) / (1 - skipped_N1)).contiguous()


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
        key_B: Key | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The tokens after the block, as they are there (no norm); with `on` also those that the backbone gives."""
        tap_BLD, z_BLD = self._tapped(self.block, self.on, x_BCHW, keep_BK, hidden_BL, token, key_B)
        return tap_BLD if z_BLD is None else (tap_BLD, z_BLD)
