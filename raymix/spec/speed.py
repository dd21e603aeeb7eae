"""How the steps are computed: nothing here changes what is computed, beyond rounding."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from raymix.spec.base import Section


def _off(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


class Speed(Section):
    """Compilation, replay, memory layout, and memory for time."""

    compile: Annotated[Literal["auto", "off", "default", "max"], BeforeValidator(_off)] = Field(
        "auto",
        description="default: the repeated blocks are compiled once each; max: their matrix products are tuned too, "
        "which takes minutes at the start; auto: default on a GPU, off on a CPU",
    )
    replay: Literal["auto"] | bool = Field(
        "auto",
        description="each step kind is recorded once as a CUDA graph and replayed; auto: on a GPU where one worker "
        "trains, off among several",
    )
    recompute: bool = Field(
        False, description="activation checkpointing: blocks are computed again in the backward pass, to save memory"
    )
    channels_last: Literal["auto"] | bool = Field(
        "auto", description="convolutions in channels-last layout; auto: on a GPU"
    )
