"""What training changes: model, averaged weights, optimizer, history. All else follows from the plan and the step."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raymix.method import optim
from raymix.method.backbones import START, How
from raymix.method.steps import Model
from raymix.plan import Plan
from raymix.report.history import History, Rates
from raymix.train import compiling
from raymix.train.hostcopy import HostCopy

MODEL, AVERAGED, OPTIM = "model.", "ema.", "optim."


@dataclass
class TrainState:
    """Model, its averaged weights (`optim.ema`), optimizer and history of one run; the same on every rank.

    Its tensors stay where they are: a recorded step reads and writes them in place.
    """

    model: Model
    optimizer: torch.optim.AdamW
    history: History
    averaged: Model | None = None
    host: HostCopy = field(default_factory=HostCopy)  # where checkpoints are written from

    @classmethod
    def fresh(cls, plan: Plan, device: torch.device, how: How = START) -> TrainState:
        """The state before the first step: weights drawn from the job's seed, the same on every rank and device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.spec.seed)
            model = Model(plan.spec, plan.facts.num_classes, how)
        model.to(device)
        compiling.lay_out(plan.spec.speed, model, device)
        averaged = None
        if plan.spec.optim.ema is not None:
            averaged = copy.deepcopy(model).requires_grad_(False)
        return cls(model, optim.build(model, plan.spec.optim), History(rates=Rates(step_seconds={})), averaged)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name; views, not copies."""
        named = {MODEL + name: value for name, value in self.model.state_dict().items()}
        if self.averaged is not None:
            named.update({AVERAGED + name: value for name, value in self.averaged.state_dict().items()})
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"{OPTIM}{name}.{key}"] = value
        return named

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors` gave, in place.

        Raises:
            ValueError: a tensor is missing, of another shape or type, or not the state's; nothing was changed.
        """
        mine = self.tensors()
        for name in (*mine, *tensors):
            if name not in tensors:
                raise ValueError(f"tensor {name} is missing")
            if name not in mine:
                raise ValueError(f"tensor {name} is none of this model's")
            told, wanted = (f"{value.dtype} {list(value.shape)}" for value in (tensors[name], mine[name]))
            if told != wanted:
                raise ValueError(f"tensor {name} is {told} instead of {wanted}")
        for name, value in mine.items():
            value.copy_(tensors[name])

    @torch.no_grad()
    def is_finite(self, thoroughly: bool = False) -> bool:
        """Whether no tensor holds a NaN or an infinity; waits for the device.

        Unless `thoroughly`, second moments and BatchNorm's statistics alone are looked at: a gradient that was not
        finite is in its second moment for good, and weights and averages that came of finite ones are finite. Other
        buffers may be infinite with good reason, as masks are.
        """
        models = [model for model in (self.model, self.averaged) if model is not None]
        norms = [layer for model in models for layer in model.modules() if isinstance(layer, _BatchNorm)]
        looked = [value for layer in norms for value in layer.buffers() if value.is_floating_point()]
        looked += [moments["exp_avg_sq"] for moments in self.optimizer.state.values()]
        if thoroughly:
            looked += [value for model in models for value in model.parameters()]
            looked += [moments["exp_avg"] for moments in self.optimizer.state.values()]
        # a norm is quick, but one that is not finite may be a sum past the range of finite values
        if bool(nn.utils.get_total_norm(looked, foreach=True).isfinite()):
            return True
        return all(bool(value.isfinite().all()) for value in looked)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of every tensor, in the host's memory: a GPU's peak is not raised by it."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self.tensors().items()}
