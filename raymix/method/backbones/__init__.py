"""Backbones f, one file a source, and the table that names them.

To add one: a file here with a function that makes a `Backbone`, a section in `raymix.spec` and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from raymix.method.backbones import own, shrinking, timm_models, torchvision_models, vit
from raymix.method.backbones.base import START, Backbone, Classifier, How, init
from raymix.method.backbones.layered import Layered, Tapped
from raymix.method.backbones.weights import Adapt, Matched, as_they_are, match
from raymix.spec import JobError, JobSpec, Timm, Torchvision, Vit

BACKBONES: dict[str, Callable[[JobSpec, How], Backbone]] = {
    "vit": vit.build,
    "timm": timm_models.build,
    "torchvision": torchvision_models.build,
    "plugin": own.build_plugin,
    "import": own.build_import,
}
ADAPT: dict[str, Adapt] = {
    "vit": vit.adapted,
    "timm": timm_models.adapted,
    "torchvision": torchvision_models.adapted,
    "plugin": as_they_are,
    "import": as_they_are,
}

__all__ = [
    "ADAPT",
    "BACKBONES",
    "START",
    "Backbone",
    "Classifier",
    "How",
    "Layered",
    "Matched",
    "Tapped",
    "build",
    "init",
    "matched",
    "outline",
]


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


def matched(spec: JobSpec, f: Backbone, tensors: Mapping[str, Tensor], where: str) -> Matched:
    """Tensors of `where` as those of the job's backbone `f`; see `weights.match`.

    Raises:
        JobError: nothing there is of this backbone, or a tensor has another shape.
    """
    return match(f, tensors, where, ADAPT[spec.backbone.type])


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
