"""`raymix bench loop`: images a second of raymix's own training loop over those of a plain PyTorch loop.

Both train in short slices by turns, so that whatever else the machine does falls on both alike; the one that goes first
changes from slice to slice. The ratio of a pair is plain seconds over raymix seconds for the same steps. On a GPU the
plain loop is compiled as a whole and replayed as a CUDA graph, unless it is asked for as it is written (eager).
"""

from __future__ import annotations

import json
import math
import statistics
import time
from typing import NamedTuple, Protocol

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from raymix.bench import chips
from raymix.bench.setting import KINDS, Dataset, RaymixLoop, job, plain_loop
from raymix.plan import Kind
from raymix.spec import JobError, JobSpec
from raymix.train.device import name_of
from raymix.train.execute import set_up_process
from raymix.train.measure import synchronise

WINDOW_SECONDS = {"cuda": 4.0, "cpu": 3.0}
# of a window; each is a run of its own to raymix, with a plan and a feed, which costs it a little more than a run would
SLICES = {"cuda": 2, "cpu": 8}
CPU_THREADS = 2


class _Loop(Protocol):
    def run(self, steps: int) -> float: ...


class Pair(NamedTuple):
    """Seconds of two windows of the same steps, slice by slice in turns."""

    raymix: float
    plain: float


def main(windows: int = 5, json_out: bool = False, device: str = "auto", plain: str = "auto") -> None:
    """Measures and prints, as JSON or as a table.

    Raises:
        JobError: there is no such device here, or no such plain loop.
    """
    where = device_named(device)
    fast = is_fast(plain, where)
    before = torch.get_num_threads()
    set_up_process(where, CPU_THREADS if where.type == "cpu" else before)
    try:
        result = measure(job(where), where, windows, WINDOW_SECONDS[where.type], fast)
    finally:
        torch.set_num_threads(before)
    if json_out:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print(result)


def measure(
    spec: JobSpec, device: torch.device, windows: int, window_seconds: float, fast: bool = False
) -> dict[str, object]:
    """Both loops on every step kind, as `--json` prints it; `fast`: the plain one is compiled and replayed."""
    data = Dataset(spec, num_rows=9000 if device.type == "cuda" else 2000)
    kinds: dict[str, object] = {}
    ratios: list[float] = []
    for kind in KINDS:
        pairs, steps, mine, other = _pairs(spec, kind, data, device, windows, window_seconds, fast)
        kinds[kind] = {
            **_summary(pairs, steps, spec.batch),
            "raymix_memory_bytes": mine or None,
            "plain_memory_bytes": other or None,
            "memory_ratio": mine / other if other else None,
        }
        ratios += [pair.plain / pair.raymix for pair in pairs]
    return {
        "ratio": statistics.median(ratios),
        "kinds": kinds,
        "plain": "compiled" if fast else "eager",
        "windows": windows,
        "device": device.type,
        "device_name": name_of(device),
        "batch": spec.batch,
        "model": _model(spec),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _pairs(
    spec: JobSpec, kind: Kind, data: Dataset, device: torch.device, windows: int, window_seconds: float, fast: bool
) -> tuple[list[Pair], int, int, int]:
    """The windows of one kind in pairs, the steps of each, and the bytes of GPU memory that each loop took."""
    with chips.memory_taken(device) as mine:
        raymix = RaymixLoop(spec, kind, data, device)
        steps = max(2, math.ceil(window_seconds / raymix.step_seconds))
        _seconds(raymix, max(2, steps // 4), device)  # warms caches and allocators up
    with chips.memory_taken(device) as other:
        plain = plain_loop(spec, kind, data, device, fast)
        _seconds(plain, max(2, steps // 4), device)
    pairs = [_window(raymix, plain, steps, window % 2 == 1, device) for window in range(windows)]
    return pairs, steps, mine.bytes, other.bytes


def _window(raymix: _Loop, plain: _Loop, steps: int, swap: bool, device: torch.device) -> Pair:
    """One window of each, cut into slices that take turns: the noise of a host changes within a second."""
    spent = {raymix: 0.0, plain: 0.0}
    done = 0
    slices = SLICES[device.type]
    for part in range(slices):
        share = round((part + 1) * steps / slices) - done
        done += share
        order = (raymix, plain) if (part % 2 == 0) != swap else (plain, raymix)
        for loop in order if share else ():
            spent[loop] += _seconds(loop, share, device)
    return Pair(raymix=spent[raymix], plain=spent[plain])


def _seconds(loop: _Loop, steps: int, device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    loop.run(steps)
    synchronise(device)
    return time.perf_counter() - started


def _summary(pairs: list[Pair], steps: int, batch: int) -> dict[str, object]:
    raymix = statistics.median(pair.raymix for pair in pairs) / steps
    plain = statistics.median(pair.plain for pair in pairs) / steps
    ratios = [pair.plain / pair.raymix for pair in pairs]
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "raymix_images_per_second": batch / raymix,
        "plain_images_per_second": batch / plain,
        "raymix_t_ms": 1000 * raymix,
        "plain_t_ms": 1000 * plain,
        "steps": steps,
    }


def is_fast(plain: str, device: torch.device) -> bool:
    """Whether the plain loop is compiled and, on a GPU, recorded: `compiled`, `eager`, or `auto`: on a GPU.

    Raises:
        JobError: there is no such plain loop.
    """
    if plain not in ("auto", "compiled", "eager"):
        raise JobError("--plain", f"{plain} is none of auto, compiled, eager")
    return device.type == "cuda" if plain == "auto" else plain == "compiled"


def device_named(name: str) -> torch.device:
    """cpu, cuda, or auto: a GPU where there is one.

    Raises:
        JobError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise JobError("--device", f"{name} is none of cpu, cuda, auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise JobError("--device", "no GPU that torch can use here", "take cpu")
    return torch.device("cuda", 0) if name == "cuda" else torch.device("cpu")


def _model(spec: JobSpec) -> str:
    backbone, mae = spec.backbone, spec.objective
    assert backbone.type == "vit"
    assert mae.type == "mae"
    size, decoder = spec.data.image_size, f"{mae.decoder_width}x{mae.decoder_depth}"
    return f"ViT-{backbone.size.capitalize()}, {size} px, patch {backbone.patch}, MAE decoder {decoder}"


def _print(result: dict[str, object]) -> None:
    head = ("step", "images/s", "plain images/s", "ms", "plain ms", "ratio", "memory ratio")
    table = Table(*head, box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    kinds = result["kinds"]
    assert isinstance(kinds, dict)
    for kind, row in kinds.items():
        table.add_row(
            kind,
            f"{row['raymix_images_per_second']:,.0f}",
            f"{row['plain_images_per_second']:,.0f}",
            f"{row['raymix_t_ms']:.2f}",
            f"{row['plain_t_ms']:.2f}",
            f"{row['ratio']:.3f}",
            "" if row["memory_ratio"] is None else f"{row['memory_ratio']:.3f}",
        )
    console = Console(highlight=False)
    console.print(table)
    threads = "" if result["device"] == "cuda" else f", threads: {result['threads']}"
    console.print(
        f"raymix's loop runs at {result['ratio']:.3f} of the speed of a plain PyTorch loop that takes as many steps "
        f"with the same model ({result['model']}), augmentation, fused AdamW and precision, batch {result['batch']}, "
        f"images in memory, the plain one {result['plain']}; median of {result['windows']} pairs of windows a step "
        f"kind on {result['device_name']}{threads}."
    )
