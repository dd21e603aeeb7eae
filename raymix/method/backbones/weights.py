"""Weights of a library's model from a local safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raymix.spec import JobError

FIELD = "backbone.weights"


class Adapt(Protocol):
    """Changes tensors of a file so that they fit a network of another image or patch size."""

    def __call__(self, tensors: dict[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]: ...


def as_they_are(tensors: dict[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]:
    """Changes nothing."""
    return tensors


def load(net: nn.Module, file: str, adapt: Adapt = as_they_are) -> None:
    """Puts the tensors of a file into the network, by name; the network may lack some (a head), and the file too.

    Raises:
        JobError: the file cannot be read, holds nothing of that network, or a tensor of another shape.
    """
    path = Path(file).expanduser()
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        problem = "no such file" if not path.exists() else f"cannot be read: {' '.join(str(error).split())[:120]}"
        raise JobError(FIELD, f"{file}: {problem}", "name a .safetensors file") from None
    own = net.state_dict()
    found = {name: value for name, value in adapt(tensors, net).items() if name in own}
    if not found:
        problem = f"nothing in {file} is of this backbone: it holds {_few(tensors)}, the backbone {_few(own)}"
        raise JobError(FIELD, problem, "tensors must be named as the library names them")
    for name, value in found.items():
        if value.shape != own[name].shape:
            problem = f"{name} is {tuple(value.shape)} in {file} and {tuple(own[name].shape)} in the backbone"
            raise JobError(FIELD, problem, "it is of a model of another size, or for other data.channels")
    if not any(value.is_meta for value in own.values()):
        net.load_state_dict(found, strict=False)


def _few(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:2]) + ", ..."
