"""Gradients are averaged in buckets, the first of them before the last gradient is there; on ranks: test_ranks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from small_runs import CPU, Digits, Watcher
from torch import Tensor, nn

from raymix.local import LocalRuntime
from raymix.train.averaging import BEGINS, Averaging
from raymix.train.cache import Cache


class Twins(LocalRuntime):
    """One rank of two that hold the same: a sum is twice a tensor, and there once it was waited for."""

    def __init__(self, digits: Digits) -> None:
        super().__init__(Cache(digits.images, CPU), CPU, Watcher(None))
        self.world = 2
        self.sent: list[tuple[int, bool]] = []  # numbers in a tensor, whether the first layer had its gradient
        self.first: nn.Parameter | None = None

    def reduce(self, tensor: Tensor) -> Callable[[], object]:
        assert self.first is not None
        self.sent.append((tensor.numel(), self.first.grad is not None))
        return lambda: tensor.mul_(2)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.Tanh())]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def test_all_but_the_last_bucket_leave_before_the_first_layers_gradient(digits: Callable[..., Digits]) -> None:
    one, runtime, x = model(), Twins(digits()), torch.randn(2, 4, 8, 8)
    one.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    runtime.first = one[0].weight
    averaging = Averaging(one, runtime)
    one(x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None}
    num = sum(g.numel() for g in expected.values())
    for shares in ((0.0,), BEGINS, BEGINS):
        one.zero_grad()
        runtime.sent.clear()
        with averaging.backward():
            one(x).square().sum().backward()
        assert len(runtime.sent) == len(shares)
        assert sum(size for size, _ in runtime.sent) == num
        assert [first for _, first in runtime.sent] == [False] * (len(shares) - 1) + [True]
        ends = itertools.accumulate(size for size, _ in runtime.sent)
        late = [end - share * num for end, share in zip(ends, (*shares[1:], 1.0), strict=True)]
        assert all(0 <= numbers < 148 for numbers in late), "a layer more at most"
        assert one.unused.grad is None
        for name, gradient in expected.items():
            now = dict(one.named_parameters())[name].grad
            assert now is not None
            torch.testing.assert_close(now, gradient)
            assert now.stride() == gradient.stride(), "as the optimizer's moments lie"


def test_gradients_of_former_parts_count(digits: Callable[..., Digits]) -> None:
    one, runtime, x = model(), Twins(digits()), torch.randn(2, 4, 8, 8)
    runtime.first = one[0].weight
    averaging = Averaging(one, runtime)
    for _ in range(2):
        one.zero_grad()
        one(x).sum().backward()
        own = [p.grad.clone() for p in one.parameters() if p.grad is not None]
        with averaging.backward():
            one(x).sum().backward()
        for p, gradient in zip(one.parameters(), own, strict=True):
            torch.testing.assert_close(p.grad, 2 * gradient)
