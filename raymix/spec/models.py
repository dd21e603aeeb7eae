"""What predict, embed, evaluate, export and `data drift` can be told by `--set FIELD=VALUE`.

None of this is a part of a job: a run is what it is, and these say what is done with it now.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raymix.spec.base import Section, Share
from raymix.spec.cluster import Cluster
from raymix.spec.finetune import Cut
from raymix.spec.report import Costs, check_rate
from raymix.spec.sources import Source

ClassName = Annotated[str, Field(min_length=1)]


class Reading(Section):
    """Which images a model looks at, with which weights, and where."""

    source: Source
    part: Literal["all", "train", "val"] = Field(
        "all", description="of a source that has a validation set of its own: that, the other rows, or both"
    )
    checkpoint: Literal["newest", "best"] = Field(
        "newest", description="best: the one that classified the select rows best, where the run kept it"
    )
    batch: int = Field(256, ge=1, le=65_536, description="images, or tiles of them, that go through the model at once")
    cluster: Cluster = Field(
        Cluster(workers=0), description="as in a job; workers: 0 (the default here): in this process, without Ray"
    )


class Predict(Reading):
    """Options of `raymix predict`."""

    threshold: Share = Field(0.5, description="least score that counts as above")
    positive: ClassName | None = Field(
        None, description="the class whose probability is the score; null: the class that is predicted"
    )


class Embed(Reading):
    """Options of `raymix embed`."""

    dtype: Literal["float32", "float16"] = "float32"


class Drift(Reading):
    """Options of `raymix data drift`."""

    rows: int = Field(2000, ge=20, le=20_000, description="of the new ones, and twice as many earlier ones, at most")
    folds: int = Field(5, ge=2, le=20, description="of the cross-validation")


class Evaluation(Reading):
    """Options of `raymix evaluate`."""

    part: Literal["auto", "all", "train", "val"] = Field(  # type: ignore[assignment]  # one value more than others have
        "auto", description="of a source that has a validation set of its own: that (auto, val), the other rows, or all"
    )
    false_alarms: Share | None = Field(
        None,
        description="false-alarm rate at which recall and threshold of a class are told; null: report.false_alarms of "
        "the job",
    )
    bins: int = Field(15, ge=2, le=100, description="of confidence, of equal width, for the calibration error")
    resamples: int = Field(1000, ge=100, le=100_000, description="of the images, for bootstrap intervals")
    knn: int | None = Field(
        20, ge=1, le=1000, description="neighbours that classify the frozen backbone's vectors; null: left out"
    )
    probe: bool = Field(True, description="fit a linear classifier on the frozen backbone's vectors")
    probe_images: int = Field(
        10_000, ge=1, description="labelled training images of the run, at most, that knn and probe learn from"
    )
    gallery: int = Field(24, ge=0, le=500, description="most confident mistakes that are shown")
    costs: Costs | None = Field(None, description="as report.costs of the job; null: what stands there")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.false_alarms is not None:
            check_rate("false_alarms", self.false_alarms)
        return self


class Export(Section):
    """Options of `raymix export`."""

    checkpoint: Literal["newest", "best"] = Reading.model_fields["checkpoint"].default
    images: int = Field(64, ge=1, le=100_000, description="of the run's own val rows, on which the export is checked")
    tolerance: float = Field(1e-4, gt=0, description="largest difference of a logit, in fp32, that is let through")
    batch: int = Field(32, ge=2, le=4096, description="images of the second latency; the first is of one image")
    shrink: Cut | None = Field(
        None,
        description="parts of raymix's own ViT that are taken out, without training it further, as in {mlp: 0.5}; "
        "null: none",
    )
    quantize: Literal["none", "int8"] = Field(
        "none",
        description="int8: weights and inputs of convolutions and of matrix products with weights, but for the "
        "classifier, as 8 bits (static, QDQ); --format onnx alone",
    )
    calibrate: int = Field(
        256,
        ge=1,
        le=100_000,
        description="of the run's training images, which say what int8's ranges are, and what shrink takes",
    )
    val_images: int | None = Field(
        None,
        ge=1,
        description="of the run's val rows, evenly over them, on which original and export are compared; "
        "null: all; where nothing is quantised, only if that takes less than 20 s",
    )
    max_lost: float | None = Field(
        None,
        ge=0,
        le=100,
        description="points of the job's metric that it may lose; more is refused; null: any",
    )
    licence: str | None = Field(None, min_length=1, description="of the model, for its card, as in apache-2.0")
