"""SSL objectives g, one file each, and the table that names them.

To add one: a file here with an `Objective`, a section in `raymix.spec` with its shared passes, and a line in the table.
"""

from __future__ import annotations

from collections.abc import Callable

from raymix.method.backbones import Backbone
from raymix.method.objectives.base import Objective, View
from raymix.method.objectives.mae import MaeObjective
from raymix.method.objectives.simclr import SimClrObjective
from raymix.method.views import Augment
from raymix.spec import JobSpec

OBJECTIVES: dict[str, Callable[[JobSpec, Augment, Backbone], Objective]] = {
    "mae": MaeObjective,
    "simclr": SimClrObjective,
}

__all__ = ["OBJECTIVES", "Objective", "View", "build"]


def build(spec: JobSpec, augment: Augment, f: Backbone) -> Objective:
    """The objective that a job names, for a backbone."""
    return OBJECTIVES[spec.objective.type](spec, augment, f)
