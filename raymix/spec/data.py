"""Which images, how they are cut into parts and kept, and what happens to one before the backbone sees it."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from raymix.spec.base import Folder, JobError, Section
from raymix.spec.sources import Column, Source

# as a viewer shows them; one grey channel of 8 bits; one of 16 bits, as scientific and industrial cameras write it
Channels = Literal["rgb", "gray", "gray16"]
NUM_CHANNELS: dict[Channels, int] = {"rgb": 3, "gray": 1, "gray16": 1}
Crop = tuple[float, float]
Region = tuple[float, float, float, float]  # left, top, right, bottom, in shares of the upright image
Part = Annotated[float, Field(ge=0, le=1)]  # a probability, or a share of the images
Hue = Annotated[float, Field(ge=0, le=0.5)]
Alpha = Annotated[float, Field(ge=0, le=100)]


class Augment(Section):
    """What happens to a training image, the same for SSL and SL and for every arm of a comparison.

    In this order: crop, flip, jitter, greyscale, blur, solarise, normalise, erase; mixup or cutmix last.
    """

    crop: Crop = Field((0.25, 1.0), description="smallest and largest share of the area that is kept")
    flip: bool = Field(True, description="mirror half of the images left to right")
    color: Part = Field(0.0, description="strength of brightness, contrast and (not on grey images) saturation jitter")
    hue: Hue = Field(0.0, description="strength of hue jitter, in turns of the colour circle")
    color_share: Part = Field(1.0, description="share of images that color and hue apply to")
    grayscale: Part = Field(0.0, description="share of images turned grey")
    blur: Part = Field(
        0.0,
        description="share of images blurred: Gaussian, sigma uniform from 0.1 to 2 pixels (more in proportion above "
        "224 px), cut off at a tenth of the side",
    )
    solarize: Part = Field(0.0, description="share of images whose pixels above half of the range are inverted")
    erase: Part = Field(
        0.0,
        description="share of images with a rectangle painted over in the mean colour: 2 to 33 % of the area, sides "
        "0.3 to 3.3",
    )
    mixup: Alpha = Field(
        0.0,
        description="alpha of Beta(alpha, alpha), 0: off. Mixes pairs of labelled images in sl steps and in the "
        "supervised pass of mix steps with shared_pass separate; where mix steps share one pass (masked, full) it does "
        "not apply unless mix_shared says so. train_top1 is then of mixed images, counted against an image's own label",
    )
    cutmix: Alpha = Field(
        0.0,
        description="as mixup, with a rectangle of the other image instead; both on: each for half of the images",
    )
    mix_shared: bool = Field(
        False,
        description="mixup and cutmix also where one pass serves both losses of a mix step, whose SSL side then sees "
        "the mixed images",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_crop("data.augment", self.crop)
        return self


class ViewAugment(Section):
    """What one view does otherwise than data.augment; null: as there."""

    crop: Crop | None = None
    flip: bool | None = None
    color: Part | None = None
    hue: Hue | None = None
    color_share: Part | None = None
    grayscale: Part | None = None
    blur: Part | None = None
    solarize: Part | None = None
    erase: Part | None = None

    def over(self, augment: Augment) -> Augment:
        """The whole setting of the view."""
        return augment.model_copy(update=self.model_dump(exclude_none=True))


def check_crop(section: str, crop: Crop) -> None:
    """Raises JobError where the crop of a section is no range of areas."""
    if not 0 < crop[0] <= crop[1] <= 1:
        raise JobError(f"{section}.crop", f"{list(crop)} is no range of areas", "0 < smallest <= largest <= 1")


def check_channels(section: str, augment: Augment | ViewAugment, channels: Channels) -> None:
    """Raises JobError where a section changes colours of images that have none."""
    for field in ("hue", "grayscale"):
        if channels != "rgb" and getattr(augment, field):
            problem = f"data.channels {channels} has no colours to change"
            raise JobError(f"{section}.{field}", problem, "leave it out; color jitters brightness and contrast")


# in a regular expression: what stands for itself, as \\( and [(]
_LITERAL = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ENDLESS = re.compile(r"[*+]|\{\d*,\d*\}")
_MOST_ENDLESS = 4


class GroupPattern(Section):
    """A group's name within the path of each image."""

    pattern: str = Field(
        min_length=1,
        max_length=200,
        description="regular expression, searched in the path below the source's folder; its one (...) is the name",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        problem = _problem_of(self.pattern)
        if problem:
            raise JobError("data.group.pattern", problem, r"as in lot(\d+), with one (...)")
        return self

    @property
    def compiled(self) -> re.Pattern[str]:
        """What is searched for."""
        return re.compile(self.pattern)


def _problem_of(pattern: str) -> str:
    """Why a pattern is none that can be searched for in any path; empty: it can.

    Python's matcher tries all ways in which repetitions can share the text, so what repeats something that repeats
    takes exponential time. Without repeated groups it takes a power of the length, here the fifth at most.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern!r} is no regular expression: {error}"
    plain = _LITERAL.sub("x", pattern)
    if compiled.groups != 1:
        return f"{pattern!r} has {compiled.groups} groups in round brackets, and one is the name; (?:...) is none"
    if compiled.flags & re.VERBOSE or re.search(r"\)[*+{]", plain):
        return f"{pattern!r} repeats what is in brackets, which may take for ever"
    if len(_ENDLESS.findall(plain)) > _MOST_ENDLESS:
        return f"{pattern!r} repeats more than {_MOST_ENDLESS} things, which may take for ever"
    return ""


Group = Annotated[
    Annotated[Column, Tag("column")] | Annotated[GroupPattern, Tag("GroupPattern")],
    Discriminator(lambda value: "GroupPattern" if isinstance(value, dict | GroupPattern) else "column"),
]


def _is_region(region: Region) -> bool:
    left, top, right, bottom = region
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


MOST_TILES = 256  # of an image: all of them are decoded together


class Tile(Section):
    """The grid of equal parts that each image, or its region, is cut into."""

    grid: tuple[int, int] = Field(description="[rows, columns]")
    overlap: float = Field(0.0, ge=0, le=0.5, description="share of a tile's side that its neighbour shows as well")
    pool: Literal["mean", "max"] = Field(
        "mean",
        description="how an image's probabilities come of its tiles' softmax: their mean; or max, of each class the "
        "highest, scaled to add up to 1, where one tile shows what the image is",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.grid) < 1 or not 2 <= self.num <= MOST_TILES:
            problem = f"{list(self.grid)} is no grid of tiles"
            raise JobError("data.tile.grid", problem, f"[rows, columns], 2 to {MOST_TILES} tiles in all, as in [3, 4]")
        return self

    @property
    def num(self) -> int:
        """Tiles of an image."""
        return self.grid[0] * self.grid[1]

    def boxes(self, region: Region | None) -> tuple[Region, ...]:
        """Each tile's [left, top, right, bottom] in shares of the upright image, row by row."""
        left, top, right, bottom = region or (0.0, 0.0, 1.0, 1.0)
        across, down = (
            [tuple(first + (last - first) * share for share in span) for span in self._spans(num)]
            for first, last, num in ((left, right, self.grid[1]), (top, bottom, self.grid[0]))
        )
        return tuple((x0, y0, x1, y1) for y0, y1 in down for x0, x1 in across)

    def _spans(self, num: int) -> list[tuple[float, float]]:
        """Where `num` neighbours begin and end, in shares of the whole."""
        step = 1 - self.overlap
        length = 1 + (num - 1) * step  # of the whole, in tiles
        return [(place * step / length, (place * step + 1) / length) for place in range(num)]


def boxes_of(region: Region | None, tile: Tile | None) -> tuple[Region | None, ...]:
    """The parts of an image that rows are made of; None: all of it."""
    return (region,) if tile is None else tile.boxes(region)


STORE_MARGIN = 1.15  # kept beyond image_size, so that random crops have detail to lose


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
    keep_splits: Folder | None = Field(
        None,
        description="the folder of an earlier run: its select and val rows stay select and val, told by part and name "
        "below the source's folder, and every other row trains, so that figures stay comparable; new rows are added to "
        "neither, and holdout, select and split_seed are not used. New rows of a validation set take no part, and "
        "neither do select and val rows that have lost their label, nor new rows of a group that selects or judges",
    )
    group: Group | None = Field(
        None,
        description="what no split may cut through (part, lot, day): a column of data.train, data.val and "
        "data.unlabelled, or {pattern: ...} for images that are files",
    )
    image_size: int = Field(64, ge=4, le=1024, description="pixels a side that the backbone sees")
    store_size: Literal["auto"] | int = Field("auto", description="pixels a side kept in the cache")
    fraction: float = Field(1.0, gt=0, le=1, description="stratified share of the training rows that is used at all")
    label_fraction: float = Field(1.0, ge=0, le=1, description="stratified share of them that keeps its label")
    labelled_share: float | None = Field(
        None, gt=0, lt=1, description="share of labelled rows in a mix batch; null: as many as there are of all rows"
    )
    balance: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far rare classes are drawn more often in supervised batches: sl steps, and the labelled rows "
        "of mix steps with labelled_share; a class of n rows has a share of n^(1 - balance). 0: as they come; 0.5: "
        "square-root sampling; 1: all classes alike (arXiv 1910.09217). An epoch keeps its number of rows",
    )
    region: Region | None = Field(
        None,
        description="[left, top, right, bottom] of the part that is used, in shares of the upright image; its middle "
        "square is kept, as of a whole image; null: all",
    )
    tile: Tile | None = Field(
        None,
        description="cut each image, or its region, into a grid of equal tiles, of each of which the middle square is "
        "kept; each trains as a row of its own with the image's label. Splits, accuracies and predictions are by "
        "image, whose probabilities are pooled of its tiles' softmax. null: the image as a whole",
    )
    channels: Channels = Field("rgb", description="what is kept of an image; gray16 keeps 16-bit images whole")
    cache: Literal["auto", "device", "host", "stream"] = Field(
        "auto", description="where the decoded images are kept; stream: nowhere, each epoch reads them anew"
    )
    max_bad_fraction: float = Field(0.01, ge=0, le=1, description="share of unreadable images that stops the run")
    near_duplicates: int | None = Field(
        None,
        ge=0,
        le=8,
        description="look for val and select images that look like a training image: perceptual hashes of 63 bits that "
        "differ in at most so many, 4 say; null: off",
    )
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.near_duplicates is not None and self.image_size < 8:
            raise JobError("data.near_duplicates", "needs images of 8 pixels a side", "leave it out")
        if isinstance(self.store_size, int) and self.store_size < self.image_size:
            raise JobError("data.store_size", f"{self.store_size} is below image_size {self.image_size}", "use auto")
        if self.region is not None and not _is_region(self.region):
            problem = f"{list(self.region)} is no part of an image"
            raise JobError("data.region", problem, "0 <= left < right <= 1 and 0 <= top < bottom <= 1")
        check_channels("data.augment", self.augment, self.channels)
        return self

    @property
    def num_tiles(self) -> int:
        """Rows that an image trains as: 1 without tiles."""
        return 1 if self.tile is None else self.tile.num

    @property
    def num_channels(self) -> int:
        """3 for rgb, else 1."""
        return NUM_CHANNELS[self.channels]

    @property
    def largest_stored(self) -> int:
        """Pixels a side that are kept: store_size; where that is on auto, what is kept of images that have so many."""
        return round(STORE_MARGIN * self.image_size) if self.store_size == "auto" else self.store_size
