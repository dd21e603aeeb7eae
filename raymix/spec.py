"""What is asked: a job as frozen sections. Unknown keys are refused, so a typing error is found before anything starts.

Nothing here reads a file, imports torch or knows how training works; `raymix.jobfile` reads YAML into these classes,
`raymix.plan` turns them into what will be done.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator


def _printable(text: str) -> str:
    """One line that a terminal can show, whatever a file name or a key holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class JobError(ValueError):
    """The user's mistake: one field, what is wrong with it, and what to do instead. Exit code 2."""

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        self.field, self.problem, self.hint = _printable(field), _printable(problem), _printable(hint)
        super().__init__(f"{self.field}: {self.problem}" + (f" ({self.hint})" if hint else ""))

    def __reduce__(self) -> tuple[type[JobError], tuple[str, str, str]]:
        return type(self), (self.field, self.problem, self.hint)  # travels between processes whole


class Section(BaseModel):
    """Base of every value in raymix that is asked, planned or reported: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _seconds(value: Any) -> Any:
    """'90s', '10m', '2h', '1d' as seconds; a bare number is seconds already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d)\s*", value)
    if not match:
        raise ValueError("a duration is a number and one of s, m, h, d, as in 90s or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _share(value: Any) -> Any:
    """'5%' as 0.05; a bare number is a share already."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
    if not match:
        raise ValueError("a share is a number from 0 to 1, or a percentage as in 5%")
    return float(match[1]) / 100


_TEXT_OR_NUMBER = WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]})
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0), _TEXT_OR_NUMBER]
Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1), _TEXT_OR_NUMBER]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Folder = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]  # no system has a path with a NUL in it


# ---- data -------------------------------------------------------------------------------------------------------


class ImageFolderSource(Section):
    """One folder a class, images below it: `path/<class>/**/*.jpg`."""

    format: Literal["image_folder"]
    path: Folder = Field(description="the folder that holds the class folders")


class TinyImageNetSource(Section):
    """TinyImageNet's own layout: `train/<wnid>/images/*.JPEG`, validation labels in `val/val_annotations.txt`."""

    format: Literal["tiny_imagenet"]
    path: Folder = Field(description="the folder that holds train/ and val/")


class DigitsSource(Section):
    """scikit-learn's 1,797 handwritten digits, 8x8 grey; they come with the package, so nothing is downloaded."""

    format: Literal["digits"]


Source = Annotated[ImageFolderSource | TinyImageNetSource | DigitsSource, Field(discriminator="format")]


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


class Data(Section):
    """Which images, which of them labelled, and how they are cut into train, select and val."""

    train: Source
    val: Source | None = Field(None, description="null: the source's own validation set, else a stratified hold-out")
    holdout: float = Field(0.1, gt=0, lt=1, description="share held out for val when there is none")
    select: float = Field(0.1, ge=0, lt=1, description="share of labelled training rows kept for choosing")
    split_seed: int = Field(0, ge=0, lt=2**31, description="seed of the hold-out, the same for every seed of a pilot")
    image_size: int = Field(64, ge=4, le=1024, description="pixels a side that the backbone sees")
    store_size: Literal["auto"] | int = Field("auto", description="pixels a side kept in the cache")
    fraction: float = Field(1.0, gt=0, le=1, description="stratified share of the training rows that is used at all")
    label_fraction: float = Field(1.0, ge=0, le=1, description="stratified share of them that keeps its label")
    cache: Literal["auto", "device", "host"] = Field("auto", description="where the decoded images are kept")
    max_bad_fraction: float = Field(0.01, ge=0, le=1, description="share of unreadable images that stops the run")
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.store_size, int) and self.store_size < self.image_size:
            raise JobError("data.store_size", f"{self.store_size} is below image_size {self.image_size}", "use auto")
        return self


# ---- method -----------------------------------------------------------------------------------------------------


class Vit(Section):
    """raymix's own Vision Transformer."""

    type: Literal["vit"] = "vit"
    size: Literal["nano", "tiny", "small", "base"] = Field(
        "tiny", description="nano 64x4 (wide x deep), tiny 192x12, small 384x12, base 768x12"
    )
    patch: int = Field(8, ge=1, description="pixels a side of a patch")


Backbone = Vit


class Mae(Section):
    """Masked autoencoder (He et al. 2022, arXiv 2111.06377): draw the hidden patches from the visible ones."""

    type: Literal["mae"]
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of patches hidden in ssl steps")
    mix_mask_ratio: float | None = Field(None, gt=0, lt=1, description="the same in mix steps; null: mask_ratio")
    decoder_width: int = Field(96, ge=8, le=4096, multiple_of=8)
    decoder_depth: int = Field(2, ge=1, le=24)
    norm_pixels: bool = Field(True, description="target: pixels normalised within each patch")

    @property
    def mix_ratio_masked(self) -> float:
        """Share of patches hidden in mix steps."""
        return self.mask_ratio if self.mix_mask_ratio is None else self.mix_mask_ratio


class SimClr(Section):
    """SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image find each other in the batch."""

    type: Literal["simclr"]
    temperature: float = Field(0.2, gt=0, le=10)
    projector_width: int = Field(512, ge=8, le=65536)
    output_width: int = Field(128, ge=8, le=65536)


Objective = Annotated[Mae | SimClr, Field(discriminator="type")]
SHARED_PASSES: dict[str, tuple[str, ...]] = {
    # cheapest first: `schedule.shared_pass: auto` takes the first
    "mae": ("masked", "full", "separate"),
    "simclr": ("full", "separate"),
}


class Weight(Section):
    """w in L = w * SSL + (1 - w) * SL over the mix phase."""

    curve: Literal["constant", "linear", "cosine"] = "constant"
    start: float = Field(0.5, ge=0, le=1)
    end: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.curve == "constant" and self.start != self.end:
            problem = f"a constant weight cannot go from {self.start} to {self.end}"
            raise JobError("schedule.weight.curve", problem, "set curve to linear or cosine, or end to start")
        return self


class FixedSchedule(Section):
    """The epochs asked for, merged as MixTraining does: mix = mix_ratio * min(ssl_epochs, sl_epochs)."""

    policy: Literal["fixed"] = "fixed"
    ssl_epochs: float = Field(100, ge=0, le=1e6)
    sl_epochs: float = Field(100, ge=0, le=1e6)
    mix_ratio: float = Field(0.5, ge=0, le=1)
    interleave: Literal["joint", "alternate"] = "joint"
    alternate_steps: int | None = Field(None, ge=1, description="steps a turn of `alternate`; null: whole epochs")
    shared_pass: Literal["auto", "masked", "full", "separate"] = "auto"
    weight: Weight = Weight()
    sl_drop: float = Field(
        0.0, ge=0, le=1, description="leading share of the SL epochs that sees unmasked patches only"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ssl_epochs + self.sl_epochs == 0:
            raise JobError("schedule.sl_epochs", "ssl_epochs and sl_epochs are both 0", "ask for at least one epoch")
        if self.alternate_steps is not None and self.interleave != "alternate":
            problem = "applies to interleave: alternate only"
            raise JobError("schedule.alternate_steps", problem, "set schedule.interleave=alternate or leave it out")
        if self.interleave == "alternate" and self.weight != Weight():
            problem = "interleave: alternate has no common loss to weigh, each step is all SSL or all SL"
            raise JobError("schedule.weight", problem, "leave it out, or set schedule.interleave=joint")
        return self


Schedule = FixedSchedule


class Optim(Section):
    """AdamW over all parameters, warm-up and cosine."""

    batch: int = Field(256, ge=2, le=10**6, description="images a step, over all workers")
    lr: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0.05, ge=0, le=10, description="on matrices alone")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of a cycle that warms up")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    restart: Literal["never", "phase"] = Field(
        "never", description="never: one cycle over the run; phase: a cycle and fresh optimizer state for each phase"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")


# ---- where it runs ----------------------------------------------------------------------------------------------


class Cluster(Section):
    """The machines: `workers: 0` trains in this process without Ray."""

    workers: int = Field(2, ge=0, le=4096)
    cpus_per_worker: float = Field(1, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    address: str | None = Field(
        None, description="null: a Ray of its own, or the job's cluster inside a job; auto; host:port"
    )
    price_per_worker_hour: float | None = Field(None, ge=0)
    max_restarts: int = Field(3, ge=0, description="restarts of the worker group after a failure")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.address and self.address.startswith("ray://"):
            problem = "ray:// (Ray Client) cannot carry a training run"
            hint = "submit the job instead: ray job submit --address http://HOST:8265 --working-dir . -- raymix run JOB"
            raise JobError("cluster.address", problem, hint)
        return self

    @property
    def num_replicas(self) -> int:
        """Processes that train; this one alone when there are no workers."""
        return max(1, self.workers)


class CheckpointSpec(Section):
    """When training state is saved, and how many of them stay."""

    every: Seconds = 60.0
    keep: int = Field(2, ge=1, le=1000)


class Evaluate(Section):
    """Evaluation on select rows while training; val is read once, at the end."""

    every: Share = Field(0.05, description="share of the run's steps between two evaluations; 0: none")
    max_share: Share = Field(0.03, description="largest share of training time that evaluations may take; 0: none")


Arm = Literal["sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop", "mix"]
ARMS: tuple[Arm, ...] = get_args(Arm)


class Pilot(Section):
    """Which ways to train are compared, and how often."""

    preset: Literal["quick", "full"] = Field("full", description="quick: one seed, one length; it decides nothing")
    arms: tuple[Arm, ...] = Field(ARMS, min_length=1)
    seeds: int = Field(5, ge=1, le=1000, description="paired seeds: the job's seed and the ones that follow it")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.arms)) != len(self.arms):
            raise JobError("pilot.arms", "an arm is named twice", "name each arm once")
        return self


class JobSpec(Section):
    """A whole job."""

    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    storage: Folder = Field("runs", description="the folder that holds run folders")
    data: Data
    backbone: Backbone = Vit()
    objective: Objective = Mae(type="mae")
    schedule: Schedule = FixedSchedule()
    optim: Optim = Optim()
    cluster: Cluster = Cluster()
    checkpoint: CheckpointSpec = CheckpointSpec()
    evaluate: Evaluate = Evaluate()
    pilot: Pilot = Pilot()

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_patches(self)
        _check_shared_pass(self)
        _check_workers(self)
        if "://" in self.storage:
            raise JobError("storage", f"{self.storage} is not a folder", "name a folder that every node can reach")
        return self

    @property
    def num_patches(self) -> int:
        """Patches (tokens) of one image."""
        return (self.data.image_size // self.backbone.patch) ** 2

    @property
    def shared_pass(self) -> str:
        """`schedule.shared_pass` with auto decided: the cheapest that the objective allows."""
        asked = self.schedule.shared_pass
        return SHARED_PASSES[self.objective.type][0] if asked == "auto" else asked


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Patches of `num_patches` that stay visible under `mask_ratio` (MAE: the rest are hidden)."""
    return int(num_patches * (1 - mask_ratio) + 1e-9)  # 1 - 0.9 is a little below 0.1, and 100 patches keep 10


def _check_patches(spec: JobSpec) -> None:
    size, patch = spec.data.image_size, spec.backbone.patch
    if size % patch:
        nearest = max(patch, round(size / patch) * patch)
        raise JobError("data.image_size", f"{size} is not divisible by backbone.patch {patch}", f"{nearest} is")
    if not isinstance(spec.objective, Mae):
        return
    for field in ("mask_ratio", "mix_mask_ratio"):
        ratio = getattr(spec.objective, field)
        if ratio is None:
            continue
        visible = num_visible(spec.num_patches, ratio)
        if not 0 < visible < spec.num_patches:
            which = "visible" if visible == 0 else "hidden"
            problem = f"{ratio} leaves no {which} patch of {spec.num_patches}"
            raise JobError(f"objective.{field}", problem, "change it, or take a smaller backbone.patch")


def _check_shared_pass(spec: JobSpec) -> None:
    asked, allowed = spec.shared_pass, SHARED_PASSES[spec.objective.type]
    if asked not in allowed:
        problem = f"objective {spec.objective.type} does not allow {asked}"
        raise JobError("schedule.shared_pass", problem, f"one of auto, {', '.join(allowed)}")
    masks = isinstance(spec.objective, Mae)
    if spec.schedule.sl_drop and not masks:
        raise JobError("schedule.sl_drop", f"objective {spec.objective.type} hides no patches", "only mae does")
    if "ssl_sl_drop" in spec.pilot.arms and not masks and "arms" in spec.pilot.model_fields_set:
        raise JobError(
            "pilot.arms", f"ssl_sl_drop needs patches to drop, {spec.objective.type} hides none", "leave it out"
        )


def _check_workers(spec: JobSpec) -> None:
    batch, workers = spec.optim.batch, spec.cluster.num_replicas
    if batch % workers:
        lower = batch // workers * workers
        nearest = lower if lower and batch - lower <= lower + workers - batch else lower + workers
        raise JobError(
            "optim.batch", f"{batch} is not divisible by cluster.workers {workers}", f"the nearest that is: {nearest}"
        )
    if isinstance(spec.objective, SimClr) and batch // workers < 2:
        raise JobError(
            "optim.batch", f"{batch} leaves a worker without a second image to contrast", "take a larger batch"
        )
    if spec.cluster.gpus_per_worker and not spec.cluster.workers:
        problem = "cluster.workers: 0 trains in this process, on its first GPU where there is one"
        raise JobError("cluster.gpus_per_worker", problem, "leave it out, or ask for workers")
