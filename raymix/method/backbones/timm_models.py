"""Models of timm (Wightman 2019, https://github.com/huggingface/pytorch-image-models), without their classifiers.

B batch, C channels, H W pixels a side, L patches (tokens) of an image, P prefix tokens, D width.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from raymix.method.backbones.base import Backbone, How
from raymix.method.backbones.grid import Made, grid_of
from raymix.method.backbones.patches import PatchVit
from raymix.spec import JobError, JobSpec, Timm

# set by raymix, unsafe (a pickle), or at odds with what a step asks for
_TAKEN = {
    "cache_dir",
    "checkpoint_path",
    "dynamic_img_pad",
    "dynamic_img_size",
    "features_only",
    "global_pool",
    "img_size",
    "in_chans",
    "num_classes",
    "patch_drop_rate",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
}


class TimmVit(PatchVit):
    """timm's VisionTransformer."""

    net: Any

    def __init__(self, net: Any, image_size: int) -> None:
        # the classifier pools tokens by itself
        net.attn_pool = None
        super().__init__(net, image_size, net.patch_embed.patch_size[0], net.embed_dim, net.num_prefix_tokens)

    def embed(self, x_BCHW: Tensor) -> Tensor:
        """As `PatchVit.embed`."""
        z_BLD: Tensor = self.net.patch_embed(x_BCHW)
        return z_BLD

    def place(self, z_BLD: Tensor) -> Tensor:
        """As `PatchVit.place`."""
        placed: Tensor = self.net._pos_embed(z_BLD)
        return placed

    def parts(self) -> Iterable[nn.Module]:
        """Blocks and norms; one of `norm` and `fc_norm` is the identity."""
        return (self.net.norm_pre, *self.net.blocks, self.net.norm, self.net.fc_norm)

    def regions(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.net.blocks)


def build(spec: JobSpec, how: How) -> Backbone:
    """The model that a job names.

    Raises:
        JobError: timm is missing, or does not know the model or its arguments.
    """
    asked, data = spec.backbone, spec.data
    assert isinstance(asked, Timm)
    net = _made(asked, data.image_size, data.num_channels, how)
    if _is_plain_vit(net):
        return TimmVit(net, data.image_size)
    return grid_of(Made(net, f"timm/{asked.name}", _features), data.image_size, data.num_channels)


def _made(asked: Timm, image_size: int, num_channels: int, how: How) -> nn.Module:
    if importlib.util.find_spec("timm") is None:
        raise JobError("backbone.type", "timm is not installed", "pip install 'raymix[timm]'")
    _check(asked)
    arguments: dict[str, Any] = {"in_chans": num_channels, "num_classes": 0, **asked.args}
    pretrained = asked.pretrained and how.start
    try:
        with how.device():
            return _created(asked.name, pretrained, image_size, arguments)
    except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
        problem = f"timm refuses {_shown(arguments)} for {asked.name}: {' '.join(str(error).split())[:200]}"
        raise JobError("backbone.args" if asked.args else "backbone.name", problem, "change them") from error
    except Exception as error:
        if not pretrained:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise JobError("backbone.pretrained", f"timm cannot fetch them: {reason}", "give backbone.weights") from error


def _created(name: str, pretrained: bool, image_size: int, arguments: dict[str, Any]) -> nn.Module:
    import timm

    try:
        net: nn.Module = timm.create_model(name, pretrained=pretrained, img_size=image_size, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        net = timm.create_model(name, pretrained=pretrained, **arguments)  # takes images of any size
    if "drop_path_rate" not in arguments:
        for layer in net.modules():
            if isinstance(layer, timm.layers.DropPath):
                layer.drop_prob = 0.0  # most models have none unless asked for, some (Swin) a tenth
    return net


def _check(asked: Timm) -> None:
    import timm

    if not timm.is_model(asked.name):
        close = difflib.get_close_matches(asked.name.split(".")[0], timm.list_models(), n=1, cutoff=0.6)
        hint = f"did you mean timm/{close[0]}?" if close else "timm.list_models() names them"
        raise JobError("backbone.name", f"timm has no model {asked.name}", hint)
    if asked.pretrained and not timm.models.is_model_pretrained(asked.name):
        raise JobError("backbone.pretrained", f"timm has no weights of {asked.name}", "set it to false")
    if taken := sorted(_TAKEN.intersection(asked.args)):
        raise JobError(f"backbone.args.{taken[0]}", "is not for a job to give", "leave it out")


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _is_plain_vit(net: Any) -> bool:
    """Whether the tokens of a ViT each see one patch, and nothing but its blocks follows."""
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    return (
        isinstance(net, VisionTransformer)
        and type(net).forward_features is VisionTransformer.forward_features
        and type(net.patch_embed) is PatchEmbed
        and net.patch_embed.patch_size[0] == net.patch_embed.patch_size[1]
    )


def _features(net: Any, x_BCHW: Tensor) -> Any:
    """The last features without prefix tokens; maps as (B, D, h, w)."""
    z = net.forward_features(x_BCHW)
    if not isinstance(z, Tensor):
        return z
    if z.ndim == 4 and getattr(net, "output_fmt", None) == "NHWC":
        return z.permute(0, 3, 1, 2)
    return z[:, getattr(net, "num_prefix_tokens", 0) :] if z.ndim == 3 else z


def adapted(tensors: dict[str, Tensor], net: Any) -> Mapping[str, Tensor]:
    """Positions and patches of a ViT for its image and patch size."""
    if not _is_plain_vit(net):
        return tensors
    from timm.models.vision_transformer import checkpoint_filter_fn

    fitted: Mapping[str, Tensor] = checkpoint_filter_fn(tensors, net)
    return fitted
