"""What is trained: SSL objective and optimizer; the backbones stand in `backbone.py`, schedules in `schedule.py`."""

from __future__ import annotations

from statistics import fmean
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from raymix.spec.base import Section, Share
from raymix.spec.data import ViewAugment, check_crop

MixKind = Literal["mix", "mix_2", "mix_3", "mix_4"]  # kinds of mix steps: one, or one for each part of the phase
MIX_KINDS: tuple[MixKind, ...] = get_args(MixKind)
_Ratio = Annotated[float, Field(gt=0, lt=1)]
_Ratios = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=2, max_length=len(MIX_KINDS))]


class Mae(Section):
    """Masked autoencoder (He et al. 2022, arXiv 2111.06377): draw the hidden patches from the visible ones."""

    type: Literal["mae"]
    mask_ratio: float = Field(0.75, gt=0, lt=1, description="share of patches hidden in ssl steps")
    mix_mask_ratio: _Ratio | _Ratios | None = Field(
        None,
        description="the same in mix steps; a list, as in [0.75, 0.5, 0]: in equal parts of the mix phase, one after "
        "another, where 0 leaves the SL loss alone; null: mask_ratio",
    )
    decoder_width: int = Field(96, ge=8, le=4096, multiple_of=8)
    decoder_depth: int = Field(2, ge=1, le=24)
    decode_from: int | None = Field(
        None,
        ge=1,
        description="block of a ViT after which the decoder reads its tokens, through a norm of its own; later blocks "
        "serve the classifier alone, and ssl steps do not compute them; null: the last",
    )
    norm_pixels: bool = Field(True, description="target: pixels normalised within each patch")
    ssl_pass: Literal["auto", "masked", "full"] = Field(
        "auto",
        description="what ssl steps compute: masked the visible patches alone, full all of them, a token standing in "
        "for the hidden ones; auto: masked where the backbone can leave patches out",
    )

    @property
    def mix_ratios(self) -> tuple[float, ...]:
        """Shares of patches hidden in the parts of the mix phase, of which MIX_KINDS are the steps."""
        asked = self.mask_ratio if self.mix_mask_ratio is None else self.mix_mask_ratio
        return asked if isinstance(asked, tuple) else (asked,)

    def hidden(self, kind: str) -> float:
        """Share of patches hidden in steps of a kind; `sl_drop` hides what mix steps hide on average."""
        if kind == "ssl":
            return self.mask_ratio
        return fmean(self.mix_ratios) if kind == "sl_drop" else self.mix_ratios[MIX_KINDS.index(kind)]


class SimClr(Section):
    """SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image find each other in the batch."""

    type: Literal["simclr"]
    temperature: float = Field(0.2, gt=0, le=10)
    projector_width: int = Field(512, ge=8, le=65536)
    output_width: int = Field(128, ge=8, le=65536)
    first_view: ViewAugment = Field(
        ViewAugment(), description="what the first view does otherwise than data.augment; mix steps classify this view"
    )
    second_view: ViewAugment = Field(
        ViewAugment(), description="the same for the second view; mix steps classify it too where it is as the first"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for field in ("first_view", "second_view"):
            crop = getattr(self, field).crop
            if crop is not None:
                check_crop(f"objective.{field}", crop)
        return self


Objective = Annotated[Mae | SimClr, Field(discriminator="type")]
SHARED_PASSES: dict[str, tuple[str, ...]] = {
    # cheapest first: `schedule.shared_pass: auto` takes the first that the backbone can do; masked leaves patches out
    "mae": ("masked", "full", "separate"),
    "simclr": ("full", "separate"),
}


class LrScale(Section):
    """Factors on the learning rate by phase: SSL and SL may want other rates."""

    ssl: float = Field(1.0, gt=0, le=100)
    mix: float = Field(1.0, gt=0, le=100)
    sl: float = Field(1.0, gt=0, le=100)


class Optim(Section):
    """AdamW over all parameters; warm-up, then half a cosine to 0, at once or after a plateau."""

    batch: Annotated[int, Field(ge=2, le=10**6)] | Literal["auto"] = Field(
        256,
        description="images a step, over all workers; auto: as many as fit into the GPUs' memory, at most a twentieth "
        "of the training rows, found when the run starts",
    )
    accumulate: int = Field(
        1, ge=1, le=10**4, description="parts of a batch that are computed one after another, to save memory"
    )
    lr: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0.05, ge=0, le=10, description="on matrices alone")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    lr_scale: LrScale = LrScale()
    warmup: float = Field(0.05, ge=0, lt=1, description="share of a cycle that warms up")
    decay: Share | None = Field(
        None,
        gt=0,
        description="share of a cycle, at its end, in which the rate falls (warm-up, stable, decay; arXiv 2404.06395); "
        "null: all that follows warming up",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="in sl steps alone: factor on the rate of each block of a ViT below the one above it, as in 0.75 "
        "(arXiv 2106.08254); 1: all have the same",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] | None = Field(
        None,
        description="factors on the supervised loss of each class's images; balanced: labelled rows / (classes x those "
        "of the class), 1 on average over the rows; a class that a list leaves out has 1; null: all have 1",
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient of all parameters; null: any")
    ema: Share | None = Field(
        None, gt=0, description="half-life of averaged weights, as a share of the run's steps, as in 1%; null: none"
    )
    restart: Literal["never", "phase"] = Field(
        "never", description="never: one cycle over the run; phase: a cycle and fresh optimizer state for each phase"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 on a CPU")


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """Patches of `num_patches` that stay visible under `mask_ratio` (MAE: the rest are hidden)."""
    return int(num_patches * (1 - mask_ratio) + 1e-9)  # 1 - 0.9 is a little below 0.1, and 100 patches keep 10
