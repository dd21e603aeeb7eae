"""Classification models of torchvision, without their classifiers.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, P prefix tokens, D width.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raymix.method.backbones.base import Backbone, How
from raymix.method.backbones.grid import Made, grid_of
from raymix.method.backbones.patches import PatchVit
from raymix.spec import JobError, JobSpec, Torchvision

_TAKEN = {"image_size", "num_classes", "pretrained", "pretrained_backbone", "progress", "weights"}
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_REGNET = ("stem", "trunk_output")
_SWIN = ("features", "norm", "permute")
_FEATURES = ("features",)


class TorchvisionVit(PatchVit):
    """torchvision's VisionTransformer."""

    net: Any

    def __init__(self, net: Any, image_size: int) -> None:
        net.heads = nn.Identity()
        super().__init__(net, image_size, net.patch_size, net.hidden_dim, num_prefix=1)

    def embed(self, x_BCHW: Tensor) -> Tensor:
        """As `PatchVit.embed`."""
        return self.net.conv_proj(x_BCHW).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]

    def place(self, z_BLD: Tensor) -> Tensor:
        """As `PatchVit.place`."""
        token_B1D = self.net.class_token.expand(z_BLD.shape[0], -1, -1).to(z_BLD.dtype)
        placed: Tensor = torch.cat((token_B1D, z_BLD), 1) + self.net.encoder.pos_embedding
        return placed

    def parts(self) -> Iterable[nn.Module]:
        """The encoder's."""
        encoder = self.net.encoder
        return (encoder.dropout, *encoder.layers, encoder.ln)

    def regions(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.net.encoder.layers)


def build(spec: JobSpec, how: How) -> Backbone:
    """The model that a job names.

    Raises:
        JobError: torchvision does not know the model or its arguments.
    """
    asked, data = spec.backbone, spec.data
    assert isinstance(asked, Torchvision)
    _check(asked)
    pretrained = asked.pretrained and how.start
    net = _made(asked, data.image_size, pretrained, how)
    if data.num_channels != 3:
        _take_channels(net, data.num_channels)
    if asked.name.startswith("vit_"):
        return TorchvisionVit(net, data.image_size)
    made = Made(_body(net, asked.name), f"torchvision/{asked.name}", _call)
    return grid_of(made, data.image_size, data.num_channels)


def _check(asked: Torchvision) -> None:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if asked.name not in names:
        close = difflib.get_close_matches(asked.name, names, n=1, cutoff=0.6)
        hint = f"did you mean torchvision/{close[0]}?" if close else "torchvision.models.list_models() names them"
        raise JobError("backbone.name", f"torchvision has no model {asked.name}", hint)
    if taken := sorted(_TAKEN.intersection(asked.args)):
        raise JobError(f"backbone.args.{taken[0]}", "is not for a job to give", "leave it out")


def _made(asked: Torchvision, image_size: int, pretrained: bool, how: How) -> nn.Module:
    """The whole model. Its own stochastic depth is off unless it is asked for, as in timm."""
    import torchvision
    from torchvision.ops import StochasticDepth

    arguments = dict(asked.args)
    if asked.name.startswith("vit_"):
        patch = int(asked.name.rpartition("_")[2])
        # the grid of another size is refused in one line when the parts are put together
        arguments["image_size"] = max(1, image_size // patch) * patch
    try:
        with how.device():
            net: nn.Module = torchvision.models.get_model(asked.name, weights=None, **arguments)
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        problem = f"torchvision refuses them for {asked.name}: {' '.join(str(error).split())[:200]}"
        raise JobError("backbone.args", problem, "change them") from error
    if pretrained:
        net.load_state_dict(adapted(_fetched(asked.name), net))
    if "stochastic_depth_prob" not in asked.args:
        for layer in net.modules():
            if isinstance(layer, StochasticDepth):
                layer.p = 0.0
    return net


def _fetched(name: str) -> dict[str, Tensor]:
    """torchvision's own weights."""
    import torchvision

    try:
        best = torchvision.models.get_model_weights(name).DEFAULT
        tensors: dict[str, Tensor] = best.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        problem = f"torchvision cannot fetch them: {reason}"
        raise JobError("backbone.pretrained", problem, "give backbone.weights") from error
    return tensors


def _take_channels(net: nn.Module, num_channels: int) -> None:
    """Makes the first convolution take grey images as it would take them in three equal channels."""
    assert num_channels == 1
    conv = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    conv.weight = nn.Parameter(conv.weight.detach().sum(1, keepdim=True))
    conv.in_channels = num_channels


def _body(net: nn.Module, name: str) -> nn.Module:
    """What stands before the pooling."""
    for parts in (_RESNET, _REGNET, _SWIN, _FEATURES):
        if all(hasattr(net, part) for part in parts):
            body = nn.Sequential()
            for part in parts:
                body.add_module(part, getattr(net, part))
            return body
    raise JobError("backbone.name", f"raymix does not know the parts of torchvision/{name}", "take the one of timm")


def _call(net: nn.Module, x_BCHW: Tensor) -> Any:
    return net(x_BCHW)


def adapted(tensors: dict[str, Tensor], net: Any) -> Mapping[str, Tensor]:
    """Positions of a ViT for its image size."""
    if "encoder.pos_embedding" not in tensors or not hasattr(net, "encoder"):
        return tensors
    from torchvision.models.vision_transformer import interpolate_embeddings

    fitted: Mapping[str, Tensor] = interpolate_embeddings(net.image_size, net.patch_size, tensors)
    return fitted
