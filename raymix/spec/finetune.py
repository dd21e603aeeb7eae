"""What the SL phase may do beside training all weights: take parts out of the backbone, or train adapters instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from raymix.spec.backbone import VIT_SIZES, Timm, Vit
from raymix.spec.base import JobError, Section, Share
from raymix.spec.schedule import BudgetedSchedule, PhasesSchedule

if TYPE_CHECKING:
    from raymix.spec.job import JobSpec


class Cut(Section):
    """Shares of each block of raymix's own ViT that are taken out, those that matter least to the supervised loss.

    What matters is told by the gradients of gates of 1 on them (Molchanov et al. 2019, arXiv 1906.10771).
    """

    mlp: Share = Field(0.0, lt=1, description="of the perceptron's hidden units")
    heads: Share = Field(0.0, lt=1, description="of the attention's heads, rounded; one stays at least")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.mlp + self.heads:
            raise JobError("shrink", "takes nothing out", "set shrink.mlp, as in 0.5, or shrink.heads")
        return self

    def left(self, num_units: int, num_heads: int) -> tuple[int, int]:
        """Hidden units and heads that stay in a block that has so many."""
        return num_units - round(self.mlp * num_units), num_heads - round(self.heads * num_heads)

    def check_block(self, num_units: int, num_heads: int) -> None:
        """Raises JobError where a block of that size would have none left, or lose none."""
        units, heads = self.left(num_units, num_heads)
        for name, number, left in (("mlp", num_units, units), ("heads", num_heads, heads)):
            share, what = getattr(self, name), "hidden units" if name == "mlp" else "heads"
            if left < 1 or (share and left == number):
                problem = f"{share:g} of {number} {what} {'leaves none' if left < 1 else 'is none'}"
                raise JobError(f"shrink.{name}", problem, f"change it: one of them is {1 / number:.2g}")


class Shrink(Cut):
    """The same while training: they are masked from a step of the SL phase on, and no part of what is loaded later."""

    after: Share = Field(0.0, lt=1, description="share of the first SL phase that is over by then; 0: at its start")


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on the matrices of a ViT's blocks, by the library peft.

    Steps of the SL phase train them and the classifier, while the backbone's own weights stand still; others as ever.
    """

    rank: int = Field(8, ge=1, le=1024)
    alpha: float = Field(16.0, gt=0, le=4096, description="alpha / rank is a factor on what they add")


def check_finetune(spec: JobSpec) -> None:
    """Raises JobError where what the SL phase does beside training all weights fits no backbone or schedule."""
    if spec.shrink is not None:
        if not isinstance(spec.backbone, Vit):
            problem = f"takes parts out of raymix's own ViT, and the backbone is of type {spec.backbone.type}"
            raise JobError("shrink", problem, "leave it out, or set backbone.type=vit")
        width, _, heads = VIT_SIZES[spec.backbone.size]
        spec.shrink.check_block(4 * width, heads)
    if spec.lora is not None:
        if spec.schedule.interleave == "alternate":
            problem = "interleave: alternate trains all weights in the SL steps of its mix phase"
            raise JobError("lora", problem, "leave it out, or set schedule.interleave=joint")
        if not isinstance(spec.backbone, Vit | Timm):
            problem = f"adapts raymix's own ViTs and timm's, and the backbone is of type {spec.backbone.type}"
            raise JobError("lora", problem, "leave it out, or take another backbone")
        check_adapted(spec, "the job", "set backbone.weights or SSL epochs, or leave lora out")


def check_adapted(spec: JobSpec, whose: str, hint: str) -> None:
    """Raises JobError where adapters would be trained, in the job or an arm, on a backbone as its seed drew it."""
    schedule, backbone = spec.schedule, spec.backbone
    if spec.lora is None or backbone.weights is not None or (isinstance(backbone, Timm) and backbone.pretrained):
        return
    if isinstance(schedule, PhasesSchedule):
        learns = any(phase.kind != "sl" for phase in schedule.phases)
    elif isinstance(schedule, BudgetedSchedule) and schedule.shares is not None:
        learns = bool(schedule.shares.ssl or schedule.shares.mix)
    else:
        learns = schedule.policy == "adaptive" or bool(schedule.ssl_epochs)
    if not learns:
        problem = f"{whose} has neither SSL epochs nor weights to begin with, so adapters would fit a random backbone"
        raise JobError("lora", problem, hint)
