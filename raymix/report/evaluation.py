"""What `raymix evaluate` found of a model on labelled images: `evaluation.json`.

Figures that are shares stand in percent, as `final.top1` of a run does: accuracies, AUROC, average precision, errors
of calibration. Confidences and thresholds are probabilities; costs are in the unit of the cost matrix.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.report.figure import Interval
from raymix.spec import Section


class Judged(Section):
    """A figure with its 95 % interval over images."""

    value: float
    low: float | None = Field(
        description="null: no interval; all resamples are alike, or sorting them would take too long"
    )
    high: float | None
    interval: Literal["wilson", "bootstrap"]
    n: int = Field(description="images that it is of")


class ClassFigures(Section):
    """A class against the rest; null: what cannot be told without an image of it, or of another."""

    name: str
    images: int
    predicted: int = Field(description="images that were taken for it")
    precision: float | None
    recall: float | None
    recall_interval: Interval | None = Field(description="Wilson's, over its images")
    f1: float | None
    auroc: float | None
    average_precision: float | None
    recall_at: float | None = Field(description="largest recall with no more than `false_alarms` of the others above")
    threshold: float | None = Field(description="probability of the class at and above which that is")


class Bin(Section):
    """Images whose confidence, the probability of the predicted class, is above `low` and at most `high`."""

    low: float
    high: float
    images: int
    confidence: float | None = Field(description="their mean; null: there are none")
    top1: float | None


class Probe(Section):
    """A classifier on the frozen backbone's vectors, learnt from training images of the run."""

    kind: Literal["knn", "linear"]
    top1: Judged
    balanced_accuracy: float
    fitted_images: int
    about: str


class CostFigures(Section):
    """What decisions cost by a cost matrix, per image."""

    matrix: tuple[tuple[float, ...], ...] = Field(description="row: the class; column: what it is taken for")
    predicted: Judged = Field(description="where each image is taken for the most probable class")
    cheapest: Judged = Field(description="where it is taken for what costs least, as its probabilities expect")
    foretold: float = Field(description="mean of what the probabilities expect of the cheapest decisions")
    changed: int = Field(description="images that are decided otherwise")
    decided: dict[str, int] = Field(description="images by cheapest decision")
    threshold: dict[str, float] = Field(
        description="of two classes the second, and the probability at and above which taking an image for it is "
        "cheapest (Elkan 2001); empty for more"
    )


class Mistake(Section):
    """An image that was taken for another class."""

    uri: str
    label: str
    predicted: str
    confidence: float
    picture: str = Field(description="PNG, base64; at most 96 pixels a side")


class Evaluated(Section):
    """A model, judged."""

    run: str
    source: str
    part: str
    images: int = Field(description="labelled ones, that were judged")
    unlabelled: int = Field(description="images of the source that have no label, and were left out")
    skipped: dict[str, int] = Field(description="labelled ones that cannot be read: cause -> number")
    trained_on: int | None = Field(
        description="images of the source that the run trained on, by address; null: its data is not there any more"
    )
    class_names: tuple[str, ...] = Field(description="the model's")
    device: str
    workers: int
    seconds: float
    resamples: int = Field(description="of the images, for bootstrap intervals")
    ranking_resamples: int = Field(description="the same of AUROC, average precision and recall_at; 0: no interval")
    false_alarms: float
    top1: Judged
    top5: Judged | None = Field(description="null: five classes or fewer")
    balanced_accuracy: Judged = Field(description="mean recall of the classes that have an image")
    f1: Judged = Field(description="mean of the same classes (macro)")
    auroc: Judged | None = Field(description="mean of the classes that have images, and others beside them (macro)")
    average_precision: Judged | None = Field(description="macro")
    recall_at: Judged | None = Field(description="recall at `false_alarms`, macro")
    calibration_error: Judged = Field(description="expected calibration error of the predicted class (Guo et al. 2017)")
    bins: tuple[Bin, ...]
    classes: tuple[ClassFigures, ...]
    confusion: tuple[tuple[int, int, int], ...] = Field(
        description="places in class_names of a class and of what it was taken for, and images; where there are any"
    )
    probes: tuple[Probe, ...]
    costs: CostFigures | None
    mistakes: tuple[Mistake, ...] = Field(description="the most confident ones")

    def _repr_html_(self) -> str:
        from raymix.report.page_evaluation import evaluation_notebook_html  # only a notebook asks for HTML

        return evaluation_notebook_html(self)
