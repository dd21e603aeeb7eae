"""What counts as waiting for data: the device's time between steps, not this process's."""

from __future__ import annotations

import time

import pytest
import torch

from raymix.train.waiting import data_wait


def waited(
    device: torch.device, work: torch.Tensor, products: int, pause: float, steps: int = 20
) -> tuple[float, float]:
    """Seconds of waiting and of all, where a step is `products` products and its data takes `pause` seconds."""
    wait, started = data_wait(device), time.perf_counter()
    wait.begin()
    for _ in range(steps):
        time.sleep(pause)
        wait.end()
        for _ in range(products):
            work = work @ work
        wait.begin()
    work.cpu()
    return wait.seconds(), time.perf_counter() - started


def test_on_a_cpu_it_is_what_data_took() -> None:
    work = torch.eye(600)
    seconds, whole = waited(torch.device("cpu"), work, 1, 0.01)
    assert 0.2 <= seconds <= whole
    idle, whole = waited(torch.device("cpu"), work, 20, 0)
    assert idle < 0.2 * whole


@pytest.mark.gpu
def test_a_gpu_waits_only_while_it_has_nothing_to_do() -> None:
    device = torch.device("cuda")
    work = torch.eye(8192, device=device, dtype=torch.bfloat16)
    waited(device, work, 10, 0)
    busy, whole = waited(device, work, 40, 0.01)  # 40 products take longer than their data
    assert whole > 0.4
    assert busy < 0.1 * whole
    starved, _ = waited(device, work, 1, 0.05)
    assert 0.9 <= starved <= 1.2
