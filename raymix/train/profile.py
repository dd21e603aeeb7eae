"""`raymix run --profile`: what a few steps of each kind do, as traces for chrome://tracing and Perfetto."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from raymix.method.steps import Batch
from raymix.plan import Kind
from raymix.train.stepper import Stepper

STEPS = 3


def profile(step: Stepper, batches: dict[Kind, Batch], folder: Path | None) -> None:
    """Takes steps of every kind, on all ranks alike; the one that is given a folder leaves `<kind>.json.gz` there.

    The state changes, as by any step.
    """
    activities = [ProfilerActivity.CPU]
    if step.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    lr, w = torch.zeros((), device=step.device), torch.full((), 0.5, device=step.device)
    for kind, batch in batches.items():
        with profiled(activities=activities) as trace:
            for _ in range(STEPS):
                step(kind, batch, lr, w)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            trace.export_chrome_trace(str(folder / f"{kind}.json.gz"))
