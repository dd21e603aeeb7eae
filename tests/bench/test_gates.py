"""What raymix must reach against the plain loop, measured: `pytest -m bench`; on a GPU `-m 'bench and gpu'`."""

from __future__ import annotations

import pytest
import torch

from raymix.bench import loop
from raymix.train.execute import set_up_process


@pytest.mark.bench
@pytest.mark.timeout(600)
def test_the_loop_on_two_cores_keeps_up_with_a_plain_one() -> None:
    device, before = torch.device("cpu"), torch.get_num_threads()
    set_up_process(device, loop.CPU_THREADS)
    try:
        result = loop.measure(loop.job(device), device, windows=5, window_seconds=loop.WINDOW_SECONDS["cpu"])
    finally:
        torch.set_num_threads(before)
    assert result["ratio"] >= 0.97, result


@pytest.mark.bench
@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_the_loop_on_a_gpu_keeps_up_with_a_compiled_and_replayed_one() -> None:
    device = torch.device("cuda", 0)
    set_up_process(device, torch.get_num_threads())
    result = loop.measure(loop.job(device), device, windows=3, window_seconds=loop.WINDOW_SECONDS["cuda"], fast=True)
    assert result["ratio"] >= 0.99, result
