"""Which backbone is trained: raymix's own, one of a library, an installed plugin's, or the user's own module.

`timm/<name>`, as the whole section or as its type, is short for `{type: timm, name: <name>}`; likewise torchvision.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from raymix.spec.base import Folder, JobError, Section, Share

LIBRARIES = ("timm", "torchvision")
# no slash or colon, by which timm names models of its hub and folders that hold a configuration of their own
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=200)]


_SECRETS = ("token", "auth_token", "access_token", "api_key", "password", "secret")


# width, depth, heads (Dosovitskiy et al. 2021 and Touvron et al. 2021; nano is for digits and tests)
VIT_SIZES = {"nano": (64, 4, 4), "tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}


DropPath = Annotated[
    Share,
    Field(
        lt=1,
        description="probability that a row skips the last block while training, growing linearly from 0 at the first "
        "(stochastic depth, arXiv 1603.09382); vit: each of its two branches by itself; 0: none is skipped",
    ),
]


class _Startable(Section):
    """A backbone that may start from weights that there are."""

    weights: Folder | None = Field(
        None,
        description="to start from: the folder of a run with the same backbone (its newest whole checkpoint, averaged "
        "weights where that run's evaluate.weights is ema), one that raymix export --format safetensors wrote, either "
        "on a disk or as s3://bucket/prefix/NAME, or a .safetensors file with the names of raymix or of the library; "
        "what a file lacks stays random",
    )
    weights_head: bool = Field(
        False, description="the classifier, too: of a run or an export whose classes are this job's, in their order"
    )

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        if self.weights_head and self.weights is None:
            raise JobError("backbone.weights_head", "there are no backbone.weights to take it from", "name a run")
        if self.weights is not None and "://" in self.weights and not self.weights.startswith("s3://"):
            problem = f"{self.weights} is no folder or file that each worker can open"
            raise JobError("backbone.weights", problem, "copy it to one, or name a run in an s3:// bucket")
        return self


class Vit(_Startable):
    """raymix's own Vision Transformer."""

    type: Literal["vit"] = "vit"
    size: Literal["nano", "tiny", "small", "base"] = Field(
        "tiny", description="nano 64x4 (wide x deep), tiny 192x12, small 384x12, base 768x12"
    )
    patch: int = Field(8, ge=1, description="pixels a side of a patch")
    drop_path: DropPath = 0.0


class _WithArgs(_Startable):
    """A backbone that something else makes, from arguments."""

    args: dict[str, Any] = Field(
        {}, description="further arguments: text, numbers, true, false, null, or lists of these"
    )

    @model_validator(mode="after")
    def _check_args(self) -> Self:
        for name, value in self.args.items():
            if name.lower() in _SECRETS and isinstance(value, str):
                problem = "is a secret, and a job is kept and shown"
                raise JobError(f"backbone.args.{name}", problem, "let the factory read it from the environment")
            values = value if isinstance(value, list | tuple) else [value]
            if not all(part is None or isinstance(part, str | int | float) for part in values):
                problem = "must be text, a number, true, false, null or a list of these"
                raise JobError(f"backbone.args.{name}", problem, "a factory of your own can make anything else of it")
        return self


class _OfLibrary(_WithArgs):
    """A model of a library, without its classifier."""

    name: ModelName = Field(description="as the library names it")
    pretrained: bool = Field(False, description="start from the library's own weights, which it downloads")
    drop_path: DropPath = 0.0

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise JobError("backbone.weights", "contradicts backbone.pretrained", "give one of them")
        return self


class Timm(_OfLibrary):
    """A model of timm (`pip install 'raymix[timm]'`), as `timm.create_model(name, **args)` makes it."""

    type: Literal["timm"]


class Torchvision(_OfLibrary):
    """A classification model of torchvision, as `torchvision.models.get_model(name, **args)` makes it."""

    type: Literal["torchvision"]


class Plugin(_WithArgs):
    """A backbone of an installed package: an entry point of the group `raymix.backbones`."""

    type: Literal["plugin"]
    name: ModelName = Field(description="of the entry point")


class Import(_WithArgs):
    """A module of your own; every command must be told that it may run: `--allow-import package.module:factory`."""

    type: Literal["import"]
    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = Field(
        description="package.module:factory, called as factory(image_size=, num_channels=, **args)"
    )


def long_form(value: Any) -> Any:
    """The backbone's section with nothing in short form left; what is no section is returned as it is."""
    if isinstance(value, str):
        value = {"type": value}
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        library, slash, name = value["type"].partition("/")
        if slash and library in LIBRARIES:
            return {**value, "type": library, "name": name}
    return value


_Backbone = Annotated[Vit | Timm | Torchvision | Plugin | Import, Field(discriminator="type")]
Backbone = Annotated[
    Vit | Timm | Torchvision | Plugin | Import,
    Field(discriminator="type"),
    BeforeValidator(long_form, json_schema_input_type=_Backbone | str),
]
