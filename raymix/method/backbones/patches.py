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
from raymix.method.draw import Key
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
        key_B: Key | None = None,
    ) -> Tensor:
        """As `Backbone.forward`; the blocks do not compute patches that are not kept."""
        z, factors = self._enter(x_BCHW, keep_BK, hidden_BL, token), self._factors(key_B, x_BCHW.shape[0])
        return self._through(self.parts(), z, factors)[:, self.num_prefix :]

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
        """As `Layered.tapped`."""
        z, P = self._enter(x_BCHW, keep_BK, hidden_BL, token), self.num_prefix
        parts, num, factors = list(self.parts()), self._up_to(block), self._factors(key_B, x_BCHW.shape[0])
        z = self._through(parts[:num], z, factors)
        tap_BLD = z[:, P:]
        return tap_BLD, self._through(parts[num:], z, factors)[:, P:] if on else None

    def after(self, block: int) -> list[nn.Module]:
        """As `Layered.after`."""
        return list(self.parts())[self._up_to(block) :]

    def _factors(self, key_B: Key | None, num_rows: int) -> dict[nn.Module, Tensor]:
        """What `paths` draws, by block: a row skips all of it, since its branches are the library's own."""
        paths_NB = self.paths(key_B, num_rows, branches=1)
        return {} if paths_NB is None else dict(zip(self.regions(), paths_NB, strict=True))

    def _through(self, parts: Iterable[nn.Module], z: Tensor, factors: dict[nn.Module, Tensor]) -> Tensor:
        """The parts one after another; what a block with a factor adds is multiplied by it."""
        for part in parts:
            before, z = z, part(z)
            if part in factors:
                z = before + factors[part][:, None, None] * (z - before)
        return z

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
