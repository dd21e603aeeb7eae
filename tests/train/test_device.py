"""Which of torch's attention kernels a training process uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raymix.train.device import choose_attention
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
