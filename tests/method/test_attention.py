"""Attention of raymix's own blocks: torch's on CPUs and of many tokens, of few on a GPU by kernels of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from raymix.method.attention import MOST_TOKENS, attend

SHAPES = [(2, 16, 3, 64), (3, 12, 2, 32), (1, 49, 1, 16), (2, 128, 1, 32), (2, 1, 2, 16)]  # B, L, H, D
# by Triton's interpreter, which is chosen when Triton is imported
INTERPRETED = """
import torch
from raymix.method import kernels
from tests.method.test_attention import SHAPES, drawn, told
for shape in SHAPES:
    qkv, grad = drawn(shape, torch.float32)
    expected, gradient = told(qkv.double(), grad.double(), shape[2])
    torch.testing.assert_close(kernels.forward(qkv, shape[2]).double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(kernels.backward(grad, qkv, shape[2]).double(), gradient, rtol=0, atol=1e-5)
"""


def drawn(shape: tuple[int, int, int, int], dtype: torch.dtype, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Queries, keys and values (B, L, 3 H D), and a gradient of the result (B, L, H D)."""
    B, L, H, D = shape
    values = torch.randn(B, L, 4 * H * D, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return values[..., : 3 * H * D].contiguous(), values[..., 3 * H * D :].contiguous()


def told(qkv: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Result and gradient, written out."""
    B, L, E = qkv.shape
    qkv = qkv.detach().requires_grad_()
    q, k, v = (part.view(B, L, heads, -1).transpose(1, 2) for part in qkv.chunk(3, 2))
    a = ((q @ k.transpose(2, 3)) / q.shape[3] ** 0.5).softmax(3) @ v
    result = a.transpose(1, 2).reshape(B, L, E // 3)
    result.backward(grad)
    assert qkv.grad is not None
    return result.detach(), qkv.grad


def given(qkv: Tensor, grad: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    qkv = qkv.detach().requires_grad_()
    result = attend(qkv, heads)
    result.backward(grad)
    assert qkv.grad is not None
    return result.detach(), qkv.grad


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_cpu(shape: tuple[int, int, int, int]) -> None:
    qkv, grad = drawn(shape, torch.float64)
    for found, expected in zip(given(qkv, grad, shape[2]), told(qkv, grad, shape[2]), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch came without Triton")
def test_the_kernels_as_triton_interprets_them() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], check=True, env=environment)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, (64, 64, 3, 64), (64, 32, 3, 32)])
def test_on_a_gpu_it_is_as_exact_as_torchs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    qkv, grad = drawn(shape, dtype, "cuda")
    exact = told(qkv.double(), grad.double(), shape[2])
    theirs = told(qkv, grad, shape[2])  # its sums are rounded between the products
    for found, expected, rounded in zip(given(qkv, grad, shape[2]), exact, theirs, strict=True):
        assert found.dtype == dtype
        allowed = 1.5 * (rounded.double() - expected).abs().max() + 1e-6
        assert (found.double() - expected).abs().max() <= allowed


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same_each_time_and_compiles_as_a_whole() -> None:
    qkv, grad = drawn((64, 64, 3, 64), torch.bfloat16, "cuda")
    first = given(qkv, grad, 3)
    assert all(torch.equal(one, other) for one, other in zip(first, given(qkv, grad, 3), strict=True))
    compiled = torch.compile(attend, fullgraph=True)
    assert torch.equal(compiled(qkv, 3), first[0])
    torch.library.opcheck(torch.ops.raymix.attend.default, (qkv[:2].detach().requires_grad_(), 3))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, MOST_TOKENS + 1, 3, 64), torch.bfloat16), ((2, 16, 1, 48), torch.bfloat16),
                         ((2, 16, 3, 64), torch.float32)]
)  # fmt: skip
def test_what_the_kernels_do_not_take_is_torchs(shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    qkv, grad = drawn(shape, dtype, "cuda")
    with torch.profiler.profile() as profiled:
        result, _ = given(qkv, grad, shape[2])
    assert not any(event.name.startswith("raymix::") for event in profiled.events())
    torch.testing.assert_close(result.double(), told(qkv.double(), grad.double(), shape[2])[0], rtol=0, atol=2e-2)
