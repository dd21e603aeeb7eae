"""The `evaluate`, `checkpoint` and `metric` sections: when a run is looked at and saved, and what judges it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.spec.base import Seconds, Section, Share

Metric = Literal[
    "top1", "top5", "balanced_accuracy", "auroc", "average_precision", "recall_at_false_alarms", "brier", "cost"
]
# what a metric is reckoned with, of the job's `report`: other values there judge otherwise
JUDGED_WITH: dict[Metric, tuple[str, ...]] = {"recall_at_false_alarms": ("false_alarms",), "cost": ("costs",)}
TOP = 5  # most likely classes, among which top5 wants the right one
Weights = Literal["raw", "ema"]  # as the last step left them, or averaged


class Evaluate(Section):
    """Evaluation on select rows while training; val is read once, at the end."""

    every: Share = Field(0.05, description="share of the run's steps between two evaluations; 0: none")
    max_share: Share = Field(0.03, description="largest share of training time that evaluations may take; 0: none")
    weights: Weights = Field("raw", description="the weights whose accuracy is the run's (ema: optim.ema)")


class CheckpointSpec(Section):
    """When training state is saved, and which of them stay."""

    every: Seconds = 60.0
    keep: int = Field(2, ge=1, le=1000, description="the last ones, from which a run is resumed")
    best: bool = Field(
        False,
        description="keep also the one that classified the select rows best, named by checkpoints/best.json; it is "
        "saved when they are evaluated, and the run's own result remains that of its last weights",
    )
