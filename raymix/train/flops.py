"""What one step of a kind computes: its matrix products and convolutions, forward and backward, counted by torch.

The step runs on the meta device, where tensors have shapes and no values: a batch of thousands takes as long as one of
two, about half a second a kind. A multiplication and an addition are two FLOPs. Of raymix's own ViT
`raymix.report.work` knows the same figures at once.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raymix.method import steps
from raymix.method.steps import Batch, Model
from raymix.method.views import Augment
from raymix.plan import SL_KINDS, Kind
from raymix.spec import JobSpec

META = torch.device("meta")


def step_flops(spec: JobSpec, model: Model, kinds: tuple[Kind, ...]) -> dict[Kind, float]:
    """FLOPs of a step of each kind over all workers; `{}` where a backbone computes with values, which meta lacks.

    Augmentation is not counted, nor what `speed.recompute` computes again: neither is work that the method asks for.
    The model, which must not be compiled yet, is not changed.
    """
    found: dict[Kind, float] = {}
    try:
        shadow = _on_meta(model)
        for module in list(shadow.modules()):
            for name, part in list(module._modules.items()):  # named_children has what is there twice once
                if isinstance(part, Augment):
                    setattr(module, name, _Views(spec))
        with torch.random.fork_rng(devices=[]):
            for kind in kinds:
                if shadow.adapters is not None:
                    shadow.adapters.learn(kind in SL_KINDS)
                found[kind] = _counted(steps.build(spec, shadow, kind), _batch(spec))
    except Exception:  # a backbone of the user's own may do anything; a run does not fail for want of a figure
        return {}
    return found


class _Views(nn.Module):
    """Stands for an augmentation: images of the size that the backbone sees."""

    def __init__(self, spec: JobSpec) -> None:
        super().__init__()
        self.shape = spec.data.num_channels, spec.data.image_size, spec.data.image_size

    def forward(self, x_BSSC: Tensor, *_: Any) -> Tensor:
        return torch.empty(len(x_BSSC), *self.shape, device=META)


def _counted(step: nn.Module, batch: Batch) -> float:
    # attention as two plain products: a fused kernel's own count has what it computes twice in it
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss, _ = step(batch, torch.tensor(0.5, device=META))
        loss.backward()
    return float(counter.get_total_flops())


def _on_meta(model: Model) -> Model:
    """A copy whose tensors have no values and take no memory."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device=META)
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device=META)
    return copy.deepcopy(model, memo).train()


def _batch(spec: JobSpec) -> Batch:
    """The whole batch of all workers on one: SimCLR's comparison of all with all is counted once, as they share it."""
    B, S, C = spec.batch, spec.data.image_size, spec.data.num_channels
    return Batch(
        x_BSSC=torch.empty(B, S, S, C, dtype=torch.uint8, device=META),
        y_B=torch.empty(B, dtype=torch.int64, device=META),
        key_B=torch.empty(B, dtype=torch.int64, device=META),
        scale=torch.empty((), device=META),
    )
