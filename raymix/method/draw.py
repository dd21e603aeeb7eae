"""Random numbers as a pure function of (seed, epoch, row, purpose): a counter-based hash in integer tensor operations.

There is no generator to save or to keep in step across ranks: a restarted run draws the same numbers, whatever the
number of workers, and so does a replayed CUDA graph.

B batch, N numbers a row, T consecutive steps.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_AT_ONCE = 2**18  # numbers; about what stays in a core's cache

# purposes: what a number is drawn for; equal purposes give equal numbers
CROP, MASK, COLOR, FILTER, ERASE, MIX, PATH = 1, 2, 3, 4, 5, 6, 7
SECOND_VIEW = 16  # added to a purpose for the second view of the same image


def _mix32(h: Tensor) -> Tensor:
    """The 32-bit finaliser of MurmurHash3, on int64 tensors that hold 32-bit values."""
    h = h ^ (h >> 16)
    h = h.mul_(0x85EBCA6B).bitwise_and_(_MASK)
    h ^= h >> 13
    h = h.mul_(0xC2B2AE35).bitwise_and_(_MASK)
    return h.bitwise_xor_(h >> 16)


def keys(seed: int, epochs_B: Tensor, rows_B: Tensor) -> Tensor:
    """A 32-bit key for each row of each epoch, int64 (B,)."""
    # a number of the host as it is: copied to the device, it would be waited for, and all that the device has to do
    seeded = int(_mix32(torch.tensor((seed * 0x9E3779B1 + 0x7F4A7C15) & _MASK, dtype=torch.int64)))
    h_B = _mix32((rows_B ^ seeded) & _MASK)
    return _mix32((h_B + epochs_B * 0x9E3779B1 + 0x165667B1) & _MASK)


def uniform(key_B: Key, purpose: int, num: int) -> Tensor:
    """`num` numbers in [0, 1) for each row, float32 (B, N)."""
    if isinstance(key_B, StepKeys):
        return key_B.steps.uniform(key_B.number, purpose, num)
    # a compiled step holds the counters as constants of its own
    counters = _counters.__wrapped__ if torch.compiler.is_compiling() else _counters
    h_BN = _mix32(key_B[..., None] ^ counters(purpose, num, key_B.device))
    return (h_BN >> 8).to(torch.float32).mul_(2.0**-24)


class Keys:
    """The keys of consecutive steps, for steps that ask for their numbers one after another.

    A draw is fourteen small kernels, and on a GPU a step of a small model costs what its launches cost. So numbers are
    drawn for many steps with the same launches; each step gets the numbers that its keys alone would give.
    """

    def __init__(self, key_TB: Tensor) -> None:
        self._key_TB = key_TB
        self._drawn: dict[tuple[int, int], tuple[int, tuple[Tensor, ...]]] = {}  # purpose, num -> first step, numbers

    def __iter__(self) -> Iterator[StepKeys]:
        return (StepKeys(self, number) for number in range(len(self._key_TB)))

    def of(self, number: int) -> Tensor:
        """The keys of one step."""
        return self._key_TB[number]

    def uniform(self, number: int, purpose: int, num: int) -> Tensor:
        """What `uniform` draws for the keys of one step; steps are asked for in order, most cheaply."""
        first, drawn_TBN = self._drawn.get((purpose, num), (0, ()))
        if not first <= number < first + len(drawn_TBN):
            ahead = max(1, _AT_ONCE // (self._key_TB.shape[1] * num))
            first, drawn_TBN = number, uniform(self._key_TB[number : number + ahead], purpose, num).unbind()
            self._drawn[purpose, num] = first, drawn_TBN
        return drawn_TBN[number - first]


class StepKeys(NamedTuple):
    """The keys of one step among many."""

    steps: Keys
    number: int


Key = Tensor | StepKeys  # int64 (B,), or what stands for it


def as_tensor(key_B: Key) -> Tensor:
    """The keys themselves, int64 (B,)."""
    return key_B.steps.of(key_B.number) if isinstance(key_B, StepKeys) else key_B


@functools.lru_cache(maxsize=64)
def _counters(purpose: int, num: int, device: torch.device) -> Tensor:
    # masked before the offset: the compiler takes sums and products of arange for indices, which it keeps to 32 bits
    step_N = (torch.arange(1, num + 1, device=device) * 0x27D4EB2F) & _MASK
    return _mix32((step_N + (purpose * 0x9E3779B1 & _MASK)) & _MASK)
