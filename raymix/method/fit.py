"""Whether a job's backbone can do what its objective and schedule ask of it."""

from __future__ import annotations

from raymix.method import backbones, lora
from raymix.method.backbones import Backbone, Layered
from raymix.spec import (
    ARMS,
    Import,
    JobError,
    JobSpec,
    Mae,
    Plugin,
    Vit,
    check_decode_from,
    check_masks,
    nearest_size,
)


def check(spec: JobSpec, allow_import: tuple[str, ...] = ()) -> bool:
    """Makes the backbone without weights; returns whether it can leave patches out.

    Raises:
        JobError: it cannot be made, may not be imported, or does not fit the objective or the schedule.
    """
    f = backbones.outline(spec, allow_import)
    _check_drop_path(spec, f)
    if spec.optim.layer_decay < 1 and not isinstance(f, Layered):
        raise JobError("optim.layer_decay", f"{_name(spec)} has no blocks one above another", "leave it out; ViTs have")
    if spec.lora is not None:
        lora.check(f)
    if isinstance(spec.objective, Mae):
        _check_grid(spec, f)
        _check_decode_from(spec, f)
    if not f.drops:
        _check_full(spec)
    return f.drops


def _check_drop_path(spec: JobSpec, f: Backbone) -> None:
    """Blocks are skipped where raymix calls them one by one."""
    if isinstance(spec.backbone, Plugin | Import) or not spec.backbone.drop_path:
        return
    if not isinstance(f, Layered):
        raise JobError("backbone.drop_path", f"{_name(spec)} has no blocks to skip", "leave it out; ViTs have")
    if spec.backbone.type == "timm" and "drop_path_rate" in spec.backbone.args:
        raise JobError("backbone.args.drop_path_rate", "is there beside backbone.drop_path", "give one of the two")


def _check_decode_from(spec: JobSpec, f: Backbone) -> None:
    """MAE decodes from within the backbone where that can be had."""
    assert isinstance(spec.objective, Mae)
    if spec.objective.decode_from is None:
        return
    if not isinstance(f, Layered):
        problem = f"{_name(spec)} has no blocks that tokens can be taken from"
        raise JobError("objective.decode_from", problem, "leave it out; ViTs have")
    check_decode_from(spec, f.num_blocks)


def _check_grid(spec: JobSpec, f: Backbone) -> None:
    """MAE hides patches, so the tokens must be those of patches."""
    size, name = spec.data.image_size, _name(spec)
    if not f.patch:
        what = "one vector an image" if f.num_patches == 1 else f"{f.num_patches} tokens that are no grid over it"
        raise JobError("objective.type", f"mae hides patches of an image, and {name} gives {what}", "take simclr")
    if f.num_patches * f.patch**2 != size**2:
        problem = f"{size} is not divisible by {f.patch}, the stride of {name}, as mae needs it"
        raise JobError("data.image_size", problem, nearest_size(size, f.patch))
    if not isinstance(spec.backbone, Vit):
        check_masks(spec, f.num_patches, f"take a larger data.image_size: {name} has a token for {f.patch} pixels")


def _check_full(spec: JobSpec) -> None:
    """What needs a backbone that can leave patches out."""
    why = f"{_name(spec)} always computes all of an image"
    if isinstance(spec.objective, Mae) and spec.objective.ssl_pass == "masked":
        raise JobError("objective.ssl_pass", f"masked leaves patches out, and {why}", "auto or full; ViTs can")
    if spec.schedule.shared_pass == "masked":
        raise JobError("schedule.shared_pass", f"masked leaves patches out, and {why}", "auto, full or separate")
    if spec.schedule.whole_rows:
        raise JobError("schedule.whole_rows", f"is for masked passes, and {why}", "leave it out; ViTs can mask")
    if spec.schedule.sl_drop:
        raise JobError("schedule.sl_drop", f"needs patches that can be left out, and {why}", "leave it out; ViTs can")
    if "ssl_sl_drop" in spec.pilot.arms and spec.pilot.arms != ARMS:
        raise JobError("pilot.arms", f"ssl_sl_drop leaves patches out, and {why}", "leave it out; ViTs can")


def _name(spec: JobSpec) -> str:
    asked = spec.backbone
    if asked.type == "import":
        return asked.factory
    return asked.type if isinstance(asked, Vit) else f"{asked.type}/{asked.name}"
