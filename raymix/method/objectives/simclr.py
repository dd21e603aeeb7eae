"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image find each other among all images of the batch.

B batch of this rank, G batch of all ranks, C channels, S pixels a side as stored, L tokens, D width of the backbone,
E width of the projection.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method import draw
from raymix.method.backbones.base import Backbone, init
from raymix.method.draw import Key
from raymix.method.objectives.base import Objective, View
from raymix.method.views import Augment
from raymix.plan import Kind
from raymix.spec import JobSpec, SimClr, ViewAugment


class SimClrObjective(Objective):
    """A two-layer projector and the NT-Xent loss (equation 1) over the global batch."""

    def __init__(self, spec: JobSpec, augment: Augment, f: Backbone) -> None:
        super().__init__()
        assert isinstance(spec.objective, SimClr)
        simclr, width = spec.objective, f.width
        self.temperature = simclr.temperature
        self.augment = _view(simclr.first_view, spec, augment)
        self.second = _view(simclr.second_view, spec, augment)
        # a second view unlike the first is there for the contrast alone
        self.num_classified = 2 if simclr.first_view == simclr.second_view else 1
        self.up = nn.Linear(width, simclr.projector_width)
        self.down = nn.Linear(simclr.projector_width, simclr.output_width)
        init(self)

    @torch.no_grad()
    def view(self, x_BSSC: Tensor, key_B: Key, kind: Kind = "ssl") -> View:
        """Two augmented views of each image."""
        views = self.augment(x_BSSC, key_B), self.second(x_BSSC, key_B, draw.SECOND_VIEW)
        return View(torch.cat(views), num_views=2, num_classified=self.num_classified)

    def pictures(
        self, x_BSSC: Tensor, clean_BCHW: Tensor, key_B: Key, look: Callable[[View], Tensor], kind: Kind
    ) -> dict[str, Tensor]:
        """The two views that are to find each other."""
        first, second = self.view(x_BSSC, key_B, kind).x_BCHW.chunk(2)
        return {"first view": first, "second view": second}

    def pieces(self, thorough: bool) -> list[str]:
        """If thorough, the views; the loss has a collective in it."""
        return ["view"] if thorough else []

    def forward(self, z_BLD: Tensor, view: View) -> Tensor:
        """NT-Xent: each view's own partner against all other views of the global batch."""
        p_BE = F.normalize(self.down(F.relu(self.up(z_BLD.mean(1)))).float(), dim=1)
        rank, all_GE = _gather(p_BE)
        B, G = len(p_BE) // 2, len(all_GE) // 2
        with _exact(p_BE):  # bf16 holds cosines to 1/256 only
            similar_BG = p_BE @ all_GE.T / self.temperature
        # all_GE holds, rank by rank, the first views and then the second views of that rank
        place_B = torch.arange(B, device=p_BE.device) + rank * 2 * B
        itself, partner = torch.cat((place_B, place_B + B)), torch.cat((place_B + B, place_B))
        mask = torch.zeros_like(similar_BG, dtype=torch.bool).scatter_(1, itself[:, None], True)
        assert similar_BG.shape == (2 * B, 2 * G)
        return F.cross_entropy(similar_BG.masked_fill(mask, -torch.inf), partner)


def _view(setting: ViewAugment, spec: JobSpec, augment: Augment) -> Augment:
    """The augmentation of a view: `augment`, the job's own, where the view asks for nothing else."""
    if setting == ViewAugment():
        return augment
    return Augment(setting.over(spec.data.augment), spec.data.image_size, spec.data.num_channels)


def _exact(x: Tensor) -> AbstractContextManager[Any]:
    """No autocast. On the meta device, where FLOPs are counted, there is none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _gather(p_BE: Tensor) -> tuple[int, Tensor]:
    """This process's rank and the projections of all ranks, with gradient; alone where FLOPs are counted (meta)."""
    if p_BE.is_meta or not dist.is_initialized() or dist.get_world_size() == 1:
        return 0, p_BE
    return dist.get_rank(), _Gather.apply(p_BE)


class _Gather(torch.autograd.Function):
    """all_gather whose backward adds up what every rank's loss asks of this rank's rows."""

    @staticmethod
    def forward(ctx: Any, p_BE: Tensor) -> Tensor:
        parts = [torch.empty_like(p_BE) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, p_BE.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad_GE = grads[0].contiguous()
        dist.all_reduce(grad_GE)
        return grad_GE.chunk(dist.get_world_size())[dist.get_rank()]
