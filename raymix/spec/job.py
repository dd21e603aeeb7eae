"""What a job keeps and compares, and the whole of it."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from raymix.spec.backbone import VIT_SIZES, Backbone, Timm, Torchvision, Vit
from raymix.spec.base import SPEC_VERSION, Folder, JobError, Name, Section
from raymix.spec.cluster import Cluster
from raymix.spec.data import Data, check_channels
from raymix.spec.evaluate import CheckpointSpec, Evaluate, Metric
from raymix.spec.failures import Failures
from raymix.spec.finetune import Lora, Shrink, check_finetune
from raymix.spec.method import (
    MIX_KINDS,
    SHARED_PASSES,
    Mae,
    Objective,
    Optim,
    SimClr,
    num_visible,
)
from raymix.spec.pilot import ARMS, Pilot
from raymix.spec.report import ReportSpec
from raymix.spec.schedule import Budget, FixedSchedule, Goal, PhasesSchedule, Schedule
from raymix.spec.speed import Speed
from raymix.spec.sweep import Sweep
from raymix.spec.tune import Tune
from raymix.spec.watch import Watch


class JobSpec(Section):
    """A whole job."""

    spec_version: int = Field(SPEC_VERSION, ge=1, description="of the raymix that it was written for; absent: this one")
    name: Name
    seed: int = Field(0, ge=0, lt=2**31)
    storage: Folder = Field("runs", description="what holds run folders: a folder, or s3://bucket/prefix")
    data: Data
    backbone: Backbone = Vit()
    objective: Objective = Mae(type="mae")
    schedule: Schedule = FixedSchedule()
    budget: Budget | None = None
    goal: Goal | None = None
    optim: Optim = Optim()
    shrink: Shrink | None = Field(
        None, description="parts of raymix's own ViT that leave it in the SL phase, as in {mlp: 0.5}; null: none"
    )
    lora: Lora | None = Field(
        None, description="adapters that the SL phase trains, as in {rank: 8} (raymix[peft]); null: all weights are"
    )
    speed: Speed = Speed()
    cluster: Cluster = Cluster()
    checkpoint: CheckpointSpec = CheckpointSpec()
    failures: Failures = Failures()
    evaluate: Evaluate = Evaluate()
    metric: Metric = Field(
        "top1",
        description="what runs are chosen and judged by: on select rows for goals, adaptive runs, searches and the "
        "best checkpoint, on val for the result and a pilot's verdict. top1: the share of the images that are right; "
        "top5: of those whose class is among the five most likely; balanced_accuracy: the mean of top1 over the "
        "classes, each counting alike; auroc: the area under the ROC curve, the mean over the classes, each against "
        "all others; average_precision: that under the precision-recall curve, likewise; "
        "recall_at_false_alarms: the share of a class that is found while report.false_alarms of all others are taken "
        "for it, likewise; brier: the probabilities by the Brier score B, as 1 - B/2: calibration and telling classes "
        "apart in one; cost: by report.costs, the share saved of what the best decision costs that is the same for all "
        "images",
    )
    pilot: Pilot = Pilot()
    tune: Tune | None = None
    sweep: Sweep | None = Field(
        None,
        description="`raymix sweep`: a pilot at each of these shares of images (data.fraction) and of labels "
        "(data.label_fraction)",
    )
    report: ReportSpec = ReportSpec()
    watch: Watch = Watch()

    @field_validator("spec_version")
    @classmethod
    def _check_version(cls, version: int) -> int:
        if version > SPEC_VERSION:
            problem = f"{version} is newer than this raymix knows, which is {SPEC_VERSION}"
            raise JobError("spec_version", problem, "upgrade raymix: pip install --upgrade raymix")
        return version

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_patches(self)
        _check_views(self)
        _check_mixing(self)
        _check_shared_pass(self)
        _check_whole_rows(self)
        _check_mix_ratios(self)
        _check_workers(self)
        _check_accumulate(self)
        _check_compute(self)
        _check_tune(self)
        _check_pretrained(self)
        check_finetune(self)
        if self.metric == "cost" and self.report.costs is None:
            raise JobError("report.costs", "metric cost judges by it", "set it, as in {defect: {good: 50}}")
        if self.data.labelled_share is not None and self.schedule.interleave == "alternate":
            problem = "interleave: alternate has no mix batch, each step is all SSL or all SL"
            raise JobError("data.labelled_share", problem, "leave it out, or set schedule.interleave=joint")
        if self.optim.decay is not None and self.schedule.policy == "adaptive":
            problem = "an adaptive run keeps its rate up to its SL tail, in which it falls"
            raise JobError("optim.decay", problem, "leave it out, and set schedule.tail")
        if self.evaluate.weights == "ema" and self.optim.ema is None:
            raise JobError("evaluate.weights", "there are no averaged weights", "set optim.ema, as in optim.ema=1%")
        if self.checkpoint.best and not (self.evaluate.every and self.evaluate.max_share and self.data.select):
            problem = "there is nothing to choose by: no select rows are looked at while training"
            raise JobError(
                "checkpoint.best", problem, "leave it out, or set evaluate.every, .max_share and data.select"
            )
        _check_storage(self)
        return self

    @property
    def taken_over(self) -> dict[str, str]:
        """Fields that name what an earlier run or a file has, and what they name."""
        fields = {
            "backbone.weights": self.backbone.weights,
            "pilot.weights": self.pilot.weights,
            "data.keep_splits": self.data.keep_splits,
        }
        return {field: source for field, source in fields.items() if source is not None}

    @property
    def batch(self) -> int:
        """Images a step, over all workers; near 256 as long as that is on auto."""
        if self.optim.batch != "auto":
            return self.optim.batch
        unit = self.cluster.num_replicas * self.optim.accumulate
        return max(1, round(256 / unit)) * unit

    @property
    def num_patches(self) -> int:
        """Patches (tokens) of one image, of raymix's own ViT; other backbones tell theirs when they are built."""
        assert isinstance(self.backbone, Vit)
        return (self.data.image_size // self.backbone.patch) ** 2

    def has_ssl_loss(self, kind: str) -> bool:
        """Whether steps of a kind have the SSL loss: ssl steps, and mix steps but those that hide no patch."""
        if kind not in MIX_KINDS:
            return kind == "ssl"
        return not isinstance(self.objective, Mae) or self.objective.hidden(kind) > 0

    def num_whole(self, rows: int) -> int:
        """Rows, the first ones, of a worker's `rows` rows of a mix batch that the classifier sees whole.

        0: it shares the pass, and sees all of them as the objective does. A number for each worker, so that every step
        has the same shapes; labelled rows stand first where `data.labelled_share` says how many there are.
        """
        share, labelled = self.schedule.whole_rows, self.data.labelled_share
        if labelled is not None:
            share *= round(labelled * self.batch) / self.batch
        return max(1, round(share * rows)) if share else 0

    def passes(self, drops: bool) -> Passes:
        """What is computed, with auto decided: the cheapest that the objective and the backbone allow.

        `drops` says whether the backbone can leave patches out.
        """
        ssl, mix = self.objective.ssl_pass if isinstance(self.objective, Mae) else "full", self.schedule.shared_pass
        allowed = [name for name in SHARED_PASSES[self.objective.type] if drops or name != "masked"]
        if ssl == "auto":
            ssl = "masked" if drops else "full"
        return Passes(ssl, allowed[0] if mix == "auto" else mix)


class Passes(NamedTuple):
    """What a pass of the backbone computes where patches are hidden: the visible ones (masked) or all (full)."""

    ssl: str
    mix: str  # or separate: two passes


def _check_storage(spec: JobSpec) -> None:
    if "://" not in spec.storage and not spec.storage.startswith("s3:"):
        return
    if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^/]+)*/?", spec.storage):
        problem = f"{spec.storage} is neither a folder nor a place in a bucket"
        raise JobError("storage", problem, "name a folder that every node can reach, or s3://bucket/prefix")


def _check_patches(spec: JobSpec) -> None:
    if not isinstance(spec.backbone, Vit):
        return  # asked of the backbone itself, before anything starts: raymix.method.fit
    size, patch = spec.data.image_size, spec.backbone.patch
    if size % patch:
        raise JobError(
            "data.image_size", f"{size} is not divisible by backbone.patch {patch}", nearest_size(size, patch)
        )
    check_masks(spec, spec.num_patches, "take a smaller backbone.patch")
    check_decode_from(spec, VIT_SIZES[spec.backbone.size][1])


def nearest_size(size: int, patch: int) -> str:
    """The hint that names the nearest size that patches of so many pixels divide."""
    return f"{max(patch, round(size / patch) * patch)} is"


def check_masks(spec: JobSpec, num_patches: int, hint: str) -> None:
    """Raises JobError where MAE would leave no patch visible, or hide none."""
    if not isinstance(spec.objective, Mae):
        return
    for kind in ("ssl", "sl_drop", *MIX_KINDS[: len(spec.objective.mix_ratios)]):
        ratio, mixed = spec.objective.hidden(kind), kind != "ssl" and spec.objective.mix_mask_ratio is not None
        if not ratio and kind in MIX_KINDS:
            continue
        visible = num_visible(num_patches, ratio)
        if not 0 < visible < num_patches:
            which = "visible" if visible == 0 else "hidden"
            problem = f"{ratio} leaves no {which} patch of {num_patches}"
            raise JobError(f"objective.{'mix_' if mixed else ''}mask_ratio", problem, f"change it, or {hint}")


def check_decode_from(spec: JobSpec, num_blocks: int) -> None:
    """Raises JobError where MAE is to decode from a block that has none after it."""
    block = spec.objective.decode_from if isinstance(spec.objective, Mae) else None
    if block is not None and block >= num_blocks:
        problem = f"{block} is no block before the last of {num_blocks}"
        raise JobError("objective.decode_from", problem, "leave it out to decode from the last, or take a lower one")


def _check_views(spec: JobSpec) -> None:
    if isinstance(spec.objective, SimClr):
        for field in ("first_view", "second_view"):
            check_channels(f"objective.{field}", getattr(spec.objective, field), spec.data.channels)


def _check_mixing(spec: JobSpec) -> None:
    augment = spec.data.augment
    if not augment.mix_shared:
        return
    if not (augment.mixup or augment.cutmix):
        raise JobError("data.augment.mix_shared", "there is nothing to mix with", "set mixup or cutmix as well")
    if not isinstance(spec.objective, Mae):
        problem = f"objective {spec.objective.type} compares views of one image"
        raise JobError("data.augment.mix_shared", problem, "leave it out; mae draws mixed images as well as others")


def _check_shared_pass(spec: JobSpec) -> None:
    asked, allowed = spec.schedule.shared_pass, SHARED_PASSES[spec.objective.type]
    if asked not in ("auto", *allowed):
        problem = f"objective {spec.objective.type} does not allow {asked}"
        raise JobError("schedule.shared_pass", problem, f"one of auto, {', '.join(allowed)}")
    masks = isinstance(spec.objective, Mae)
    if spec.schedule.sl_drop and not masks:
        raise JobError("schedule.sl_drop", f"objective {spec.objective.type} hides no patches", "only mae does")
    if "ssl_sl_drop" in spec.pilot.arms and not masks and spec.pilot.arms != ARMS:
        raise JobError(
            "pilot.arms", f"ssl_sl_drop needs patches to drop, {spec.objective.type} hides none", "leave it out"
        )


def _check_whole_rows(spec: JobSpec) -> None:
    """The classifier has rows of its own where it would share a masked pass."""
    schedule, field = spec.schedule, "schedule.whole_rows"
    if not schedule.whole_rows:
        return
    if not isinstance(spec.objective, Mae):
        raise JobError(field, f"objective {spec.objective.type} hides no patches", "only mae does")
    if schedule.shared_pass not in ("auto", "masked"):
        problem = f"shared_pass: {schedule.shared_pass} computes all patches of all rows"
        raise JobError(field, problem, "set schedule.shared_pass=masked or leave it out")
    if schedule.interleave == "alternate":
        problem = "interleave: alternate has no mix batch, each step is all SSL or all SL"
        raise JobError(field, problem, "leave it out, or set schedule.interleave=joint")
    if spec.optim.accumulate > 1:
        problem = "the whole rows are the first of a batch, and most of its optim.accumulate parts would have none"
        raise JobError(field, problem, "set optim.accumulate=1, and speed.recompute=true to save memory")


def _check_mix_ratios(spec: JobSpec) -> None:
    """A mix phase in parts is one whose length is known when it begins."""
    schedule, field = spec.schedule, "objective.mix_mask_ratio"
    if not isinstance(spec.objective, Mae) or len(spec.objective.mix_ratios) == 1:
        return
    if schedule.interleave == "alternate":
        problem = "interleave: alternate has no mix steps whose ratio could fall"
        raise JobError(field, problem, "name one ratio, or set schedule.interleave=joint")
    if schedule.policy not in ("fixed", "phases") or spec.budget is not None or spec.goal is not None:
        problem = "a list cuts the mix phase into parts, and a budget, a goal or a policy changes its length"
        raise JobError(field, problem, "name one ratio, or plan in epochs")


def _check_pretrained(spec: JobSpec) -> None:
    if spec.pilot.weights is None:
        return
    pretrained = isinstance(spec.backbone, Timm | Torchvision) and spec.backbone.pretrained
    if pretrained or spec.backbone.weights is not None:
        field = "pretrained" if pretrained else "weights"
        raise JobError("pilot.weights", f"with backbone.{field} all arms start from weights", "give one of the two")


def _check_workers(spec: JobSpec) -> None:
    batch, workers = spec.batch, spec.cluster.num_replicas
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
    if spec.cluster.gpus_per_worker and not spec.cluster.max_workers:
        problem = "cluster.workers: 0 trains in this process, on its first GPU where there is one"
        raise JobError("cluster.gpus_per_worker", problem, "leave it out, or ask for workers")


def _check_accumulate(spec: JobSpec) -> None:
    batch, parts, workers = spec.batch, spec.optim.accumulate, spec.cluster.num_replicas
    if parts == 1:
        return
    if isinstance(spec.objective, SimClr):
        problem = "simclr contrasts all images of a batch with each other, and parts of it would be another loss"
        raise JobError("optim.accumulate", problem, "set it to 1, and speed.recompute=true to save memory")
    if batch % (workers * parts):
        nearest = max(1, round(batch / (workers * parts))) * workers * parts
        problem = f"{batch} is not divisible by {workers} workers times optim.accumulate {parts}"
        raise JobError("optim.batch", problem, f"the nearest that is: {nearest}")


def _check_compute(spec: JobSpec) -> None:
    """Policy, budget and goal fit each other."""
    schedule, budget = spec.schedule, spec.budget
    if schedule.policy in ("budgeted", "adaptive") and budget is None:
        raise JobError("budget", f"schedule.policy {schedule.policy} spends one", "set it, as in budget={wall: 1h}")
    if schedule.policy == "adaptive" and not spec.data.select:
        raise JobError("data.select", "schedule.policy adaptive looks at select rows", "keep some, as in 0.1")
    if schedule.policy == "adaptive" and spec.optim.restart == "phase":
        raise JobError("optim.restart", "schedule.policy adaptive has one cycle", "set it to never")
    if isinstance(schedule, PhasesSchedule):
        units = {phase.duration.unit for phase in schedule.phases}
        if "rest" in units and budget is None:
            raise JobError("schedule.phases", "`for: rest` is the rest of a budget", "set budget, or name a length")
        if "seconds" in units and budget is not None and budget.currency == "flops":
            raise JobError("schedule.phases", "lasts a time, and the budget is in FLOPs", "use %, epochs or steps")
    if spec.goal is not None and not (spec.data.select and spec.evaluate.every and spec.evaluate.max_share):
        raise JobError("goal", "nothing is evaluated while training", "set data.select and evaluate.every")
    if budget is None:
        return
    if budget.currency == "money":
        _check_priced(spec.cluster, "budget.money")


def _check_priced(cluster: Cluster, field: str) -> None:
    """An amount of money, in some field, ends what is spent on the cluster."""
    if cluster.price_per_worker_hour is None and cluster.price_file is None:
        problem = "what a worker-hour costs is not set"
        raise JobError(field, problem, "set cluster.price_per_worker_hour or cluster.price_file")
    if cluster.price_per_worker_hour == 0:
        raise JobError(field, "at a price of 0 it never ends", "set cluster.price_per_worker_hour")


def _check_tune(spec: JobSpec) -> None:
    tune = spec.tune
    if tune is None:
        return
    for arm in tune.arms or ():
        if arm not in ARMS:
            raise JobError("tune.arms", f"unknown arm {arm}", f"of {', '.join(ARMS)}")
    if tune.budget is not None and tune.budget.money is not None:
        _check_priced(spec.cluster, "tune.budget.money")
