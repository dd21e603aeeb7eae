"""What every backbone f is, the classifier h, and what both are made with.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, P pixel values of a patch,
D width.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raymix.method.draw import Key


class How(NamedTuple):
    """How a backbone is made."""

    allow_import: tuple[str, ...] = ()  # factories, as `package.module:factory`, that may be imported
    start: bool = True  # with the weights that training starts from; False: they come from elsewhere
    meta: bool = False  # without weights, to learn its shapes

    def device(self) -> AbstractContextManager[Any]:
        """The device that it is made on."""
        return torch.device("meta") if self.meta else nullcontext()


START = How()


class Backbone(nn.Module):
    """A backbone: images to tokens.

    Attributes:
        width: D.
        patch: pixels a side of what one token stands for; 0: the tokens are no grid over the image.
        num_patches: L.
        drops: whether it can compute the visible patches alone (`keep_BK`).
        token_shape: of the parameter that stands for a hidden patch, broadcast over what it replaces.
    """

    width: int
    patch: int
    num_patches: int
    drops: bool
    token_shape: tuple[int, ...]

    @abstractmethod
    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
        key_B: Key | None = None,
    ) -> Tensor:
        """Images (B, C, H, W) to tokens: (B, K, D) of the patches in `keep_BK`, else (B, L, D).

        `token` stands in for the patches in `hidden_BL` (SimMIM, Xie et al. 2022, arXiv 2111.09886). `key_B` is what
        stochastic depth is drawn with, where there is any; of images that are seen twice, the first views stand first.
        None: nothing is skipped, as in evaluation.
        """

    @abstractmethod
    def regions(self) -> list[nn.Module]:
        """Its repeated parts, which are compiled, and recomputed where memory is short, one by one."""

    def pieces(self, thorough: bool) -> list[str]:
        """Names of the methods between the regions that are compiled too; `thorough`: also where it brings little."""
        return []


def patchify(x_BCHW: Tensor, patch: int) -> Tensor:
    """Images (B, C, H, W) as their patches (B, L, P), row by row, P = patch * patch * C."""
    B, C, H, W = x_BCHW.shape
    x = x_BCHW.view(B, C, H // patch, patch, W // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(B, (H // patch) * (W // patch), patch * patch * C)


def unpatchify(x_BLP: Tensor, shape: torch.Size, patch: int) -> Tensor:
    """Images of that shape (B, C, H, W) from their patches: undoes `patchify`."""
    B, C, H, W = shape
    x = x_BLP.view(B, H // patch, W // patch, patch, patch, C)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(B, C, H, W)


def take(x_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """Tokens at the given places: (B, L, D), (B, K) -> (B, K, D)."""
    return x_BLD.gather(1, index_BK[:, :, None].expand(-1, -1, x_BLD.shape[2]))


class Classifier(nn.Module):
    """The mean of the tokens, then one linear layer that starts at zero."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, z_BLD: Tensor) -> Tensor:
        """Tokens (B, L, D) to logits (B, classes)."""
        logits: Tensor = self.linear(z_BLD.mean(1))
        return logits


def init(module: nn.Module) -> None:
    """Xavier-uniform matrices and zero biases, normal positions and tokens (He et al. 2022, appendix A)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    for parameter in module.parameters():
        if parameter.ndim == 3:
            nn.init.normal_(parameter, std=0.02)
