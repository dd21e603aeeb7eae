"""Whole groups judge: none is cut through, shares and classes are near to what is asked, a class keeps its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pictures import data, rows_of

from raymix.data.choose import whole_groups
from raymix.data.rows import Rows
from raymix.data.splits import Splits, group_rows, split
from raymix.spec import Data, JobError


def job(**fields: Any) -> Data:
    return data({"format": "digits"}, group="lot", **fields)


def grouped(rows: Rows, groups: Sequence[str] | np.ndarray) -> Rows:
    names, numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return replace(rows, groups=numbers.astype(np.int64), group_names=tuple(map(str, names)))


def lots(num: int, seed: int = 0, num_val: int = 0) -> Rows:
    """600 labelled rows of three classes and 60 without a label, dealt to lots at random."""
    rows = rows_of([300, 200, 100], num_unlabelled=60, num_val=num_val)
    return grouped(rows, np.random.default_rng(seed).integers(0, num, len(rows)))


def groups_of(rows: Rows, splits: Splits) -> list[set[int]]:
    assert rows.groups is not None
    return [set(rows.groups[ids].tolist()) for ids in (splits.train, splits.select, splits.val)]


@pytest.mark.parametrize("num", [3, 8, 40, 500])
@pytest.mark.parametrize("fields", [{}, {"label_fraction": 0.4, "fraction": 0.7}, {"select": 0}])
def test_no_group_is_cut_through_and_every_class_is_everywhere(num: int, fields: dict[str, Any]) -> None:
    for seed in range(4):
        rows = lots(num, seed)
        splits = split(rows, job(**fields), seed)
        train, select, val = groups_of(rows, splits)
        assert not train & select
        assert not train & val
        assert not select & val
        for part in (splits.labelled, splits.val, *([splits.select] if len(splits.select) else [])):
            assert set(splits.labels[part].tolist()) == {0, 1, 2}
        assert bool(len(splits.select)) == ("select" not in fields)
        told = group_rows(rows, splits)
        assert told is not None
        assert (told.train, told.select, told.val) == (len(train), len(select), len(val))
        assert not told.val_lacks + told.select_lacks


def test_what_is_in_no_part_has_no_label_and_a_group_that_judges() -> None:
    rows = lots(30)
    splits = split(rows, job(), 0)
    _, select, val = groups_of(rows, splits)
    assert rows.groups is not None
    out = np.setdiff1d(np.arange(len(rows)), np.concatenate([splits.train, splits.select, splits.val]))
    told = group_rows(rows, splits)
    assert told is not None
    assert told.left_out == len(out) > 0
    assert (rows.labels[out] == -1).all()
    assert set(rows.groups[out].tolist()) <= select | val


@pytest.mark.parametrize("seed", range(5))
def test_shares_and_classes_are_near_to_what_is_asked(seed: int) -> None:
    rows = lots(150, seed)
    for holdout in (0.1, 0.3, 0.7):
        val = split(rows, job(holdout=holdout, select=0), seed).val
        counts = np.bincount(rows.labels[val], minlength=3)
        assert abs(len(val) - holdout * 600) <= 4  # a lot has four labelled rows
        assert (np.abs(counts - holdout * np.array([300, 200, 100])) <= 4).all()


def test_rows_that_are_groups_of_their_own_are_stratified_exactly() -> None:
    labels = np.repeat([0, 1, 2], [300, 200, 100])
    taken = whole_groups(np.arange(600), labels, 0.2, [0])
    assert np.bincount(labels[taken]).tolist() == [60, 40, 20]


def test_the_same_seed_gives_the_same_groups_and_another_one_others() -> None:
    rows = lots(60)
    first = split(rows, job(), 0)
    assert (split(rows, job(), 1).val == first.val).all()
    assert (split(rows, job(fraction=0.8, select=0), 2).val == first.val).all()
    assert (split(rows, job(), 0).select == first.select).all()
    assert set(split(rows, job(split_seed=1), 0).val.tolist()) != set(first.val.tolist())
    assert set(split(rows, job(), 1).select.tolist()) != set(first.select.tolist())
    # which row comes first does not matter, only what its group is called
    assert rows.groups is not None
    back = np.arange(len(rows))[::-1]
    assert groups_of(rows, first)[2] == groups_of(turned := rows.take(back), split(turned, job(), 0))[2]


def test_large_groups_are_not_always_the_ones_that_judge() -> None:
    groups = np.repeat(np.arange(40), np.arange(1, 41))
    labels = np.arange(len(groups)) % 2
    judged = [set(whole_groups(groups, labels, 0.1, [seed]).tolist()) for seed in range(20)]
    assert sum(39 in chosen for chosen in judged) < 10
    assert len(set.union(*judged)) > 30


def test_a_class_of_too_few_groups_stays_in_train_and_is_told() -> None:
    rows = grouped(rows_of([40, 40, 6, 6]), [*(f"lot{i % 8}" for i in range(80)), *["odd"] * 6, *["x", "y"] * 3])
    splits = split(rows, job(), 0)
    told = group_rows(rows, splits)
    assert told is not None
    assert told.val_lacks == ("class2",)  # in one group alone
    assert told.select_lacks == ("class2", "class3")  # of two groups one is val's
    assert set(splits.labels[splits.labelled].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("groups", "fields", "said"),
    [
        (["a"] * 20, {}, "data.holdout: no whole group can be kept: each holds all rows of a class, as of 'class0'"),
        (["a"] * 10 + ["b"] * 10, {}, "data.holdout: no whole group"),
        (["a", "b"] * 10, {}, "data.select: no whole group can be kept: each holds all rows of a class"),
    ],
)
def test_too_few_groups(groups: list[str], fields: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError) as caught:
        split(grouped(rows_of([10, 10]), groups), job(**fields), 0)
    assert str(caught.value).startswith(said)
    assert "(add images of other groups, or " in str(caught.value)


def test_two_groups_do_without_select() -> None:
    rows = grouped(rows_of([10, 10]), ["a", "b"] * 10)
    splits = split(rows, job(select=0), 0)
    assert (len(splits.train), len(splits.val)) == (10, 10)


def test_rows_without_a_label_leave_with_the_group_of_a_given_validation_set() -> None:
    rows = grouped(rows_of([5, 5], num_val=4, num_unlabelled=3), [*"abcde" * 2, "a", "v", "v", *"vvww"])
    splits = split(rows, job(select=0), 0)
    assert splits.unlabelled.tolist() == [10]
    told = group_rows(rows, splits)
    assert told is not None
    assert (told.train, told.val, told.left_out) == (5, 2, 2)


def test_a_hint_that_was_tried_comes_with_groups_too() -> None:
    with pytest.raises(JobError, match=r"data.label_fraction: .*set data.label_fraction=0\.\d+ or more") as caught:
        split(lots(40), job(label_fraction=0.001), 0)
    value = float(caught.value.hint.removeprefix("set data.label_fraction=").removesuffix(" or more"))
    split(lots(40), job(label_fraction=value), 0)
