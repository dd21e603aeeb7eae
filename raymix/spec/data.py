"""Which images, how they are cut into parts and kept, and what happens to one before the backbone sees it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raymix.spec.base import JobError, Section
from raymix.spec.sources import Source


class Augment(Section):
    """What happens to a training image, the same for SSL and SL and for every arm of a comparison."""

    crop: tuple[float, float] = Field((0.25, 1.0), description="smallest and largest share of the area that is kept")
    flip: bool = Field(True, description="mirror half of the images left to right")
    color: float = Field(0.0, ge=0, le=1, description="strength of brightness, contrast and saturation jitter")
    grayscale: float = Field(0.0, ge=0, le=1, description="share of images turned grey")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise JobError(
                "data.augment.crop", f"{list(self.crop)} is no range of areas", "0 < smallest <= largest <= 1"
            )
        return self


# as a viewer shows them; one grey channel of 8 bits; one of 16 bits, as scientific and industrial cameras write it
Channels = Literal["rgb", "gray", "gray16"]


class Data(Section):
    """Which images, which of them labelled, and how they are cut into train, select and val."""

    train: Source
    unlabelled: Source | None = Field(
        None, description="a second source, for ssl and mix steps; labels it may have are not read"
    )
    val: Source | None = Field(None, description="null: the source's own validation set, else a stratified hold-out")
    holdout: float = Field(0.1, gt=0, lt=1, description="share held out for val when there is none")
    select: float = Field(0.1, ge=0, lt=1, description="share of labelled training rows kept for choosing")
    split_seed: int = Field(0, ge=0, lt=2**31, description="seed of the hold-out, the same for every seed of a pilot")
    image_size: int = Field(64, ge=4, le=1024, description="pixels a side that the backbone sees")
    store_size: Literal["auto"] | int = Field("auto", description="pixels a side kept in the cache")
    fraction: float = Field(1.0, gt=0, le=1, description="stratified share of the training rows that is used at all")
    label_fraction: float = Field(1.0, ge=0, le=1, description="stratified share of them that keeps its label")
    labelled_share: float | None = Field(
        None, gt=0, lt=1, description="share of labelled rows in a mix batch; null: as many as there are of all rows"
    )
    channels: Channels = Field("rgb", description="what is kept of an image; gray16 keeps 16-bit images whole")
    cache: Literal["auto", "device", "host", "stream"] = Field(
        "auto", description="where the decoded images are kept; stream: nowhere, each epoch reads them anew"
    )
    max_bad_fraction: float = Field(0.01, ge=0, le=1, description="share of unreadable images that stops the run")
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.store_size, int) and self.store_size < self.image_size:
            raise JobError("data.store_size", f"{self.store_size} is below image_size {self.image_size}", "use auto")
        return self
