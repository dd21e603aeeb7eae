"""Any network as a backbone: what it gives is found out by one pass without weights.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, S tokens a side, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raymix.method.backbones.base import Backbone
from raymix.method.draw import Key
from raymix.spec import JobError

Features = Callable[[nn.Module, Tensor], Any]
_FURTHER = 1024  # pixels by which an image is enlarged to count the tokens of so many more


class Made(NamedTuple):
    """A network and how it is called."""

    net: nn.Module
    name: str  # in words
    features: Features  # of (net, images): (B, L, D), (B, D, h, w) or (B, D)


class Found(NamedTuple):
    """What a network gives."""

    width: int
    num_patches: int
    patch: int  # 0: no grid
    idle: frozenset[str]  # parameters that a pass does not reach, as those of a head's norm


class Grid(Backbone):
    """A network as it is. All of the image is computed; pixels of hidden patches are replaced by the token."""

    def __init__(self, made: Made, image_size: int, num_channels: int) -> None:
        super().__init__()
        self.net, self.features = made.net, made.features
        found = find(made, image_size, num_channels)
        self.width, self.num_patches, self.patch = found.width, found.num_patches, found.patch
        self.drops, self.token_shape = False, (1, num_channels, 1, 1)
        for name, parameter in self.net.named_parameters():
            if name in found.idle:
                parameter.requires_grad_(False)

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
        key_B: Key | None = None,
    ) -> Tensor:
        """As `Backbone.forward`; nothing is drawn with the key."""
        assert keep_BK is None, "it cannot leave patches out"
        if hidden_BL is not None and token is not None:
            x_BCHW = self._hide(x_BCHW, hidden_BL, token)
        return tokens(self.features(self.net, x_BCHW))

    def regions(self) -> list[nn.Module]:
        """Modules of one class that follow one another, the innermost of them."""
        return list(_repeated(self.net))

    def _hide(self, x_BCHW: Tensor, hidden_BL: Tensor, token: Tensor) -> Tensor:
        S = math.isqrt(self.num_patches)
        hidden_B1SS = hidden_BL.view(-1, 1, S, S)
        hidden_B1HW = hidden_B1SS.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return torch.where(hidden_B1HW, token.to(x_BCHW.dtype), x_BCHW)


def grid_of(made: Made, image_size: int, num_channels: int) -> Grid:
    """A library's network as a backbone.

    Raises:
        JobError: it gives something else than tokens, a map or a vector, or does not take such images.
    """
    try:
        return Grid(made, image_size, num_channels)
    except JobError:
        raise
    except Exception as error:
        problem = f"{made.name} does not take images of {image_size} px: {' '.join(str(error).split())[:200]}"
        raise JobError("data.image_size", problem, "change it, or take another model") from error


def tokens(z: Tensor) -> Tensor:
    """A map (B, D, h, w), tokens (B, L, D) or a vector (B, D) as tokens (B, L, D)."""
    if z.ndim == 4:
        return z.flatten(2).transpose(1, 2)
    return z[:, None] if z.ndim == 2 else z


def find(made: Made, image_size: int, num_channels: int) -> Found:
    """What a network gives of images of that size, and which of its parameters take no part in it.

    Raises:
        JobError: it gives something else than tokens, a map or a vector.
    """
    x_BCHW = torch.zeros(2, num_channels, image_size, image_size)
    with torch.random.fork_rng(devices=[]):
        try:
            z, idle = _pass(made, x_BCHW, torch.device("meta"))
        except Exception:  # some networks hold tensors that are neither parameters nor buffers
            z, idle = _pass(made, x_BCHW, next(made.net.parameters()).device)
    if not isinstance(z, Tensor) or z.ndim not in (2, 3, 4) or z.shape[0] != x_BCHW.shape[0]:
        given = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        problem = f"{made.name} gives {given} of 2 images, not (2, L, D), (2, D, h, w) or (2, D)"
        raise JobError("backbone.type", problem, "take another model")
    _, L, D = tokens(z).shape
    return Found(D, L, _patch(made, z, image_size, num_channels), idle)


class _Call(nn.Module):
    """A network under the function that calls it, for `functional_call`."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.net, self.features = made.net, made.features

    def forward(self, x_BCHW: Tensor) -> Any:
        return self.features(self.net, x_BCHW)


def _pass(made: Made, x_BCHW: Tensor, device: torch.device) -> tuple[Any, frozenset[str]]:
    """What the network gives on a device, and the parameters without a gradient; the network is not changed."""
    call = _Call(made)
    parameters = {name: _copy(p, device).requires_grad_() for name, p in call.named_parameters()}
    buffers = {name: _copy(b, device) for name, b in call.named_buffers()}
    z = functional_call(call, {**parameters, **buffers}, (x_BCHW.to(device),))
    if not isinstance(z, Tensor) or not z.requires_grad:
        return z, frozenset()
    gradients = torch.autograd.grad(z.sum(), list(parameters.values()), allow_unused=True)
    idle = (name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None)
    return z, frozenset(name.removeprefix("net.") for name in idle)


def _copy(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "meta":
        return torch.empty_like(tensor, device=device, requires_grad=False)
    return tensor.detach().clone()


def _patch(made: Made, z: Tensor, image_size: int, num_channels: int) -> int:
    """Pixels a side of what a token stands for; 0: there is no square grid of tokens."""
    if z.ndim == 2:
        return 0
    side = z.shape[2] if z.ndim == 4 else math.isqrt(z.shape[1])
    if side * side != tokens(z).shape[1]:
        return 0
    if z.ndim == 4:
        # 2 x 2 tokens of 36 pixels may stand for 32 each, the last for what is left: more pixels tell
        larger = image_size + _FURTHER
        try:
            more, _ = _pass(made, torch.zeros(2, num_channels, larger, larger), torch.device("meta"))
        except Exception:  # it is made for images of one size
            more = z
        further = more.shape[2] - side
        if further > 0 and _FURTHER % further == 0:
            return int(_FURTHER // further)
    return 0 if image_size % side else image_size // side


def _repeated(module: nn.Module) -> Iterator[nn.Module]:
    """The innermost modules with parts of their own that stand beside others of their class in a list or sequence."""
    for child in module.children():
        if inner := list(_repeated(child)):
            yield from inner
        elif isinstance(module, nn.Sequential | nn.ModuleList) and _is_block(child):
            beside = sum(type(other) is type(child) for other in module)
            if beside > 1:
                yield child


def _is_block(module: nn.Module) -> bool:
    lists = nn.Sequential | nn.ModuleList | nn.ModuleDict
    return not isinstance(module, lists) and any(True for _ in module.children())
