"""What `raymix bench loop` trains: a job a device, synthetic images in memory, and both loops over them."""

from __future__ import annotations

import numpy as np
import torch

from raymix.bench.plain import PlainLoop, Recipe
from raymix.data.images import Images
from raymix.data.splits import Splits
from raymix.local import LocalRuntime
from raymix.plan import Facts, Kind, Plan, resolve
from raymix.report.history import History
from raymix.spec import Augment, Data, DigitsSource, FixedSchedule, JobError, JobSpec, Mae, Optim, Vit, num_visible
from raymix.train.cache import Cache
from raymix.train.feed import Feed
from raymix.train.loop import train
from raymix.train.prepare import prepare
from raymix.train.saving import Checkpoints
from raymix.train.state import TrainState
from raymix.train.stepper import autocast_dtype
from raymix.watch import Sinks

KINDS: tuple[Kind, ...] = ("ssl", "mix", "sl")
NUM_CLASSES = 200


def job(device: torch.device, steps: bool = False) -> JobSpec:
    """On a GPU what jobs/tiny-imagenet-10pct.yaml trains, on CPU cores something small.

    `steps`: as `raymix bench steps` has it, batch 1,024 on a GPU and three quarters hidden in mix steps too.
    """
    big = device.type == "cuda"
    source = DigitsSource(format="digits")  # a job must name a source; nothing reads it here
    return JobSpec(
        name="bench-loop",
        data=Data(train=source, image_size=64 if big else 32, augment=Augment(crop=(0.25, 1.0), flip=True)),
        backbone=Vit(size="tiny", patch=8) if big else Vit(size="nano", patch=4),
        objective=Mae(
            type="mae", mask_ratio=0.75, mix_mask_ratio=0.75 if steps else 0.5, decoder_width=96 if big else 32
        ),
        optim=Optim(batch=(1024 if steps else 256) if big else 48),
    )


class Dataset:
    """Labelled images that can be told apart: the pattern of each class under noise."""

    def __init__(self, spec: JobSpec, num_rows: int) -> None:
        random, size = np.random.default_rng(0), spec.data.image_size
        self.labels = random.integers(0, NUM_CLASSES, num_rows)
        patterns = random.integers(0, 192, (NUM_CLASSES, 4, 4, 3), dtype=np.uint8)
        large = patterns.repeat(size // 4, axis=1).repeat(size // 4, axis=2)
        self.pixels = large[self.labels] + random.integers(0, 64, (num_rows, size, size, 3), dtype=np.uint8)

    def splits(self) -> Splits:
        """All rows train."""
        none = np.empty(0, dtype=np.int64)
        return Splits(train=np.arange(len(self.labels)), labels=self.labels, select=none, val=none)

    def cache(self, device: torch.device) -> Cache:
        """The images as raymix keeps them."""
        return Cache(Images(pixels=self.pixels, slots=np.arange(len(self.labels)), skipped={}), device)


def facts(num_rows: int) -> Facts:
    """Of a `Dataset`: all rows train, all have a label."""
    return Facts(
        num_train=num_rows,
        num_labelled=num_rows,
        num_select=0,
        num_val=0,
        class_names=tuple(str(label) for label in range(NUM_CLASSES)),
        class_rows=(num_rows // NUM_CLASSES,) * NUM_CLASSES,
    )


def plan(spec: JobSpec, kind: Kind, steps: int, num_rows: int) -> Plan:
    """A run of `steps` steps of one kind.

    Raises:
        JobError: mix steps are of several kinds.
    """
    if isinstance(spec.objective, Mae) and len(spec.objective.mix_ratios) > 1:
        raise JobError("objective.mix_mask_ratio", "a list has mix steps of several kinds", "measure one at a time")
    epochs = steps * spec.batch / num_rows
    schedule = FixedSchedule(
        ssl_epochs=0 if kind == "sl" else epochs,
        sl_epochs=0 if kind == "ssl" else epochs,
        mix_ratio=1 if kind == "mix" else 0,
        shared_pass=spec.schedule.shared_pass,
        whole_rows=spec.schedule.whole_rows,
    )
    planned = resolve(spec.model_copy(update={"schedule": schedule}), facts(num_rows))
    assert planned.kinds == (kind,)
    assert planned.num_steps == steps
    return planned


class RaymixLoop:
    """raymix's own loop, as a run without Ray has it: policy, feed, segments, history and reports."""

    def __init__(self, spec: JobSpec, kind: Kind, data: Dataset, device: torch.device) -> None:
        self.spec, self.kind, self.data = spec, kind, data
        self.runtime = LocalRuntime(data.cache(device), device, Sinks(()))
        self.planned = planned = plan(spec, kind, 1, len(data.labels))
        self.state = TrainState.fresh(planned, device)
        feed = Feed(planned, data.splits(), self.runtime)
        self.step, self.rates = prepare(planned, (kind,), self.state, feed, self.runtime, None)

    @property
    def step_seconds(self) -> float:
        """What a step costs, as measured before the first one."""
        return self.rates.step_seconds[self.kind]

    def run(self, steps: int) -> float:
        """A run of `steps` steps that goes on with the weights of the last one; returns its mean loss."""
        planned = plan(self.spec, self.kind, steps, len(self.data.labels))
        self.state.history = History(rates=self.rates)
        self.runtime.begin(self.kind, planned, self.state.history)
        feed = Feed(planned, self.data.splits(), self.runtime)
        train(planned, self.state, self.step, feed, self.runtime, Checkpoints.of(planned, None, 0, self.runtime.note))
        w = planned.spec.schedule.weight.start if self.kind == "mix" else 1.0 if self.kind == "ssl" else 0.0
        reports = self.state.history.reports
        total = sum((w * (r.ssl_loss or 0) + (1 - w) * (r.sl_loss or 0)) * r.segment.steps for r in reports)
        return total / steps


def plain_loop(
    spec: JobSpec, kind: Kind, data: Dataset, device: torch.device, fast: bool = False, augment: bool = True
) -> PlainLoop:
    """The rival, on the same images with the same weights at the start; `fast`: compiled and replayed."""
    planned = plan(spec, kind, 1, len(data.labels))
    images = torch.from_numpy(data.pixels).permute(0, 3, 1, 2).contiguous().to(device)
    labels = torch.from_numpy(data.labels).to(device)
    model = TrainState.fresh(planned, device).model
    return PlainLoop(model, images, labels, recipe(planned, kind, device, fast, augment))


def recipe(planned: Plan, kind: Kind, device: torch.device, fast: bool, augment: bool = True) -> Recipe:
    """What the rival trains where raymix has this plan."""
    spec, patches, visible = planned.spec, 0, 0
    if kind != "sl":
        assert isinstance(spec.objective, Mae)
        patches = spec.num_patches
        visible = num_visible(patches, spec.objective.hidden("mix" if kind == "mix" else "ssl"))
    return Recipe(
        kind=kind,
        optim=spec.optim,
        batch=spec.batch,
        crop=spec.data.augment.crop,
        num_patches=patches,
        num_visible=visible,
        weight=spec.schedule.weight.start,
        autocast=autocast_dtype(planned, device),
        fast=fast,
        augment=augment,
    )
