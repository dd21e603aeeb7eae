"""What predict, embed and export can be told by `--set FIELD=VALUE`.

None of this is a part of a job: a run is what it is, and these say what is done with it now.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raymix.spec.base import Section, Share
from raymix.spec.cluster import Cluster
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
    batch: int = Field(256, ge=1, le=65_536, description="images that go through the model at once")
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


class Export(Section):
    """Options of `raymix export`."""

    checkpoint: Literal["newest", "best"] = Reading.model_fields["checkpoint"].default
    images: int = Field(64, ge=1, le=100_000, description="of the run's own val rows, on which the export is checked")
    tolerance: float = Field(1e-4, gt=0, description="largest difference of a logit, in fp32, that is let through")
    batch: int = Field(32, ge=2, le=4096, description="images of the second latency; the first is of one image")
    licence: str | None = Field(None, min_length=1, description="of the model, for its card, as in apache-2.0")
