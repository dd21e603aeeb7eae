"""Backbones f, one file each, and the table that names them.

To add one: a file here with a `Backbone`, a section in `raymix.spec` and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable

from raymix.method.backbones import vit
from raymix.method.backbones.base import Backbone, Classifier, init
from raymix.spec import JobSpec

BACKBONES: dict[str, Callable[[JobSpec], Backbone]] = {"vit": vit.build}

__all__ = ["BACKBONES", "Backbone", "Classifier", "build", "init"]


def build(spec: JobSpec) -> Backbone:
    """The backbone that a job names."""
    return BACKBONES[spec.backbone.type](spec)
