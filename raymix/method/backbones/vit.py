"""raymix's own Vision Transformer.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method.backbones.base import Backbone, init, patchify, take
from raymix.spec import JobSpec
from raymix.spec import Vit as VitSpec

# width, depth, heads (Dosovitskiy et al. 2021 and Touvron et al. 2021; nano is for digits and tests)
SIZES = {"nano": (64, 4, 4), "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}


class Block(nn.Module):
    """One pre-norm transformer block: attention, then a two-layer perceptron of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, z_BLD: Tensor) -> Tensor:
        B, L, D = z_BLD.shape
        q, k, v = self.qkv(self.norm1(z_BLD)).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        a_BLD = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D)
        z_BLD = z_BLD + self.out(a_BLD)
        result_BLD: Tensor = z_BLD + self.down(F.gelu(self.up(self.norm2(z_BLD))))
        return result_BLD


class Vit(Backbone):
    """Vision Transformer without a class token; positions are learned. Only the visible patches are computed."""

    def __init__(self, image_size: int, num_channels: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.width, self.num_patches = patch, width, (image_size // patch) ** 2
        self.drops, self.token_shape = True, (1, 1, width)
        self.embed = nn.Linear(patch * patch * num_channels, width)
        self.position_1LD = nn.Parameter(torch.empty(1, self.num_patches, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        init(self)

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
    ) -> Tensor:
        """As `Backbone.forward`; patches that are not kept are not computed."""
        x_BLP = patchify(x_BCHW, self.patch)
        position_BLD: Tensor = self.position_1LD
        if keep_BK is not None:
            x_BLP = take(x_BLP, keep_BK)
            position_BLD = take(position_BLD.expand(len(keep_BK), -1, -1), keep_BK)
        z_BLD: Tensor = self.embed(x_BLP)
        if hidden_BL is not None and token is not None:
            z_BLD = torch.where(hidden_BL[:, :, None], token.to(z_BLD.dtype), z_BLD)
        z_BLD = z_BLD + position_BLD
        for block in (*self.blocks, self.norm):
            z_BLD = block(z_BLD)
        return z_BLD

    def regions(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)


def build(spec: JobSpec) -> Vit:
    """The ViT that a job names, with random weights."""
    assert isinstance(spec.backbone, VitSpec)
    width, depth, heads = SIZES[spec.backbone.size]
    return Vit(spec.data.image_size, spec.data.num_channels, spec.backbone.patch, width, depth, heads)
