"""Masked autoencoder (He et al. 2022, arXiv 2111.06377): draw the hidden patches from the visible ones.

B batch, C channels, S pixels a side as stored, H W as seen, L patches, K visible, M hidden, P pixel values of a patch,
D width of the backbone, E width of the decoder.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raymix.method import draw
from raymix.method.backbones.base import Backbone, init, patchify, take, unpatchify
from raymix.method.backbones.vit import Block
from raymix.method.draw import Key
from raymix.method.objectives.base import Objective, View
from raymix.method.views import Augment
from raymix.plan import Kind
from raymix.spec import MIX_KINDS, JobSpec, Mae, num_visible


class MaeObjective(Objective):
    """A narrow transformer decoder and the mean squared error over the hidden patches."""

    def __init__(self, spec: JobSpec, augment: Augment, f: Backbone) -> None:
        super().__init__()
        assert isinstance(spec.objective, Mae)
        mae, self.patch = spec.objective, f.patch
        self.augment, self.norm_pixels, self.num_patches = augment, mae.norm_pixels, f.num_patches
        kinds: tuple[Kind, ...] = ("ssl", "sl_drop", *MIX_KINDS[: len(mae.mix_ratios)])
        self.num_visible = {kind: num_visible(f.num_patches, mae.hidden(kind)) for kind in kinds}
        self.decode_from, width = mae.decode_from, mae.decoder_width
        # tokens from within the backbone have not been through its last norm, which is the classifier's alone then
        self.entry = nn.Identity() if mae.decode_from is None else nn.LayerNorm(f.width)
        self.project = nn.Linear(f.width, width)
        self.token_11E = nn.Parameter(torch.empty(1, 1, width))
        self.position_1LE = nn.Parameter(torch.empty(1, f.num_patches, width))
        heads = max(1, width // 32)
        self.blocks = nn.ModuleList(Block(width, heads if width % heads == 0 else 1) for _ in range(mae.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.draw = nn.Linear(width, self.patch**2 * spec.data.num_channels)
        init(self)

    @torch.no_grad()
    def view(self, x_BSSC: Tensor, key_B: Key, kind: Kind = "ssl") -> View:
        """One augmented view with a random share of its patches hidden."""
        return self._masked(self.augment(x_BSSC, key_B), key_B, kind)

    def forward(self, z_BLD: Tensor, view: View) -> Tensor:
        """The loss, from the tokens of the visible patches (B, K, D) or of all (B, L, D)."""
        assert view.hide_BM is not None
        return self.leave(*self._decoded(z_BLD, view), view.x_BCHW, view.hide_BM)

    def pictures(
        self, x_BSSC: Tensor, clean_BCHW: Tensor, key_B: Key, look: Callable[[View], Tensor], kind: Kind
    ) -> dict[str, Tensor]:
        """What is left to see, and what is drawn at the hidden places.

        Where the target is normalised pixels, each patch's own mean and deviation are given back to what is drawn.
        """
        view = self._masked(clean_BCHW, key_B, kind)
        assert view.hide_BM is not None
        patches_BLP = patchify(clean_BCHW, self.patch)
        place_BMP = view.hide_BM[:, :, None].expand(-1, -1, patches_BLP.shape[2])
        drawn_BMP = self._drawn(*self._decoded(look(view), view), view.hide_BM)
        if self.norm_pixels:
            variance, mean = torch.var_mean(take(patches_BLP, view.hide_BM), dim=2, keepdim=True)
            drawn_BMP = drawn_BMP * (variance + 1e-6).sqrt() + mean
        both = patches_BLP.scatter(1, place_BMP, 0.0), patches_BLP.scatter(1, place_BMP, drawn_BMP)
        masked, redrawn = (unpatchify(x_BLP, clean_BCHW.shape, self.patch) for x_BLP in both)
        return {"masked": masked, "reconstructed": redrawn}

    def enter(self, z_BLD: Tensor, keep_BK: Tensor, hide_BM: Tensor) -> tuple[Tensor, Tensor]:
        """Positions, and the decoder's input as what is to be added to them."""
        y_BLE = self._decoder_input(self.project(self.entry(z_BLD)), keep_BK, hide_BM)
        return self.position_1LE.expand_as(y_BLE).contiguous(), y_BLE

    def leave(self, y_BLE: Tensor, update_BLE: Tensor, x_BCHW: Tensor, hide_BM: Tensor) -> Tensor:
        """The loss of what is drawn at the hidden places."""
        drawn_BMP = self._drawn(y_BLE, update_BLE, hide_BM)
        target_BMP = take(patchify(x_BCHW, self.patch), hide_BM)
        if self.norm_pixels:
            variance, mean = torch.var_mean(target_BMP, dim=2, keepdim=True)
            target_BMP = (target_BMP - mean) / (variance + 1e-6).sqrt()
        L: Tensor = (drawn_BMP - target_BMP).square().mean()
        return L

    def regions(self) -> list[nn.Module]:
        """The decoder's blocks."""
        return list(self.blocks)

    def pieces(self, thorough: bool) -> list[str]:
        """The view, what stands before the blocks, and the loss."""
        return ["view", "enter", "leave"]

    def _masked(self, x_BCHW: Tensor, key_B: Key, kind: Kind) -> View:
        """These images with a random share of their patches hidden."""
        order_BL = draw.uniform(key_B, draw.MASK, self.num_patches).argsort(1)
        K = self.num_visible[kind]
        return View(x_BCHW, order_BL[:, :K], order_BL[:, K:])

    def _decoded(self, z_BLD: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """The decoder's output at all places, as what `leave` takes."""
        assert view.keep_BK is not None
        assert view.hide_BM is not None
        y_BLE, update_BLE = self.enter(z_BLD, view.keep_BK, view.hide_BM)
        for block in self.blocks:
            y_BLE, update_BLE = block(y_BLE, update_BLE)
        return y_BLE, update_BLE

    def _drawn(self, y_BLE: Tensor, update_BLE: Tensor, hide_BM: Tensor) -> Tensor:
        """Pixels of the hidden patches, float32 (B, M, P)."""
        drawn_BMP: Tensor = self.draw(self.norm(take(y_BLE + update_BLE, hide_BM)))
        return drawn_BMP.float()

    def _decoder_input(self, y_BXE: Tensor, keep_BK: Tensor, hide_BM: Tensor) -> Tensor:
        """All L places: what the backbone says of those it computed, and the mask token at the hidden ones."""
        token = self.token_11E.to(y_BXE.dtype).expand(*hide_BM.shape, -1)
        hide = hide_BM[:, :, None].expand_as(token)
        if y_BXE.shape[1] == self.num_patches:
            return y_BXE.scatter_add(1, hide, token)
        y_BLE = torch.cat((y_BXE, token), 1)
        return take(y_BLE, torch.cat((keep_BK, hide_BM), 1).argsort(1))
