"""Part `cached`: the share of a step's time that raymix's loop waits for images that are in memory."""

from __future__ import annotations

import math
from typing import Any

import torch

from raymix.bench.figures import Asked, Figure
from raymix.bench.setting import KINDS, Dataset, RaymixLoop, job
from raymix.spec import JobSpec

GPU_BATCH = 1024


def setting(device: torch.device) -> JobSpec:
    """ViT-Tiny at 64 px in batches of 1,024 on a GPU; on CPU cores the small job of `raymix bench loop`."""
    spec = job(device)
    if device.type == "cpu":
        return spec
    return spec.model_copy(update={"optim": spec.optim.model_copy(update={"batch": GPU_BATCH})})


def bench_cached(spec: JobSpec, device: torch.device, num_rows: int, window_seconds: float) -> dict[str, Any]:
    """Steps of each kind for about `window_seconds`, on `num_rows` images.

    Returns:
        by kind the `seconds` of the segments, the `data_seconds` of them and the steps, and `figures`.
    """
    data = Dataset(spec, num_rows)
    kinds: dict[str, Any] = {}
    for kind in KINDS:
        loop = RaymixLoop(spec, kind, data, device)
        steps = max(2, math.ceil(window_seconds / loop.step_seconds))
        loop.run(max(2, steps // 4))  # warms caches and allocators up
        loop.run(steps)
        reports = loop.state.history.reports
        kinds[kind] = {
            "seconds": sum(report.seconds for report in reports),
            "data_seconds": sum(report.data_seconds for report in reports),
            "steps": sum(report.segment.steps for report in reports),
        }
    # on CPU cores the wait holds the work of gathering the batch, which a GPU does beside the steps
    asked = Asked("<=", 0.01) if device.type == "cuda" else None
    return {
        "figures": [_figure(kind, row, asked) for kind, row in kinds.items()],
        "kinds": kinds,
        "device": device.type,
        "batch": spec.batch,
        "images": num_rows,
    }


def _figure(kind: str, row: dict[str, Any], asked: Asked | None) -> Figure:
    wait, step = (1000 * row[name] / row["steps"] for name in ("data_seconds", "seconds"))
    return Figure(f"wait for data, {kind}", "ms", wait, "its step", step, row["data_seconds"] / row["seconds"], asked)
