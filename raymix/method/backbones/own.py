"""Backbones that others make: an installed package's entry point, or a factory that the user allowed to be imported.

Both are called `factory(image_size=..., num_channels=..., **args)` and return an nn.Module that gives (B, L, D),
(B, D, h, w) or (B, D) of images (B, C, H, W). One with the attributes `patch` and `num_patches`, whose forward takes
`keep` (B, K), gives the tokens (B, K, D) of these patches alone, and so can leave patches out.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from torch import Tensor, nn

from raymix.method.backbones.base import Backbone, How
from raymix.method.backbones.grid import Grid, Made
from raymix.method.draw import Key
from raymix.spec import Import, JobError, JobSpec, Plugin

GROUP = "raymix.backbones"


class KeepingGrid(Grid):
    """A network that can leave patches out."""

    def __init__(self, made: Made, image_size: int, num_channels: int) -> None:
        super().__init__(made, image_size, num_channels)
        told = int(made.net.num_patches), int(made.net.patch)  # type: ignore[arg-type]
        if told[0] != self.num_patches:
            problem = f"{made.name} gives {self.num_patches} tokens and says that num_patches is {told[0]}"
            raise JobError("backbone.type", problem, "leave prefix tokens out of what forward returns")
        self.patch, self.drops = told[1], True

    def forward(
        self,
        x_BCHW: Tensor,
        keep_BK: Tensor | None = None,
        hidden_BL: Tensor | None = None,
        token: Tensor | None = None,
        key_B: Key | None = None,
    ) -> Tensor:
        """As `Backbone.forward`."""
        if keep_BK is None:
            return super().forward(x_BCHW, None, hidden_BL, token, key_B)
        z_BKD: Tensor = self.net(x_BCHW, keep=keep_BK)
        return z_BKD


def build_plugin(spec: JobSpec, how: How) -> Backbone:
    """The backbone of an installed entry point.

    Raises:
        JobError: there is none of that name.
    """
    asked = spec.backbone
    assert isinstance(asked, Plugin)
    installed = entry_points(group=GROUP)
    if asked.name not in installed.names:
        close = difflib.get_close_matches(asked.name, installed.names, n=1, cutoff=0.6)
        known = f"installed: {', '.join(sorted(installed.names))}" if installed.names else "none is installed"
        hint = f"did you mean {close[0]}?" if close else known
        raise JobError("backbone.name", f"no package offers {asked.name} as entry point of {GROUP}", hint)
    return _built(installed[asked.name].load(), asked.name, asked.args, spec, how)


def build_import(spec: JobSpec, how: How) -> Backbone:
    """The backbone of a factory that was allowed.

    Raises:
        JobError: it was not, or cannot be imported.
    """
    asked = spec.backbone
    assert isinstance(asked, Import)
    if asked.factory not in how.allow_import:
        problem = f"{asked.factory} is code that no job may run by itself"
        hint = f"add --allow-import {asked.factory}; in Python allow_import=('{asked.factory}',)"
        raise JobError("backbone.factory", problem, hint)
    return _built(_imported(asked.factory), asked.factory, asked.args, spec, how)


def _imported(path: str) -> Callable[..., Any]:
    name, _, attribute = path.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the command does not have it there; Ray gives it to the workers
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(name), attribute)
    except ImportError as error:
        problem = f"{name} cannot be imported: {error}"
        raise JobError("backbone.factory", problem, "call raymix in its folder; workers need it too") from error
    except AttributeError:
        raise JobError("backbone.factory", f"{name} has no {attribute}", "package.module:factory") from None
    return factory


def _built(factory: Callable[..., Any], name: str, args: dict[str, Any], spec: JobSpec, how: How) -> Backbone:
    size, channels = spec.data.image_size, spec.data.num_channels
    with how.device():
        net = factory(image_size=size, num_channels=channels, **args)
    if not isinstance(net, nn.Module):
        raise JobError("backbone.type", f"{name} makes a {type(net).__name__}", "it must make a torch.nn.Module")
    keeps = (
        hasattr(net, "patch") and hasattr(net, "num_patches") and "keep" in inspect.signature(net.forward).parameters
    )
    return (KeepingGrid if keeps else Grid)(Made(net, name, _call), size, channels)


def _call(net: nn.Module, x_BCHW: Tensor) -> Any:
    return net(x_BCHW)
