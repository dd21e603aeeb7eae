"""Rare classes drawn more often: shares, exactness, and every row in its turn."""

from __future__ import annotations

import numpy as np
import pytest

from raymix.data.order import Balanced

IDS = np.arange(100, 160, dtype=np.int64)
LABELS = np.repeat([0, 2, 5], [48, 9, 3])


def order(balance: float, seed: int = 3) -> Balanced:
    return Balanced(IDS, LABELS, seed, "labelled", balance)


@pytest.mark.parametrize(("balance", "shares"), [(1.0, [20, 20, 20]), (0.5, [36, 15, 9]), (1e-9, [48, 9, 3])])
def test_an_epoch_has_each_class_in_its_share(balance: float, shares: list[int]) -> None:
    """sqrt(48), 3 and sqrt(3) are 36, 15 and 9 of 60, to a row."""
    drawn = order(balance).rows(0, 60 * 4)[0].reshape(4, 60)
    for epoch in drawn:
        assert np.bincount(LABELS[epoch - 100], minlength=6)[[0, 2, 5]].tolist() == shares
    assert len({tuple(epoch) for epoch in drawn}) == 4


def test_each_class_is_gone_through_before_it_begins_anew() -> None:
    ids, turns = order(1.0).rows(0, 60 * 12)
    for label, size in ((0, 48), (2, 9), (5, 3)):
        mine = LABELS[ids - 100] == label
        whole = 240 // size
        for turn in range(whole):
            rows = ids[mine & (turns == turn)]
            assert np.sort(rows).tolist() == IDS[label == LABELS].tolist(), "each row once"
        assert set(turns[mine]) <= set(range(whole + 1))
    pairs = set(zip(ids.tolist(), turns.tolist(), strict=True))
    assert len(pairs) == len(ids), "no row is augmented twice in the same way"


def test_any_start_and_any_cut_give_the_same_sequence() -> None:
    whole, some = order(0.7).rows(0, 400), order(0.7)
    for start, count in [(399, 1), (0, 400), (59, 2), (60, 60), (61, 200), (5, 0), (119, 122)]:
        for mine, there in zip(some.rows(start, count), whole, strict=True):
            assert (mine == there[start : start + count]).all()
    assert (order(0.7, seed=4).rows(0, 60)[0] != whole[0][:60]).any()


def test_rows_are_counted_as_they_come() -> None:
    mask = np.zeros(200, dtype=np.bool_)
    mask[[101, 103, 150, 158]] = True
    ids = order(0.6).rows(0, 300)[0]
    for end in (0, 1, 59, 60, 61, 240, 299):
        assert order(0.6).count(end, mask) == np.count_nonzero(mask[ids[:end]])
