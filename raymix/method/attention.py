"""Attention of raymix's own transformer blocks: a kernel of its own where tokens are few, else torch's.

B batch, L tokens, H heads, D width of a head, E = H * D.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_TOKENS = 128  # beyond that, torch's kernels are the faster ones
_WIDTHS = (16, 32, 64, 128)  # of a head: powers of two, as Triton has them


def attend(qkv_BLE: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of each head (Vaswani et al. 2017, arXiv 1706.03762); (B, L, 3 E) to (B, L, E).

    Each token has its queries, then its keys, then its values, each head by head.
    """
    B, L, E = qkv_BLE.shape
    if _is_ours(qkv_BLE, heads):
        a_BLE: Tensor = torch.ops.raymix.attend(qkv_BLE, heads)
        return a_BLE
    q, k, v = qkv_BLE.view(B, L, 3, heads, E // 3 // heads).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, E // 3)


def _is_ours(qkv_BLE: Tensor, heads: int) -> bool:
    _, L, E = qkv_BLE.shape
    half = qkv_BLE.dtype in (torch.bfloat16, torch.float16)
    return qkv_BLE.is_cuda and half and L <= MOST_TOKENS and E // 3 // heads in _WIDTHS and _has_triton()


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _has_triton() -> bool:
    """As found once: it is asked at each call, but not traced by a compiler, for which it breaks no graph."""
    return _found_triton()


@functools.cache
def _found_triton() -> bool:
    """Whether there is Triton, and every GPU is one that it computes bf16 on."""
    capabilities = (torch.cuda.get_device_capability(number) for number in range(torch.cuda.device_count()))
    return importlib.util.find_spec("triton") is not None and min(capabilities) >= (8, 0)


@torch.library.custom_op("raymix::attend", mutates_args=(), device_types="cuda")
def _attend(qkv: Tensor, heads: int) -> Tensor:
    from raymix.method import kernels

    return kernels.forward(qkv.contiguous(), heads)


@torch.library.custom_op("raymix::attend_backward", mutates_args=(), device_types="cuda")
def _attend_backward(grad: Tensor, qkv: Tensor, heads: int) -> Tensor:
    from raymix.method import kernels

    return kernels.backward(grad.contiguous(), qkv.contiguous(), heads)


@_attend.register_fake
def _(qkv: Tensor, heads: int) -> Tensor:
    _, L, E = qkv.shape
    if qkv.is_cuda and isinstance(L, int) and isinstance(E, int):  # whoever traces a block will soon run it
        from raymix.method import kernels

        kernels.begin(qkv.dtype, L, E, heads)
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@_attend_backward.register_fake
def _(grad: Tensor, qkv: Tensor, heads: int) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    qkv, ctx.heads = inputs
    ctx.save_for_backward(qkv)


def _derive(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    (qkv,) = ctx.saved_tensors
    return torch.ops.raymix.attend_backward(grad, qkv, ctx.heads), None


_attend.register_autograd(_derive, setup_context=_keep)
