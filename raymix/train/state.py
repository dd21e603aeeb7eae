"""What training changes: model, optimizer and history. Everything else follows from the plan and the step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raymix.method import optim
from raymix.method.steps import Model
from raymix.plan import Plan
from raymix.report.history import History, Rates

MODEL, OPTIM = "model.", "optim."


@dataclass
class TrainState:
    """Model, optimizer and history of one run; the same on every rank."""

    model: Model
    optimizer: torch.optim.AdamW
    history: History

    @classmethod
    def fresh(cls, plan: Plan, device: torch.device) -> TrainState:
        """The state before the first step: weights drawn from the job's seed, the same on every rank and device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.spec.seed)
            model = Model(plan.spec, plan.facts.num_classes)
        model.to(device)
        return cls(model, optim.build(model, plan.spec.optim), History(rates=Rates(step_seconds={})))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name; views, not copies."""
        named = {MODEL + name: value for name, value in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"{OPTIM}{name}.{key}"] = value
        return named

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave: copies into the parameters, and the optimizer's state as it was."""
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        self.model.load_state_dict(weights)
        self.optimizer.state.clear()
        parameters = dict(self.model.named_parameters())
        for key, value in tensors.items():
            if key.startswith(OPTIM):
                name, _, entry = key.removeprefix(OPTIM).rpartition(".")
                parameter = parameters[name]
                # the step count of a fused AdamW lies on the parameters' device
                self.optimizer.state[parameter][entry] = value.clone().to(parameter.device)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of every tensor."""
        return {name: value.detach().clone() for name, value in self.tensors().items()}
