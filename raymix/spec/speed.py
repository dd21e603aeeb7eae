"""How the steps are computed: nothing here changes what is computed, beyond rounding."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from raymix.spec.base import Section


def _word(value: Any) -> Any:
    """YAML may read a bare `off` as false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_word)]


class Speed(Section):
    """Compilation, replay, memory layout, memory or exactness for time."""

    compile: Annotated[Literal["auto", "off", "default", "max"], BeforeValidator(_word)] = Field(
        "auto",
        description="default: repeated blocks, augmentation and MAE's loss are compiled, each shape once; max: also "
        "what stands between them, and matrix products are tuned, which takes minutes at the first start on a machine; "
        "auto: default on a GPU, off on a CPU",
    )
    replay: Switch = Field(
        "auto", description="each step kind is recorded once as a CUDA graph and replayed; auto: on a GPU"
    )
    recompute: bool = Field(
        False, description="activation checkpointing: blocks are computed again in the backward pass, to save memory"
    )
    deterministic: bool = Field(
        False,
        description="on a GPU: kernels that give the same bits each time, so that an interrupted run ends as the "
        "unbroken one does, as on a CPU; an operation that has none is refused when it is met",
    )
    channels_last: Switch = Field("auto", description="convolutions in channels-last layout; auto: on a GPU")
