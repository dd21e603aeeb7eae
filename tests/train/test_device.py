"""Which of torch's attention kernels a training process uses; a context that is made and destroyed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raymix.train.device import choose_attention, quicken
from raymix.train.execute import set_up_process


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before, threads = torch.backends.cuda.cudnn_sdp_enabled(), torch.get_num_threads()
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)
    torch.set_num_threads(threads)


def test_cudnn_is_left_out_and_the_others_stay() -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    choose_attention()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_very_negative_logits_are_finite(masked: bool) -> None:
    """64 tokens, as a ViT with patches of 8 px has them on 64 px; every logit about -120."""
    set_up_process(torch.device("cuda", 0), threads=1)
    torch.manual_seed(0)
    q, k, v = (torch.randn(8, 3, 64, 64, device="cuda", dtype=torch.bfloat16) * 0.1 for _ in range(3))
    q[..., 0], k[..., 0] = 1.0, -120 * 8.0
    parts: list[Tensor] = [part.requires_grad_() for part in (q, k, v)]
    mask = torch.ones(64, 64, dtype=torch.bool, device="cuda") if masked else None
    out = F.scaled_dot_product_attention(*parts, attn_mask=mask)
    out.backward(torch.randn_like(out))
    for part in parts:
        assert part.grad is not None
        assert bool(part.grad.isfinite().all())


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA's driver is there")
def test_without_cudas_driver_nothing_is_made() -> None:
    quicken()


@pytest.mark.gpu
def test_the_process_keeps_its_context_and_what_it_recorded() -> None:
    """And gives the memory of the other one back; a device without room for one is no trouble."""
    driver, before, after = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_void_p()
    x, graph = torch.zeros(4, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x += 1
    assert driver.cuCtxGetCurrent(ctypes.byref(before)) == 0
    quicken()  # the first one may leave something behind
    free = torch.cuda.mem_get_info()[0]
    quicken()
    assert torch.cuda.mem_get_info()[0] == free
    full = torch.empty(free - 64 * 2**20, dtype=torch.uint8, device="cuda")
    quicken()
    assert driver.cuCtxGetCurrent(ctypes.byref(after)) == 0
    assert before.value == after.value
    graph.replay()
    assert x.tolist() == [1, 1, 1, 1]
    assert len(full) == free - 64 * 2**20
