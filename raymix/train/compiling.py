"""What `speed` asks for before the first step: memory layout, compiled regions, recomputation."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from raymix.method.steps import Model
from raymix.method.views import Augment
from raymix.spec.speed import Speed

# Each distinct shape of a block is an entry: visible patches in ssl and mix steps, all patches, the decoder. Beyond
# the limit torch would go on uncompiled without a word.
_ENTRIES = 64
# Under autocast every weight is copied to bf16 and every gradient back, a kernel each: at small batches a third of what
# a step launches. Merged, a block's copies are one kernel (8 to 10 % of a step of ViT-Tiny at batch 256 on an H100).
_MERGED = {"combo_kernels": True}
_TUNED = {"max_autotune": True, "coordinate_descent_tuning": True}  # torch's mode "max-autotune-no-cudagraphs"


def begin(device: torch.device) -> None:
    """Compiles next to nothing, in a thread: torch's compiler and its processes take seconds to start.

    They do so while images are read, not when the first block waits for them.
    """

    def compile_little() -> None:
        torch.cuda.set_device(device)
        torch.compile(torch.square)(torch.ones(8, device=device))

    threading.Thread(target=compile_little, name="raymix-compiler", daemon=True).start()


def lay_out(speed: Speed, model: Model, device: torch.device) -> None:
    """Puts kernels of convolutions into the layout that they are trained in.

    Before the optimizer is made: on GPUs its fused step wants moments that lie as their weights do.
    """
    if speed.channels_last == "on" or (speed.channels_last == "auto" and device.type == "cuda"):
        model.f.to(memory_format=torch.channels_last)


def apply(speed: Speed, model: Model, device: torch.device, world: int) -> None:
    """Prepares a model that is about to be trained on so many ranks. Its parameters stay where they are."""
    if world > 1 and device.type == "cuda":  # torch has it for GPUs alone: on CPUs each worker normalises its own rows
        model.f = _synchronised(model.f)
    regions = [*model.f.regions(), *model.g.regions()]
    if speed.recompute:
        for region in regions:
            _recompute(region)
    mode = mode_of(speed, device)
    if mode == "off":
        return
    torch._dynamo.config.recompile_limit = _ENTRIES
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    options = {**_TUNED, **_MERGED} if mode == "max" else _MERGED
    pieces: list[tuple[nn.Module, str]] = [(region, "forward") for region in regions]
    pieces += [(module, "change") for module in model.modules() if isinstance(module, Augment)]
    pieces += [(owner, name) for owner in (model.f, model.g) for name in owner.pieces(mode == "max")]
    for module, name in pieces:
        setattr(module, name, torch.compile(getattr(module, name), dynamic=False, options=dict(options)))


def forget(device: torch.device) -> None:
    """Gives back the GPU memory of the last task's model: compiled methods hold it in cycles, with its graphs."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def mode_of(speed: Speed, device: torch.device) -> str:
    """off, default or max."""
    return speed.compile if speed.compile != "auto" else "default" if device.type == "cuda" else "off"


@contextmanager
def eager() -> Iterator[None]:
    """What runs inside is not compiled: evaluation has other batch sizes, too few to pay for a compilation."""
    with torch.compiler.set_stance("force_eager"):
        yield


def draws(module: nn.Module) -> bool:
    """Whether it draws from torch's generator, as dropout and drop path do; raymix's own parts never do."""
    return any(getattr(part, "p", 0) or getattr(part, "drop_prob", 0) for part in module.modules())


def _synchronised(backbone: Any) -> Any:
    """BatchNorm over all ranks. timm's own layers hold an activation, which torch's converter would drop."""
    if any(type(module).__module__.startswith("timm.") for module in backbone.modules()):
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(backbone)
    return nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # type: ignore[no-untyped-call]


def _recompute(region: nn.Module) -> None:
    """Keeps a region's input alone for the backward pass (Chen et al. 2016, arXiv 1604.06174)."""
    forward = region.forward

    @functools.wraps(forward)
    def again(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=keeps_rng, **kwargs)

    keeps_rng = draws(region)
    region.forward = again
