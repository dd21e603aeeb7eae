"""raymix's own Vision Transformer.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method.backbones.base import How, init, patchify, take
from raymix.method.backbones.layered import Layered
from raymix.spec import VIT_SIZES, JobSpec
from raymix.spec import Vit as VitSpec


class Block(nn.Module):
    """One pre-norm transformer block: attention, then a two-layer perceptron of four times the width.

    The sum of stream and update is left to whoever comes next, so that a compiled block ends with a matrix product and
    begins with what can be fused: sum and norm.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, z_BLD: Tensor, update_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """Stream and the update that is still to be added, both (B, L, D), to the same after this block."""
        B, L, D = z_BLD.shape
        z_BLD = z_BLD + update_BLD
        q, k, v = self.qkv(self.norm1(z_BLD)).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        a_BLD = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D)
        z_BLD = z_BLD + self.out(a_BLD)
        return z_BLD, self.down(F.gelu(self.up(self.norm2(z_BLD))))


class Vit(Layered):
    """Vision Transformer without a class token; positions are learned. Only the visible patches are computed."""

    def __init__(self, image_size: int, num_channels: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.width, self.num_patches = patch, width, (image_size // patch) ** 2
        self.drops, self.num_blocks, self.token_shape = True, depth, (1, 1, width)
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
        z_BLD, update_BLD = self.enter(x_BCHW, keep_BK, hidden_BL, token)
        for block in self.blocks:
            z_BLD, update_BLD = block(z_BLD, update_BLD)
        return self.leave(z_BLD, update_BLD)

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
        z_BLD, update_BLD = self.enter(x_BCHW, keep_BK, hidden_BL, token)
        for part in self.blocks[:block]:
            z_BLD, update_BLD = part(z_BLD, update_BLD)
        tap_BLD = z_BLD + update_BLD
        if not on:
            return tap_BLD, None
        for part in self.blocks[block:]:
            z_BLD, update_BLD = part(z_BLD, update_BLD)
        return tap_BLD, self.leave(z_BLD, update_BLD)

    def after(self, block: int) -> list[nn.Module]:
        """As `Layered.after`."""
        return [*self.blocks[block:], self.norm]

    def enter(
        self, x_BCHW: Tensor, keep_BK: Tensor | None, hidden_BL: Tensor | None, token: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Positions, and the embedded patches as what is to be added to them."""
        x_BLP = patchify(x_BCHW, self.patch)
        position_BLD = self.position_1LD.expand(len(x_BLP), -1, -1)
        if keep_BK is not None:
            x_BLP, position_BLD = take(x_BLP, keep_BK), take(position_BLD, keep_BK)
        z_BLD: Tensor = self.embed(x_BLP)
        if hidden_BL is not None and token is not None:
            z_BLD = torch.where(hidden_BL[:, :, None], token.to(z_BLD.dtype), z_BLD)
        return position_BLD.contiguous(), z_BLD  # laid out as in every later block, which are compiled once for all

    def leave(self, z_BLD: Tensor, update_BLD: Tensor) -> Tensor:
        """The tokens, normalised."""
        normal_BLD: Tensor = self.norm(z_BLD + update_BLD)
        return normal_BLD

    def regions(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def pieces(self, thorough: bool) -> list[str]:
        """What stands before and after them."""
        return ["enter", "leave"] if thorough else []


def build(spec: JobSpec, how: How) -> Vit:
    """The ViT that a job names, with random weights."""
    assert isinstance(spec.backbone, VitSpec)
    width, depth, heads = VIT_SIZES[spec.backbone.size]
    with how.device():
        return Vit(spec.data.image_size, spec.data.num_channels, spec.backbone.patch, width, depth, heads)
