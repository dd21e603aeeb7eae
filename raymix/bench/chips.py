"""A chip's rate at best, and what a loop takes of its memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# dense bf16 with fp32 accumulation, without sparsity, in FLOP/s, as the makers' data sheets have it; the longest name
# that is part of the device's counts
_BF16 = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A40": 150e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def peak(device: torch.device) -> float | None:
    """FLOP/s of a GPU in bf16; None: not known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = [chip for chip in _BF16 if chip in name]
    return _BF16[max(found, key=len)] if found else None


class Taken:
    """Bytes of GPU memory, 0 on a CPU."""

    bytes = 0


@contextmanager
def memory_taken(device: torch.device) -> Iterator[Taken]:
    """What the allocator took from the GPU at most within, beyond what it held before."""
    taken = Taken()
    if device.type != "cuda":
        yield taken
        return
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    yield taken
    torch.cuda.synchronize()
    taken.bytes = torch.cuda.max_memory_reserved() - before
