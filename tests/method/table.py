"""One backbone of each kind, small, for the contract tests."""

from __future__ import annotations

import functools
from typing import Any

import torch

from raymix.jobfile import load_spec
from raymix.method import backbones
from raymix.method.backbones import Backbone, How
from raymix.spec import JobSpec

SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}
# name -> image size and section; `own`, the entry point, is installed by the fixture `plugin`
TABLE: dict[str, tuple[int, dict[str, Any]]] = {
    "vit": (16, {"type": "vit", "size": "nano", "patch": 4}),
    "timm vit": (16, {"type": "timm/vit_tiny_patch16_224", "args": {"patch_size": 4, **SMALL_VIT}}),
    "timm vit, avg": (16, {"type": "timm/vit_base_patch16_rpn_224", "args": {"patch_size": 4, **SMALL_VIT}}),
    "timm deit, distilled": (
        16,
        {"type": "timm/deit_tiny_distilled_patch16_224", "args": {"patch_size": 4, **SMALL_VIT}},
    ),
    "timm resnet18": (32, {"type": "timm/resnet18", "args": {"output_stride": 8}}),
    "timm convnext": (64, {"type": "timm/convnext_atto", "args": {"depths": [1, 1, 1, 2], "dims": [8, 8, 16, 16]}}),
    "timm swin": (
        64,
        {
            "type": "timm/swin_tiny_patch4_window7_224",
            "args": {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
        },
    ),
    "torchvision vit": (32, {"type": "torchvision/vit_b_16"}),
    "torchvision resnet18": (64, {"type": "torchvision/resnet18"}),
    "import, tokens": (32, {"type": "import", "factory": "own_backbones:tokens", "args": {"width": 24}}),
    "import, map": (32, {"type": "import", "factory": "own_backbones:conv"}),
    "import, vector": (32, {"type": "import", "factory": "own_backbones:vector"}),
    "import, stubborn": (32, {"type": "import", "factory": "own_backbones:stubborn"}),
    "plugin": (32, {"type": "plugin", "name": "own", "args": {"width": 8}}),
}
DROP = ("vit", "timm vit", "timm vit, avg", "timm deit, distilled", "torchvision vit", "import, tokens", "plugin")
NO_GRID = ("import, vector",)


def allowed(spec: JobSpec) -> tuple[str, ...]:
    """The permission that its backbone needs."""
    return (spec.backbone.factory,) if spec.backbone.type == "import" else ()


def job(row: str, **sections: Any) -> JobSpec:
    """A job with that backbone."""
    size, section = TABLE[row]
    mae = {"type": "mae", "mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1}
    data = {"train": {"format": "digits"}, "image_size": size, "augment": {"crop": [0.6, 1.0]}}
    common = {"name": "small", "data": data, "objective": mae, "cluster": {"workers": 0}, "optim": {"batch": 6}}
    return load_spec({**common, "backbone": section, **sections})


@functools.cache
def built(row: str, seed: int = 0) -> Backbone:
    """The backbone, made once; a test that changes it works on a copy."""
    spec = job(row)
    torch.manual_seed(seed)
    return backbones.build(spec, How(allowed(spec)))
