"""Runs of a backbone in which something goes wrong, on digits of which one may be white."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from small_runs import Digits, Watcher

from raymix.report.history import Rates
from raymix.train.execute import execute
from raymix.train.task import Outcome, Task
from tests.planted import FACTORY

PLAIN: dict[str, Any] = {"crop": [1, 1], "flip": False}  # what is planted stays what it is


def whitened(digits: Digits, row: int) -> Digits:
    """The same digits, but for one that is white all over."""
    pixels = digits.images.pixels.copy()
    pixels[digits.images.slots[row]] = 255
    return replace(digits, images=replace(digits.images, pixels=pixels))


def run(
    digits: Digits, folder: Path | None, steps: int = 4, stop_after: int | None = None, watcher: Watcher | None = None
) -> tuple[Outcome, Watcher]:
    """As `Digits.run`, with the factory allowed; `steps` a segment."""
    runtime = digits.runtime(stop_after)
    if watcher is not None:
        watcher.runtime, runtime.sink = runtime, watcher
    rates: Rates = digits.rates(steps)
    task = Task("digits", digits.plan, digits.splits, rates, str(folder) if folder else None, allow_import=(FACTORY,))
    outcome = execute(task, runtime)
    assert isinstance(runtime.sink, Watcher)
    return outcome, runtime.sink
