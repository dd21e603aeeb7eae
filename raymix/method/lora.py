"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) beside the matrices of a ViT's blocks, by the library peft.

An adapter adds B A x * alpha / rank to what a matrix makes of x; B starts at 0. Whoever trains is told by the kind of a
step: in those of the SL phase the adapters (and the classifier) learn and the backbone's own weights need no gradient,
in all others it is the other way round, and adapters are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from raymix.method.backbones import Backbone, Layered
from raymix.spec import JobError, Lora

_NAME = "default"  # peft's own, which is a part of the tensors' names


class Adapters:
    """The adapters of a backbone, which are put into it when this is made; everything needs a gradient then.

    Raises:
        JobError: peft is not installed, or the backbone is no ViT.
    """

    def __init__(self, f: Backbone, lora: Lora) -> None:
        check(f)
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        self._own = list(f.parameters())
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=_matrices(f), bias="none")  # type: ignore[arg-type]
        inject_adapter_in_model(config, f, _NAME)
        self._layers: list[Any] = [module for module in f.modules() if isinstance(module, LoraLayer)]
        self._learning: bool | None = None
        f.requires_grad_(True)

    def learn(self, on: bool) -> None:
        """From now on adapters need gradients, and the backbone's own weights do not; or, `on` False, the reverse."""
        if on == self._learning:
            return
        self._learning = on
        for parameter in self._own:
            parameter.requires_grad_(not on)
        for layer in self._layers:
            layer.enable_adapters(on)

    def show(self) -> None:
        """What the model says from now on includes what adapters add, whoever learned last."""
        if not self._learning:
            self._learning = None
            for layer in self._layers:
                layer.enable_adapters(True)


def check(f: Backbone) -> None:
    """Raises JobError where a backbone cannot be adapted."""
    if importlib.util.find_spec("peft") is None:
        raise JobError("lora", "needs peft, which is not installed", "pip install 'raymix[peft]'")
    if not isinstance(f, Layered):
        raise JobError("lora", "adapts the blocks of a ViT, and the backbone has none", "leave it out; ViTs have")


def merged(tensors: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """The tensors of a model with adapters as those of one without: W + B A * alpha / rank. Needs no peft."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        stem = name.removesuffix("base_layer.weight")
        if stem != name:
            A, B = (tensors[f"{stem}lora_{part}.{_NAME}.weight"] for part in "AB")
            value = value + lora.alpha / lora.rank * (B @ A)
        if ".lora_" not in name:
            found[name.replace(".base_layer.", ".")] = value
    return found


def _matrices(f: Layered) -> list[str]:
    """Names of the linear layers in its blocks."""
    inside = {id(part) for block in f.regions() for part in block.modules()}
    return [name for name, part in f.named_modules() if isinstance(part, nn.Linear) and id(part) in inside]
