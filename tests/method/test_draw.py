"""Draws are uniform, independent of each other, and a function of the row alone, whatever batch it stands in."""

from __future__ import annotations

import itertools

import pytest
import torch
from models import batch_of, model_of, spec_of
from torch import Tensor

from raymix.method import draw
from raymix.plan import Kind

N = 20_000
# of rows 0, 1 (epoch 0) and 123456 (epoch 9) under seed 3
KEYS = [1013252517, 3595164173, 1183020443]
NUMBERS = [[1071982, 1863907], [9711452, 8914643], [15940544, 1941061]]
PURPOSES = [
    p + view
    for p in (draw.CROP, draw.MASK, draw.COLOR, draw.FILTER, draw.ERASE, draw.MIX)
    for view in (0, draw.SECOND_VIEW)
]


def numbers(seed: int = 0, epoch: int = 0, purpose: int = draw.CROP, first: int = 0, num: int = 1) -> Tensor:
    rows_B = torch.arange(first, first + N)
    return draw.uniform(draw.keys(seed, torch.full_like(rows_B, epoch), rows_B), purpose, num)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a, b)))[0, 1])


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (0, 1), (2**31 - 1, 10**6)])
def test_numbers_are_uniform(seed: int, epoch: int, purpose: int) -> None:
    for u in numbers(seed, epoch, purpose, num=5).unbind(1):
        assert u.dtype == torch.float32
        assert u.min() >= 0
        assert u.max() < 1
        counts = torch.histc(u, 50, 0, 1)
        chi2 = float(((counts - N / 50) ** 2 / (N / 50)).sum())
        assert 15 < chi2 < 110, "49 degrees of freedom: 1 in 10^6 lies outside"


def test_numbers_of_different_things_are_independent() -> None:
    """Seeds, epochs, purposes, the numbers of one row, and rows beside each other."""
    streams = {
        (seed, epoch, purpose, i): u
        for seed, epoch, purpose in itertools.product((0, 1), (0, 1, 2), PURPOSES)
        for i, u in enumerate(numbers(seed, epoch, purpose, num=2).unbind(1))
    }
    assert len(streams) == 144
    # 10,296 pairs: five standard errors
    worst = max(abs(correlation(a, b)) for a, b in itertools.combinations(streams.values(), 2))
    assert worst < 5 / N**0.5
    u = streams[0, 0, draw.CROP, 0]
    for lag in (1, 2, 3, 8, 256):
        assert abs(correlation(u[:-lag], u[lag:])) < 5 / N**0.5


def test_keys_do_not_meet() -> None:
    """A row of one epoch is no row of another, and the epochs of one seed are not those of the next."""
    rows_B = torch.arange(100_000)
    found = torch.cat([draw.keys(seed, torch.full_like(rows_B, e), rows_B) for seed in (0, 1) for e in (0, 1, 2)])
    expected = len(found) ** 2 / 2 / 2**32  # of random 32-bit numbers
    assert len(found) - len(found.unique()) < 2 * expected
    one = draw.keys(0, torch.zeros_like(rows_B), rows_B)
    assert len(one.unique()) == len(one), "within an epoch none at all"
    assert int(one.min()) >= 0
    assert int(one.max()) < 2**32


def test_numbers_of_one_row_are_all_different() -> None:
    """The largest use: a number for each of 4,096 patches, beside those of crop and colour."""
    key = draw.keys(0, torch.zeros(1, dtype=torch.int64), torch.tensor([7]))
    found = torch.cat([draw.uniform(key, p, 4096 if p % 16 == draw.MASK else 5)[0] for p in PURPOSES])
    assert len(found) - len(found.unique()) < 20, "2 equal of 8,242 numbers of 24 bits are expected"


def test_numbers_are_the_same_on_every_machine() -> None:
    """Known answers: another torch, platform or refactoring must not move a single crop."""
    rows_B, epochs_B = torch.tensor([0, 1, 123456]), torch.tensor([0, 0, 9])
    keys_B = draw.keys(3, epochs_B, rows_B)
    assert keys_B.tolist() == KEYS
    assert draw.uniform(keys_B, draw.MASK, 2).mul(2**24).long().tolist() == NUMBERS


@pytest.mark.parametrize("kind", ["ssl", "mix"])
@pytest.mark.parametrize("objective", ["mae", "simclr"])
def test_the_view_of_a_row_does_not_depend_on_its_batch(objective: str, kind: Kind) -> None:
    """Any number of workers, any cut into batches, any order: the same pixels are seen and hidden."""
    spec = spec_of(objective, augment={"crop": [0.3, 1], "color": 0.4, "grayscale": 0.2})
    model, batch = model_of(spec), batch_of([0] * 96, size=10)
    whole = model.g.view(batch.x_BSSC, batch.key_B, kind)
    for order in ([5], [95, 0, 31], list(range(95, -1, -1))):
        part = model.g.view(batch.x_BSSC[order], batch.key_B[order], kind)
        both = torch.tensor([i + 96 * view for view in range(whole.num_views) for i in order])
        torch.testing.assert_close(part.x_BCHW, whole.x_BCHW[both], rtol=0, atol=1e-5)
        if whole.keep_BK is not None and part.keep_BK is not None:
            assert torch.equal(part.keep_BK, whole.keep_BK[order])


def test_a_row_looks_different_in_every_epoch_and_view() -> None:
    model, batch = model_of(spec_of("simclr")), batch_of([0] * 8)
    rows_B = torch.arange(8)
    views = [
        view
        for epoch in range(3)
        for view in model.g.view(batch.x_BSSC, draw.keys(0, torch.full_like(rows_B, epoch), rows_B)).x_BCHW.chunk(2)
    ]
    for a, b in itertools.combinations(views, 2):
        assert all(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_every_patch_is_hidden_as_often_as_any_other() -> None:
    model = model_of(spec_of())
    rows_B = torch.arange(4000)
    x_BSSC = torch.zeros((4000, 8, 8, 3), dtype=torch.uint8)
    view = model.g.view(x_BSSC, draw.keys(0, torch.zeros_like(rows_B), rows_B))
    assert view.keep_BK is not None
    assert view.hide_BM is not None
    assert view.keep_BK.shape == (4000, 4)
    places = torch.cat((view.keep_BK, view.hide_BM), 1).sort(1).values
    assert torch.equal(places, torch.arange(16).expand(4000, -1)), "each place is either seen or hidden"
    counts = torch.bincount(view.keep_BK.flatten(), minlength=16)
    assert (counts - 1000).abs().max() < 5 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("at_once", [1, 3 * 6 * 5, 2**18])
def test_numbers_drawn_for_many_steps_are_those_of_each(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is drawn ahead, and also where steps are asked for twice, out of order, or with other purposes."""
    monkeypatch.setattr(draw, "_AT_ONCE", at_once)
    rows_B = torch.arange(40 * 6)
    keys_TB = draw.keys(0, torch.zeros_like(rows_B), rows_B).view(40, 6)
    steps = list(draw.Keys(keys_TB))
    assert len(steps) == 40
    for number in [*range(40), 39, 0, 17, 17, 18]:
        for purpose, num in ((draw.CROP, 5), (draw.MASK, 16), (draw.CROP + draw.SECOND_VIEW, 5)):
            found = draw.uniform(steps[number], purpose, num)
            assert torch.equal(found, draw.uniform(keys_TB[number], purpose, num))
