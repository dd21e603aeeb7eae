"""Backbones f, one file a source, and the table that names them.

To add one: a file here with a function that makes a `Backbone`, a section in `raymix.spec` and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from raymix.method.backbones import own, shrinking, timm_models, torchvision_models, vit
from raymix.method.backbones.base import START, Backbone, Classifier, How, init
from raymix.method.backbones.layered import Layered, Tapped
from raymix.spec import JobError, JobSpec, Timm, Torchvision, Vit

BACKBONES: dict[str, Callable[[JobSpec, How], Backbone]] = {
    "vit": vit.build,
    "timm": timm_models.build,
    "torchvision": torchvision_models.build,
    "plugin": own.build_plugin,
    "import": own.build_import,
}

__all__ = ["BACKBONES", "START", "Backbone", "Classifier", "How", "Layered", "Tapped", "build", "init", "outline"]


def build(spec: JobSpec, how: How) -> Backbone:
    """The backbone that a job names.

    Running statistics of BatchNorm stay as they are in training: masked, augmented and clean batches share the layers,
    and an average over them would describe none. They are estimated before the model is evaluated.

    Raises:
        JobError: it cannot be made, or may not be imported.
    """
    f = BACKBONES[spec.backbone.type](spec, how)
    if isinstance(f, Layered):
        f.drop_path = drop_path_of(spec)
    for layer in f.modules():
        if isinstance(layer, _BatchNorm):
            layer.momentum = 0.0
    if spec.shrink is not None:
        shrinking.add_gates(f)
    return f


def drop_path_of(spec: JobSpec) -> float:
    """`backbone.drop_path`, where the backbone has one."""
    return spec.backbone.drop_path if isinstance(spec.backbone, Vit | Timm | Torchvision) else 0.0


def outline(spec: JobSpec, allow_import: tuple[str, ...] = ()) -> Backbone:
    """The same without weights, in a fraction of a second: on the meta device, or for real where it cannot be there.

    Raises:
        JobError: as `build`.
    """
    try:
        return build(spec, How(allow_import, start=False, meta=True))
    except JobError:
        raise
    except Exception:  # a module of the user's, or a library's, that computes with its weights while it is made
        with torch.random.fork_rng(devices=[]):
            return build(spec, How(allow_import, start=False))
