# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,import-untyped"
"""Attention over few tokens as one Triton kernel a pass. Imported where it is launched: CPUs need no Triton.

A program has one head of one image: all its queries, keys and values fit into registers, so nothing is looped over, and
what the backward pass needs beside them is computed again. The kernels of torch work on tiles of 64 or 128 tokens: with
16 visible patches most of a tile is padding.

L tokens, H heads, D width of a head, E = H * D, R tokens padded to a power of two.
"""

from __future__ import annotations

import threading

import torch
import triton
import triton.language as tl
from torch import Tensor

_begun: dict[tuple[torch.dtype, int, int, int], list[threading.Thread]] = {}


def begin(dtype: torch.dtype, L: int, E: int, heads: int) -> None:
    """Starts to compile both kernels for `L` tokens of 3 H D = `E` values, while others prepare what surrounds them.

    Triton is outside of Python's lock for most of that time.
    """
    if (dtype, L, E, heads) in _begun:
        return
    device, setting = torch.cuda.current_device(), _setting(L, E, heads)

    def compile_one(kernel: triton.JITFunction, pointers: int) -> None:
        torch.cuda.set_device(device)
        kernel.warmup(*[dtype] * pointers, L, grid=(1,), **setting)

    threads = [threading.Thread(target=compile_one, args=of, daemon=True) for of in ((_forward, 2), (_backward, 3))]
    _begun[dtype, L, E, heads] = threads
    for thread in threads:
        thread.start()


def _wait(dtype: torch.dtype, L: int, E: int, heads: int) -> None:
    """Returns when nobody compiles kernels for a shape any more."""
    for thread in _begun.get((dtype, L, E, heads), ()):
        thread.join()


def forward(qkv_BLE: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of each head; (B, L, 3 H D) to (B, L, H D)."""
    B, L, E = qkv_BLE.shape
    out_BLE = qkv_BLE.new_empty(B, L, E // 3)
    _wait(qkv_BLE.dtype, L, E, heads)
    if B:
        _forward[(B * heads,)](qkv_BLE, out_BLE, L, **_setting(L, E, heads))
    return out_BLE


def backward(grad_BLE: Tensor, qkv_BLE: Tensor, heads: int) -> Tensor:
    """The gradient of `forward`'s argument from that of its result."""
    B, L, E = qkv_BLE.shape
    out_BLE = torch.empty_like(qkv_BLE)
    _wait(qkv_BLE.dtype, L, E, heads)
    if B:
        _backward[(B * heads,)](grad_BLE, qkv_BLE, out_BLE, L, **_setting(L, E, heads))
    return out_BLE


def _setting(L: int, E: int, heads: int) -> dict[str, int | float]:
    D, R = E // 3 // heads, max(16, triton.next_power_of_2(L))
    return {"scale": D**-0.5, "H": heads, "D": D, "R": R, "num_warps": max(1, R // 16)}


@triton.jit
def _places(L, width, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    """Where this program's first of `width` values a token begin, (R, D), and which of them there are."""
    image, head = tl.program_id(0) // H, tl.program_id(0) % H
    row, column = tl.arange(0, R)[:, None], tl.arange(0, D)[None, :]
    return (image.to(tl.int64) * L + row) * width + head * D + column, row < L


@triton.jit
def _weights(q, k, L, scale, R: tl.constexpr):
    """Of each query's keys, not yet divided by their sum, and that sum; float32 (R, R) and (R, 1)."""
    logits = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * 1.4426950408889634)
    logits = tl.where(tl.arange(0, R)[None, :] < L, logits, float("-inf"))
    weights = tl.exp2(logits - tl.max(logits, 1)[:, None])
    return weights, tl.sum(weights, 1)[:, None]


@triton.jit
def _forward(qkv, out, L, scale, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    at, there = _places(L, 3 * H * D, H, D, R)
    q = tl.load(qkv + at, there, 0.0)
    k = tl.load(qkv + at + H * D, there, 0.0)
    v = tl.load(qkv + at + 2 * H * D, there, 0.0)
    weights, sums = _weights(q, k, L, scale, R)
    a = tl.dot(weights.to(v.dtype), v, input_precision="ieee") / sums
    at, there = _places(L, H * D, H, D, R)
    tl.store(out + at, a.to(v.dtype), there)


@triton.jit
def _backward(grad, qkv, out, L, scale, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr):
    at, there = _places(L, H * D, H, D, R)
    d_a = tl.load(grad + at, there, 0.0)
    at, there = _places(L, 3 * H * D, H, D, R)
    q = tl.load(qkv + at, there, 0.0)
    k = tl.load(qkv + at + H * D, there, 0.0)
    v = tl.load(qkv + at + 2 * H * D, there, 0.0)
    weights, sums = _weights(q, k, L, scale, R)
    p = weights / sums
    d_p = tl.dot(d_a, tl.trans(v), input_precision="ieee")
    d_logits = (p * (d_p - tl.sum(p * d_p, 1)[:, None]) * scale).to(q.dtype)
    tl.store(out + at, tl.dot(d_logits, k, input_precision="ieee").to(q.dtype), there)
    tl.store(out + at + H * D, tl.dot(tl.trans(d_logits), q, input_precision="ieee").to(q.dtype), there)
    tl.store(out + at + 2 * H * D, tl.dot(tl.trans(p.to(q.dtype)), d_a, input_precision="ieee").to(q.dtype), there)
