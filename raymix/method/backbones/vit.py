"""raymix's own Vision Transformer.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, K of them visible, D width, U hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method.attention import attend
from raymix.method.backbones.base import How, init, patchify, take
from raymix.method.backbones.layered import Layered
from raymix.method.draw import Key
from raymix.spec import VIT_SIZES, JobSpec
from raymix.spec import Vit as VitSpec


class Block(nn.Module):
    """One pre-norm transformer block: attention, then a two-layer perceptron of four times the width.

    The sum of stream and update is left to whoever comes next, so that a compiled block ends with a matrix product and
    begins with what can be fused: sum and norm.

    Attributes:
        units, channels: gates of 1 or 0 on hidden units (U,) and on what the heads give (D,); None: all are open.
    """

    units: Tensor | None
    channels: Tensor | None

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("units", None)
        self.register_buffer("channels", None)

    def forward(
        self, z_BLD: Tensor, update_BLD: Tensor, given_B: Tensor | None = None, attended_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Stream and the update that is still to be added, both (B, L, D), to the same after this block.

        `given_B` and `attended_B` are factors on that update and on what attention adds; None: 1.
        """
        z_BLD = add(z_BLD, update_BLD, given_B)
        a_BLD = gated(attend(self.qkv(self.norm1(z_BLD)), self.heads), self.channels)
        z_BLD = add(z_BLD, self.out(a_BLD), attended_B)
        return z_BLD, self.down(gated(F.gelu(self.up(self.norm2(z_BLD))), self.units))


def gated(x_BLX: Tensor, gate_X: Tensor | None) -> Tensor:
    """What goes through a gate; all of it where there is none."""
    return x_BLX if gate_X is None else x_BLX * gate_X.to(x_BLX.dtype)


def add(z_BLD: Tensor, update_BLD: Tensor, path_B: Tensor | None) -> Tensor:
    """Stream and update, the latter times a factor for each row."""
    return z_BLD + update_BLD if path_B is None else z_BLD + path_B[:, None, None] * update_BLD


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
        key_B: Key | None = None,
    ) -> Tensor:
        """As `Backbone.forward`; patches that are not kept are not computed."""
        z_BLD, update_BLD = self.enter(x_BCHW, keep_BK, hidden_BL, token)
        factors = self._factors(key_B, x_BCHW.shape[0])
        z_BLD, update_BLD = self._through(0, self.num_blocks, z_BLD, update_BLD, factors)
        return self.leave(z_BLD, update_BLD, factors[-1])

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
        z_BLD, update_BLD = self.enter(x_BCHW, keep_BK, hidden_BL, token)
        factors = self._factors(key_B, x_BCHW.shape[0])
        z_BLD, update_BLD = self._through(0, block, z_BLD, update_BLD, factors)
        tap_BLD = add(z_BLD, update_BLD, factors[2 * block])
        if not on:
            return tap_BLD, None
        z_BLD, update_BLD = self._through(block, self.num_blocks, z_BLD, update_BLD, factors)
        return tap_BLD, self.leave(z_BLD, update_BLD, factors[-1])

    def after(self, block: int) -> list[nn.Module]:
        """As `Layered.after`."""
        return [*self.blocks[block:], self.norm]

    def enter(
        self, x_BCHW: Tensor, keep_BK: Tensor | None, hidden_BL: Tensor | None, token: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Positions, and the embedded patches as what is to be added to them."""
        x_BLP = patchify(x_BCHW, self.patch)
        position_BLD = self.position_1LD.expand(x_BLP.shape[0], -1, -1)  # len would fix it in an exported graph
        if keep_BK is not None:
            x_BLP, position_BLD = take(x_BLP, keep_BK), take(position_BLD, keep_BK)
        z_BLD: Tensor = self.embed(x_BLP)
        if hidden_BL is not None and token is not None:
            z_BLD = torch.where(hidden_BL[:, :, None], token.to(z_BLD.dtype), z_BLD)
        return position_BLD.contiguous(), z_BLD  # laid out as in every later block, which are compiled once for all

    def leave(self, z_BLD: Tensor, update_BLD: Tensor, path_B: Tensor | None = None) -> Tensor:
        """The tokens, normalised."""
        normal_BLD: Tensor = self.norm(add(z_BLD, update_BLD, path_B))
        return normal_BLD

    def _factors(self, key_B: Key | None, num_rows: int) -> list[Tensor] | list[None]:
        """Factors on the two updates that each block begins with adding, and on the last one; see `paths`."""
        paths_NB = self.paths(key_B, num_rows, branches=2)
        if paths_NB is None:
            return [None] * (2 * self.num_blocks + 1)
        return [torch.ones_like(paths_NB[0]), *paths_NB]

    def _through(
        self, first: int, end: int, z_BLD: Tensor, update_BLD: Tensor, factors: list[Tensor] | list[None]
    ) -> tuple[Tensor, Tensor]:
        """The blocks from number `first` up to `end`."""
        for number in range(first, end):
            z_BLD, update_BLD = self.blocks[number](z_BLD, update_BLD, *factors[2 * number : 2 * number + 2])
        return z_BLD, update_BLD

    def regions(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def pieces(self, thorough: bool) -> list[str]:
        """What stands before and after them."""
        return ["enter", "leave"]


def adapted(tensors: dict[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]:
    """Positions of another image size, interpolated as timm does it: bicubic, antialiased."""
    name, own = "position_1LD", net.state_dict()
    given = tensors.get(name)
    if given is None or given.ndim != 3 or given.shape[1] == own[name].shape[1]:
        return tensors
    _, L, D = given.shape
    before, now = math.isqrt(L), math.isqrt(own[name].shape[1])
    if before * before != L or own[name].shape[2] != D:
        return tensors
    grid_1DSS = given.float().view(1, before, before, D).permute(0, 3, 1, 2)
    grid_1DSS = F.interpolate(grid_1DSS, (now, now), mode="bicubic", antialias=True, align_corners=False)
    return {**tensors, name: grid_1DSS.flatten(2).transpose(1, 2).contiguous()}


def build(spec: JobSpec, how: How) -> Vit:
    """The ViT that a job names, with random weights."""
    assert isinstance(spec.backbone, VitSpec)
    width, depth, heads = VIT_SIZES[spec.backbone.size]
    with how.device():
        return Vit(spec.data.image_size, spec.data.num_channels, spec.backbone.patch, width, depth, heads)
