"""A model with BatchNorm on the digits, for one process and for ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from small_runs import Digits
from torch import Tensor, nn

from raymix.method.backbones import Backbone
from raymix.method.steps import Model

NORMS = ("norm1.running_mean", "norm1.running_var", "norm2.running_mean", "norm2.running_var")


class ActedNorm(nn.BatchNorm2d):
    """Does more than normalise, as timm's BatchNormAct2d."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class Convolutional(Backbone):
    """Two convolutions, each with its BatchNorm, and dropout, which evaluation leaves out."""

    def __init__(self, sync: bool = False) -> None:
        super().__init__()
        self.width, self.patch, self.num_patches, self.drops, self.token_shape = 12, 2, 16, False, (1, 3, 1, 1)
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm1 = nn.SyncBatchNorm(8, momentum=0.0) if sync else nn.BatchNorm2d(8, momentum=0.0)
        self.norm2 = ActedNorm(12, momentum=0.0)
        self.drop = nn.Dropout(0.2)

    def forward(self, x_BCHW: Tensor, *_: Any, **__: Any) -> Tensor:
        x = self.drop(F.relu(self.norm1(self.conv1(x_BCHW))))
        return self.norm2(self.conv2(x)).flatten(2).transpose(1, 2)

    def regions(self) -> list[nn.Module]:
        return []


def model_of(digits: Digits, sync: bool = False) -> Model:
    """The digits' model on the convolutional backbone, the same weights every time."""
    model = digits.state().model
    torch.manual_seed(0)
    model.f, model.h = Convolutional(sync), nn.Sequential(nn.Flatten(), nn.Linear(16 * 12, 10))  # type: ignore[assignment]
    return model
