"""Random numbers as a pure function of (seed, epoch, row, purpose): a counter-based hash in integer tensor operations.

There is no generator to save or to keep in step across ranks: a restarted run draws the same numbers, whatever the
number of workers, and so does a replayed CUDA graph.

B batch, N numbers a row.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF

# purposes: what a number is drawn for; equal purposes give equal numbers
CROP, MASK, COLOR = 1, 2, 3
SECOND_VIEW = 16  # added to a purpose for the second view of the same image


def _mix32(h: Tensor) -> Tensor:
    """The 32-bit finaliser of MurmurHash3, on int64 tensors that hold 32-bit values."""
    h = (h ^ (h >> 16)) * 0x85EBCA6B & _MASK
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & _MASK
    return h ^ (h >> 16)


def keys(seed: int, epochs_B: Tensor, rows_B: Tensor) -> Tensor:
    """A 32-bit key for each row of each epoch, int64 (B,)."""
    seeded = _mix32(torch.tensor((seed * 0x9E3779B1 + 0x7F4A7C15) & _MASK, dtype=torch.int64))
    h_B = _mix32((rows_B ^ seeded.to(rows_B.device)) & _MASK)
    return _mix32((h_B + epochs_B * 0x9E3779B1 + 0x165667B1) & _MASK)


def uniform(key_B: Tensor, purpose: int, num: int) -> Tensor:
    """`num` numbers in [0, 1) for each row, float32 (B, N)."""
    h_BN = _mix32(key_B[:, None] ^ _counters(purpose, num, key_B.device))
    return (h_BN >> 8).to(torch.float32) * 2.0**-24


@functools.lru_cache(maxsize=64)
def _counters(purpose: int, num: int, device: torch.device) -> Tensor:
    return _mix32((torch.arange(1, num + 1, device=device) * 0x27D4EB2F + purpose * 0x9E3779B1) & _MASK)
