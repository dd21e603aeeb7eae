"""The backbone f and the classifier h.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, P pixel values of a patch,
D width, N heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.spec import JobSpec

# width, depth, heads (Dosovitskiy et al. 2021 and Touvron et al. 2021; nano is for digits and tests)
SIZES = {"nano": (64, 4, 4), "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}


def patchify(x_BCHW: Tensor, patch: int) -> Tensor:
    """Images (B, C, H, W) as their patches (B, L, P), row by row, P = patch * patch * C."""
    B, C, H, W = x_BCHW.shape
    x = x_BCHW.view(B, C, H // patch, patch, W // patch, patch)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(B, (H // patch) * (W // patch), patch * patch * C)


def take(x_BLD: Tensor, index_BK: Tensor) -> Tensor:
    """Tokens at the given places: (B, L, D), (B, K) -> (B, K, D)."""
    return x_BLD.gather(1, index_BK[:, :, None].expand(-1, -1, x_BLD.shape[2]))


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


class Vit(nn.Module):
    """Vision Transformer without a class token; positions are learned. Only the visible patches are computed."""

    def __init__(self, image_size: int, num_channels: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.embed = nn.Linear(patch * patch * num_channels, width)
        self.position_1LD = nn.Parameter(torch.empty(1, (image_size // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        init(self)

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token_11D: Tensor | None = None,
    ) -> Tensor:
        """Images (B, C, H, W) to tokens: (B, K, D) of the patches in `keep_BK`, else (B, L, D).

        `token_11D` stands in for the patches in `hidden_BL` (SimMIM, Xie et al. 2022, arXiv 2111.09886).
        """
        x_BLP = patchify(x_BCHW, self.patch)
        position_BLD: Tensor = self.position_1LD
        if keep_BK is not None:
            x_BLP = take(x_BLP, keep_BK)
            position_BLD = take(position_BLD.expand(len(keep_BK), -1, -1), keep_BK)
        z_BLD: Tensor = self.embed(x_BLP)
        if hidden_BL is not None and token_11D is not None:
            z_BLD = torch.where(hidden_BL[:, :, None], token_11D.to(z_BLD.dtype), z_BLD)
        z_BLD = z_BLD + position_BLD
        for block in (*self.blocks, self.norm):
            z_BLD = block(z_BLD)
        return z_BLD


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


def build(spec: JobSpec) -> Vit:
    """The backbone that a job names."""
    width, depth, heads = SIZES[spec.backbone.size]
    return Vit(spec.data.image_size, spec.data.num_channels, spec.backbone.patch, width, depth, heads)
