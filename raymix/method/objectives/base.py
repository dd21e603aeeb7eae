"""What every SSL objective is: the view it gives the backbone, and the loss of what comes back.

B images, V views of each, C channels, S pixels a side as stored, H W as seen, L patches, K visible, M hidden, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from raymix.method.draw import Key
from raymix.method.views import Augment
from raymix.plan import Kind


class View(NamedTuple):
    """What one pass of the backbone is given, and what the objective remembers of it."""

    x_BCHW: Tensor  # V * B normalised images: the first views of all, then the second views
    keep_BK: Tensor | None = None  # places of the visible patches; None: all are
    hide_BM: Tensor | None = None  # places of the hidden ones
    num_views: int = 1
    num_classified: int = 1  # of these, from the first on: what the classifier sees where it shares the pass


class Objective(nn.Module):
    """An SSL objective g with its decoder or projector."""

    augment: Augment  # of the first view
    decode_from: int | None = None  # block of the backbone whose tokens it takes; None: the last ones

    @abstractmethod
    def view(self, x_BSSC: Tensor, key_B: Key, kind: Kind = "ssl") -> View:
        """Stored images to what the backbone is given in steps of a kind. Uses no parameter."""

    @abstractmethod
    def forward(self, z_BLD: Tensor, view: View) -> Tensor:
        """g: the loss of the backbone's tokens for that view. Its mean over ranks is the global batch's loss."""

    def pictures(
        self, x_BSSC: Tensor, clean_BCHW: Tensor, key_B: Key, look: Callable[[View], Tensor], kind: Kind
    ) -> dict[str, Tensor]:
        """What a report shows of its work on some images: normalised ones (B, C, H, W) by name.

        Args:
            x_BSSC: The images as stored.
            clean_BCHW: The same, normalised, without augmentation.
            key_B: Of their random draws.
            look: The backbone's tokens for a view.
            kind: As in steps of that kind.
        """
        return {}

    def regions(self) -> list[nn.Module]:
        """Its repeated parts, which are compiled, and recomputed where memory is short, one by one."""
        return []

    def pieces(self, thorough: bool) -> list[str]:
        """Names of the methods between the regions that are compiled too; `thorough`: also where it brings little."""
        return []
