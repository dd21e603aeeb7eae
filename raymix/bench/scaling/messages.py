"""What the command and the ranks of its torchrun group say to each other."""

from __future__ import annotations

from typing import NamedTuple

from raymix.plan import Kind
from raymix.spec import JobSpec

SOCKET = "RAYMIX_BENCH_SOCKET"  # the environment variable that names the command's socket


class Load(NamedTuple):
    """Loops of these kinds take the place of those before; `spec` has the batch of one rank, without workers."""

    spec: JobSpec
    kinds: tuple[Kind, ...]
    images: str  # .npz
    fast: bool


class Run(NamedTuple):
    """Steps of a kind, answered by the seconds they took; not `averaged`: gradients stay on their rank."""

    kind: Kind
    steps: int
    averaged: bool = True


class Hello(NamedTuple):
    """What a rank says first."""

    rank: int
    process: int


class Failed(NamedTuple):
    """What a rank says last, where it fails."""

    why: str
