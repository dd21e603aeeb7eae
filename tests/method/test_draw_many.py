"""Numbers drawn for many steps at once are those that each step's keys alone would give."""

from __future__ import annotations

import pytest
import torch

from raymix.method import draw

STEPS, BATCH = 13, 6


@pytest.mark.parametrize("at_once", [1, 2 * BATCH * 5, 4 * BATCH * 5 + 7, 10**6])
@pytest.mark.parametrize("order", [range(STEPS), [*range(STEPS - 1, -1, -1)], [3, 3, 12, 0, 4]])
def test_steps_get_the_numbers_of_their_own_keys(
    at_once: int, order: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw, "_AT_ONCE", at_once)
    rows = torch.arange(STEPS * BATCH)
    key_TB = draw.keys(0, torch.zeros_like(rows), rows).view(STEPS, BATCH)
    steps = list(draw.Keys(key_TB))
    assert len(steps) == STEPS
    for number in order:
        for purpose, num in ((draw.CROP, 5), (draw.MASK, 16), (draw.CROP, 5)):
            found = draw.uniform(steps[number], purpose, num)
            assert torch.equal(found, draw.uniform(key_TB[number], purpose, num))


def test_keys_stay_as_they_are() -> None:
    rows = torch.arange(BATCH)
    key_B = draw.keys(0, torch.zeros_like(rows), rows)
    before = key_B.clone()
    draw.uniform(key_B, draw.MASK, 16)
    assert torch.equal(key_B, before)
