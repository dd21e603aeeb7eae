"""`raymix bench steps`: what each step kind costs, how near that is to the chip, and against rivals in the same run.

Rivals take turns in short slices; times are medians over windows. t_mix / (t_ssl + t_sl) is the share of compute that
one pass for both losses costs of two: below 1 it saves.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from typing import Any

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from raymix.bench import chips
from raymix.bench.loop import device_named
from raymix.bench.rows import RATIOS, ROWS, Row, Steps, flops, rival, with_row
from raymix.bench.setting import Dataset, job
from raymix.jobfile import load_spec
from raymix.spec import JobError, JobSpec
from raymix.train.device import name_of
from raymix.train.execute import set_up_process
from raymix.train.measure import synchronise

WINDOW_SECONDS = 0.4
RIVALS = ("plain", "eager")


def main(
    overrides: list[str], only: list[str], vs: list[str], windows: int, augment: bool, device: str, json_out: bool
) -> None:
    """Measures and prints, as JSON or as a table.

    Raises:
        JobError: there is no such device, row or rival.
    """
    where = device_named(device)
    rows = _rows(only)
    for name in vs:
        if name not in RIVALS:
            raise JobError("--vs", f"{name} is none of {', '.join(RIVALS)}")
    spec = load_spec(job(where, steps=True).model_dump(mode="json", exclude_unset=True), overrides)
    set_up_process(where, torch.get_num_threads())
    result = measure(spec, rows, vs, where, windows, augment)
    if json_out:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print(result)


def measure(
    spec: JobSpec, rows: list[Row], vs: list[str], device: torch.device, windows: int, augment: bool
) -> dict[str, Any]:
    """Every row by raymix and, where asked, by its rivals; as `--json` prints it."""
    data = Dataset(spec, num_rows=2 * spec.batch)
    found = {row.name: _row(with_row(spec, row), row, vs, data, device, windows, augment) for row in rows}
    return {
        "rows": found,
        "ratios": _ratios({name: row["ms"] for name, row in found.items()}),
        "augment": augment,
        "batch": spec.batch,
        "model": spec.backbone.model_dump(mode="json"),
        "image_size": spec.data.image_size,
        "peak_flops": chips.peak(device),
        "device": device.type,
        "device_name": name_of(device),
        "torch": torch.__version__,
    }


def _row(
    spec: JobSpec, row: Row, vs: list[str], data: Dataset, device: torch.device, windows: int, augment: bool
) -> dict[str, Any]:
    names = ["raymix", *(name for name in vs if row.plain or name != "plain")]
    rivals: dict[str, Steps] = {}
    memory, ready = dict[str, int](), dict[str, float]()
    for name in names:
        with chips.memory_taken(device) as taken:
            started = time.perf_counter()
            rivals[name] = rival(name, spec, row, data, device, augment)
            rivals[name].again(3)
            synchronise(device)
            ready[name] = time.perf_counter() - started
        memory[name] = taken.bytes
    ms = _interleaved(rivals, device, windows)
    medians = {name: statistics.median(values) for name, values in ms.items()}
    work, top = flops(spec, row.kind), chips.peak(device)
    result: dict[str, Any] = {
        "ms": medians["raymix"],
        "images_per_second": 1000 * spec.batch / medians["raymix"],
        "flops": work,
        "share_of_peak": None if top is None or work is None else work / (medians["raymix"] / 1000) / top,
        "memory_bytes": memory["raymix"] if device.type == "cuda" else None,
        "ready_seconds": ready["raymix"],
    }
    for name in names[1:]:
        ratios = [other / mine for mine, other in zip(ms["raymix"], ms[name], strict=True)]
        result[f"vs_{name}"] = {
            "ratio": statistics.median(ratios),
            "ratios": ratios,
            "ms": medians[name],
            "memory_ratio": memory["raymix"] / memory[name] if device.type == "cuda" else None,
            "ready_seconds": ready[name],
        }
    return result


def _interleaved(rivals: dict[str, Steps], device: torch.device, windows: int) -> dict[str, list[float]]:
    """Milliseconds a step of each rival in each window; whoever goes first changes from window to window."""
    steps = {name: max(2, math.ceil(WINDOW_SECONDS / _seconds(loop, 2, device))) for name, loop in rivals.items()}
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for window in range(windows):
        for name in sorted(rivals, reverse=window % 2 == 1):
            found[name].append(1000 * _seconds(rivals[name], steps[name], device))
    return found


def _seconds(loop: Steps, steps: int, device: torch.device) -> float:
    """Seconds a step."""
    synchronise(device)
    started = time.perf_counter()
    loop.again(steps)
    synchronise(device)
    return (time.perf_counter() - started) / steps


def _ratios(ms: dict[str, float]) -> dict[str, dict[str, float]]:
    """t_mix / (t_ssl + t_sl) with the ssl step of the same objective and tokens, and with the cheapest ssl step."""
    cheapest = min((time for name, time in ms.items() if "ssl" in name), default=None)
    found = {}
    for mix, ssl in RATIOS:
        if mix in ms and ssl in ms and "sl" in ms and cheapest is not None:
            found[mix] = {"same": ms[mix] / (ms[ssl] + ms["sl"]), "cheapest": ms[mix] / (cheapest + ms["sl"])}
    return found


def _rows(only: list[str]) -> list[Row]:
    known = {row.name: row for row in ROWS}
    for name in only:
        if name not in known:
            raise JobError("--only", f"{name} is none of {', '.join(known)}")
    return [row for row in ROWS if not only or row.name in only]


def _print(result: dict[str, Any]) -> None:
    rivals = sorted({key for row in result["rows"].values() for key in row if key.startswith("vs_")})
    head = ["step", "ms", "images/s", "GFLOP/image", "of peak", "memory GiB", "ready s"]
    table = Table(*head, *(f"over {key[3:]}" for key in rivals), box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in result["rows"].items():
        share, memory = row["share_of_peak"], row["memory_bytes"]
        table.add_row(
            name,
            f"{row['ms']:.2f}",
            f"{row['images_per_second']:,.0f}",
            "" if row["flops"] is None else f"{row['flops'] / result['batch'] / 1e9:.3g}",
            "" if share is None else f"{100 * share:.1f} %",
            "" if memory is None else f"{memory / 2**30:.2f}",
            f"{row['ready_seconds']:.1f}",
            *(f"{row[key]['ratio']:.3f}" if key in row else "" for key in rivals),
        )
    console = Console(highlight=False)
    console.print(table)
    for mix, ratio in result["ratios"].items():
        same, cheapest = ratio["same"], ratio["cheapest"]
        console.print(f"{mix}: t_mix / (t_ssl + t_sl) = {same:.3f}; with the cheapest ssl step {cheapest:.3f}")
    views = "" if result["augment"] else ", on fixed views (model and optimizer alone)"
    console.print(f"{result['device_name']}, batch {result['batch']}, {result['image_size']} px{views}.")
