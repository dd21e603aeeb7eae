"""What `raymix bench steps` times: the step kinds of a job as rows, each by raymix and by its rivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from raymix.bench.plain import PlainLoop
from raymix.bench.setting import NUM_CLASSES, Dataset, plain_loop, plan
from raymix.jobfile import load_spec
from raymix.local import LocalRuntime
from raymix.method import draw
from raymix.method.steps import Batch, Model
from raymix.method.views import Augment
from raymix.plan import Kind
from raymix.spec import JobSpec
from raymix.train.feed import Feed
from raymix.train.flops import step_flops
from raymix.train.prepare import prepare
from raymix.train.state import TrainState
from raymix.watch import Sinks


@dataclass(frozen=True)
class Row:
    """A step kind under a setting of its own; `job` overrides the job that is measured."""

    name: str
    kind: Kind
    job: tuple[str, ...] = ()
    plain: bool = False  # whether the plain loop has it


_SIMCLR = ("objective={type: simclr}", "schedule.shared_pass=full")
ROWS = (
    Row("sl", "sl", plain=True),
    Row("ssl", "ssl", plain=True),
    Row("mix masked", "mix", ("schedule.shared_pass=masked",), plain=True),
    Row("ssl full", "ssl", ("schedule.shared_pass=full", "objective.ssl_pass=full")),
    Row("mix full", "mix", ("schedule.shared_pass=full",)),
    Row("mix separate", "mix", ("schedule.shared_pass=separate",)),
    Row("simclr ssl", "ssl", _SIMCLR),
    Row("simclr mix", "mix", _SIMCLR),
)
# a mix step, the ssl step of the same objective and token count, and the most that t_mix / (t_ssl + t_sl) may be
RATIOS = (("mix masked", "ssl"), ("mix full", "ssl full"), ("simclr mix", "simclr ssl"))


class Steps(Protocol):
    """Some rival: steps on one batch, again and again."""

    def again(self, steps: int) -> None:
        """That many optimizer steps."""


class RaymixSteps:
    """raymix's own step, as a run has it; `augment` False: on fixed views, for model and optimizer alone."""

    def __init__(self, spec: JobSpec, kind: Kind, data: Dataset, device: torch.device, augment: bool) -> None:
        planned = plan(spec, kind, 1, len(data.labels))
        runtime = LocalRuntime(data.cache(device), device, Sinks(()))
        self.state, feed = TrainState.fresh(planned, device), Feed(planned, data.splits(), runtime)
        self.kind, self._batch = kind, feed.sample(kind)
        if not augment:
            _fix_views(self.state.model, self._batch, "mix" if kind == "mix" else "ssl")
        self._step, self.rates = prepare(planned, (kind,), self.state, feed, runtime, None)
        self._lr, self._w = torch.tensor(1e-4, device=device), torch.tensor(0.5, device=device)

    def again(self, steps: int) -> None:
        """That many optimizer steps on one batch."""
        for _ in range(steps):
            self._step(self.kind, self._batch, self._lr, self._w)


def with_row(spec: JobSpec, row: Row) -> JobSpec:
    """The job, as a row wants it."""
    return load_spec(spec.model_dump(mode="json", exclude_unset=True), list(row.job))


def rival(name: str, spec: JobSpec, row: Row, data: Dataset, device: torch.device, augment: bool) -> Steps:
    """`raymix`, `eager` (raymix uncompiled and not replayed) or `plain` (compiled as a whole and replayed)."""
    if name == "plain":
        loop: PlainLoop = plain_loop(spec, row.kind, data, device, fast=True, augment=augment)
        return loop
    if name == "eager":
        spec = load_spec(spec.model_dump(mode="json", exclude_unset=True), ["speed={compile: off, replay: off}"])
    return RaymixSteps(spec, row.kind, data, device, augment)


def flops(spec: JobSpec, kind: Kind) -> float | None:
    """Multiplications and additions of one step's forward and backward pass; None: they cannot be counted."""
    return step_flops(spec, Model(spec, NUM_CLASSES), (kind,)).get(kind)


class _Fixed(nn.Module):
    """Stands for the augmentation and gives the same images every time."""

    def __init__(self, augment: Augment, x_BSSC: Tensor, key_B: Tensor) -> None:
        super().__init__()
        self.x_BCHW: Tensor = augment(x_BSSC, key_B)
        self.clean = augment.clean  # what is evaluated is not fixed

    def forward(self, *_: Any) -> Tensor:
        fixed: Tensor = self.x_BCHW
        return fixed


def _fix_views(model: Model, batch: Batch, kind: Kind) -> None:
    """From here on every view of the model is the one of this batch."""
    key_B = draw.as_tensor(batch.key_B)
    view = model.g.view(batch.x_BSSC, key_B, kind)
    fixed = _Fixed(model.a, batch.x_BSSC, key_B)
    model.a = fixed  # type: ignore[assignment]
    model.g.augment = fixed  # type: ignore[assignment]
    model.g.view = lambda *_, **__: view  # type: ignore[method-assign]
