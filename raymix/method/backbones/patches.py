"""Vision Transformers of other libraries, their parts called one by one so that patches can be left out or hidden.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, P prefix tokens (class,
registers), D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from raymix.method.backbones.base import take
from raymix.method.backbones.layered import Layered
from raymix.spec import JobError, nearest_size


class PatchVit(Layered):
    """A ViT whose tokens each see one patch before the first block. Prefix tokens take part and are not returned."""

    def __init__(self, net: nn.Module, image_size: int, patch: int, width: int, num_prefix: int) -> None:
        super().__init__()
        if image_size % patch:
            problem = f"{image_size} is not divisible by the backbone's patch of {patch}"
            raise JobError("data.image_size", problem, nearest_size(image_size, patch))
        self.net, self.patch, self.width, self.num_prefix = net, patch, width, num_prefix
        self.num_patches, self.drops, self.token_shape = (image_size // patch) ** 2, True, (1, 1, width)
        self.num_blocks = len(self.regions())

    @abstractmethod
    def embed(self, x_BCHW: Tensor) -> Tensor:
        """Images to the tokens (B, L, D) of their patches, without positions."""

    @abstractmethod
    def place(self, z_BLD: Tensor) -> Tensor:
        """Prefix tokens in front and positions added: (B, P + L, D)."""

    @abstractmethod
    def parts(self) -> Iterable[nn.Module]:
        """What follows, one after another: (B, any, D) to (B, any, D)."""

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
    ) -> Tensor:
        """As `Backbone.forward`; the blocks do not compute patches that are not kept."""
        z = self._enter(x_BCHW, keep_BK, hidden_BL, token)
        for part in self.parts():
            z = part(z)
        return z[:, self.num_prefix :]

    def tapped(
        self,
        block: int,
        on: bool,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """As `Layered.tapped`."""
        z, P = self._enter(x_BCHW, keep_BK, hidden_BL, token), self.num_prefix
        parts, num = list(self.parts()), self._up_to(block)
        for part in parts[:num]:
            z = part(z)
        tap_BLD = z[:, P:]
        if not on:
            return tap_BLD, None
        for part in parts[num:]:
            z = part(z)
        return tap_BLD, z[:, P:]

    def after(self, block: int) -> list[nn.Module]:
        """As `Layered.after`."""
        return list(self.parts())[self._up_to(block) :]

    def _up_to(self, block: int) -> int:
        """How many of the parts end with a block."""
        last = self.regions()[block - 1]
        return next(number for number, part in enumerate(self.parts(), 1) if part is last)

    def _enter(self, x_BCHW: Tensor, keep_BK: Tensor | None, hidden_BL: Tensor | None, token: Tensor | None) -> Tensor:
        """Prefix tokens and those of the patches that are kept, with their positions."""
        z = self.embed(x_BCHW)
        if hidden_BL is not None and token is not None:
            z = torch.where(hidden_BL[:, :, None], token.to(z.dtype), z)
        z, P = self.place(z), self.num_prefix
        if keep_BK is not None:
            z = torch.cat((z[:, :P], take(z[:, P:], keep_BK)), 1)
        return z
