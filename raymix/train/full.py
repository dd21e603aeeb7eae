"""The device's memory is full: one line that says what was asked for and which batch would fit."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator

import torch

from raymix.data.splits import Splits
from raymix.method.backbones import How
from raymix.plan import Plan
from raymix.report import words
from raymix.train import batch
from raymix.train.device import name_of
from raymix.train.runtime import Runtime

# torch's own allocator raises OutOfMemoryError; cuBLAS and whoever asks CUDA itself say it in words of their own
_SAID = re.compile(r"out of memory|ALLOC_FAILED|DefaultCPUAllocator: (can't|not enough)", re.IGNORECASE)
_ASKED = re.compile(r"[Tt]ried to allocate ([\d.]+ \w+)")
_CLOSER = 3  # batches tried between one that fits and one that does not


class DeviceFull(MemoryError):  # noqa: N818 (it is what happened)
    """A step does not fit into the device's memory; the message is one line."""


def said(error: BaseException) -> str | None:
    """What an allocator said, where it is what an error came of; None: something else went wrong."""
    for cause in _causes(error):
        if isinstance(cause, torch.OutOfMemoryError) or (isinstance(cause, RuntimeError) and _SAID.search(str(cause))):
            return " ".join(str(cause).split())
    return None


def explain(told: str, plan: Plan, splits: Splits, runtime: Runtime, how: How) -> str:
    """The line, once what the failed step held was let go.

    Smaller batches are tried where there is one worker. Of several, those that did not fail still wait for this one.
    """
    asked, spec = _ASKED.search(told), plan.spec
    amount = f", which asked for {asked[1]} more" if asked else ""
    line = (
        f"optim.batch: {words.count(spec.batch)} images a step do not fit into the memory of {name_of(runtime.device)}"
    )
    if runtime.world > 1:
        hint = f"try {max(_unit(plan, runtime), _rounded(plan, runtime, spec.batch // 2))}"
    else:
        fits = fitting(plan, splits, runtime, how)
        hint = f"{words.count(fits)} would fit: set optim.batch={fits}" if fits else "nor does any smaller batch"
    less = f"optim.accumulate={2 * spec.optim.accumulate}"
    return f"{line}{amount}; {hint}, or {less}" + ("" if spec.speed.recompute else " or speed.recompute=true")


def fitting(plan: Plan, splits: Splits, runtime: Runtime, how: How) -> int | None:
    """About the largest batch below the plan's of which every step kind fits; None: none does.

    Halved until one fits, then a few are tried between that and the last that did not. Nothing is compiled for it, and
    compiled steps take less.
    """
    fits, fails = 0, plan.spec.batch
    while not fits:
        number = _rounded(plan, runtime, fails // 2)
        if not number:
            return None
        if batch.fits(plan, splits, runtime, how, number):
            fits = number
        else:
            fails = number
    for _ in range(_CLOSER):
        number = _rounded(plan, runtime, (fits + fails) // 2)
        if number <= fits:
            break
        if batch.fits(plan, splits, runtime, how, number):
            fits = number
        else:
            fails = number
    return fits


def let_go(device: torch.device) -> None:
    """Gives the memory of what is not held any more back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unit(plan: Plan, runtime: Runtime) -> int:
    return runtime.world * plan.spec.optim.accumulate


def _rounded(plan: Plan, runtime: Runtime, number: int) -> int:
    """A batch that all workers and parts share evenly."""
    unit = _unit(plan, runtime)
    return number // unit * unit
