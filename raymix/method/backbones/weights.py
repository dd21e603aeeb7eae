"""Tensors of a file as those of a backbone: by raymix's own names, by the module's own, or by the library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from raymix.spec import JobError

FIELD = "backbone.weights"
BACKBONE, HEAD = "f.", "h."  # of raymix's model, as checkpoints and exports name its parts
_NET = "net."  # of a backbone that is another library's module


class Adapt(Protocol):
    """Changes tensors of a file so that they fit a network of another image or patch size."""

    def __call__(self, tensors: dict[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]: ...


class Matched(NamedTuple):
    """What a file has for a backbone."""

    tensors: dict[str, Tensor]  # named as in the backbone, of its shapes
    absent: tuple[str, ...]  # of the backbone, not in the file
    resized: tuple[str, ...]  # interpolated for another image or patch size


def as_they_are(tensors: dict[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]:
    """Changes nothing."""
    return tensors


def match(f: nn.Module, tensors: Mapping[str, Tensor], where: str, adapt: Adapt = as_they_are) -> Matched:
    """The tensors of `where` that a backbone takes; it may lack some, and have others (a head).

    Args:
        f: The backbone; may be on the meta device, its shapes alone count.
        tensors: By raymix's names (`f.` in front), by those of the backbone, or of the library's module within it.
        where: What they are of, for the line that refuses them.
        adapt: Of the kind of backbone; gets and gives names of the library's module, else of the backbone itself.

    Raises:
        JobError: nothing is of this backbone, or a tensor has another shape.
    """
    own: dict[str, Tensor] = f.state_dict()
    own_names = {name.removeprefix(BACKBONE): value for name, value in tensors.items() if name.startswith(BACKBONE)}
    named = own_names if own_names.keys() & own.keys() else dict(tensors)
    net = getattr(f, "net", None)
    if isinstance(net, nn.Module):
        if named.keys() & own.keys():
            named = {name.removeprefix(_NET): value for name, value in named.items() if name.startswith(_NET)}
        adapted = {_NET + name: value for name, value in adapt(named, net).items()}
        named = {_NET + name: value for name, value in named.items()}
    else:
        adapted = dict(adapt(named, f))
    found = {name: value for name, value in adapted.items() if name in own}
    if not found:
        problem = f"nothing in {where} is of this backbone: it holds {_few(tensors)}, the backbone {_few(own)}"
        raise JobError(FIELD, problem, "tensors must be named as raymix or the library names them")
    for name, value in found.items():
        if value.shape != own[name].shape:
            shown = name.removeprefix(_NET)
            problem = f"{shown} is {tuple(value.shape)} in {where} and {tuple(own[name].shape)} in the backbone"
            raise JobError(FIELD, problem, "it is of a model of another size, or for other data.channels")
    resized = tuple(name for name, value in found.items() if name in named and named[name].shape != value.shape)
    return Matched(found, tuple(name for name in own if name not in found), resized)


def _few(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:2]) + ", ..."
