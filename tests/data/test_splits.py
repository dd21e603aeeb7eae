"""Splits are disjoint, stratified, exact in number and nested, and say what to do when a class has too few rows."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pictures import data, rows_of

from raymix.data.rows import Rows
from raymix.data.splits import Splits, facts, split
from raymix.spec import Data, JobError

UNEVEN = [12, 50, 101, 20, 7, 333]


def job(**fields: Any) -> Data:
    return data({"format": "digits"}, **fields)


def parts(splits: Splits) -> list[set[int]]:
    return [set(ids.tolist()) for ids in (splits.train, splits.select, splits.val)]


@pytest.mark.parametrize("num_val", [0, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_parts_are_disjoint_and_complete(num_val: int, seed: int) -> None:
    rows = rows_of(UNEVEN, num_val=num_val, num_unlabelled=40)
    splits = split(rows, job(label_fraction=0.7), seed)
    train, select, val = parts(splits)
    assert not train & select
    assert not train & val
    assert not select & val
    assert train | select | val == set(range(len(rows)))
    for ids in (splits.train, splits.select, splits.val, splits.labelled):
        assert ids.dtype == np.int64
        assert (np.diff(ids) > 0).all()
    labelled = set(splits.labelled.tolist())
    assert labelled < train
    assert set(splits.unlabelled.tolist()) == train - labelled
    for i in range(len(rows)):
        hidden = i in train - labelled
        assert splits.labels[i] == (-1 if hidden else rows.labels[i])


def test_numbers_are_exact() -> None:
    rows = rows_of([100] * 10)
    splits = split(rows, job(holdout=0.2, fraction=0.5, label_fraction=0.25, select=0.2), 0)
    assert facts(rows, splits).model_dump() == {
        "num_train": 380,  # 1,000 - 200 held out, half of these, less 20 of their 100 labelled ones
        "num_labelled": 80,
        "num_select": 20,
        "num_val": 200,
        "class_names": rows.class_names,
        "class_rows": (8,) * 10,
        "tiles": 1,
        "run": 0,
    }
    assert set(Counter(rows.labels[splits.val].tolist()).values()) == {20}
    assert set(Counter(splits.labels[splits.labelled].tolist()).values()) == {8}
    assert set(Counter(splits.labels[splits.select].tolist()).values()) == {2}


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_stratified(seed: int) -> None:
    rows = rows_of(UNEVEN, num_val=6)
    for share in (0.2, 0.5, 0.9):
        splits = split(rows, job(label_fraction=share, select=0), seed)
        assert len(splits.labelled) == round(share * sum(UNEVEN))
        counts = np.bincount(splits.labels[splits.labelled], minlength=len(UNEVEN))
        assert (np.abs(counts - share * np.array(UNEVEN)) < 2).all()


def test_small_classes_are_not_put_last() -> None:
    rows = rows_of([1000] + [1] * 400, num_val=401)
    train = split(rows, job(fraction=0.25, label_fraction=0), 0).train
    assert len(train) == 350
    assert abs(np.count_nonzero(rows.labels[train] == 0) - 250) <= 2


def test_equal_classes_get_equal_numbers() -> None:
    for share, each in [(0.1, {5}), (0.05, {2, 3}), (0.5, {25})]:
        splits = split(rows_of([50] * 20, num_val=20), job(label_fraction=share, select=0), 0)
        assert set(np.bincount(splits.labels[splits.labelled])) == each


def test_hold_out_takes_some_of_each_class_and_never_all() -> None:
    rows = rows_of([2, 2, 3, 500])
    for holdout in (0.001, 0.1, 0.5, 0.999):
        splits = split(rows, job(holdout=holdout, select=0), 0)
        held, left = (set(rows.labels[ids].tolist()) for ids in (splits.val, splits.train))
        assert held == left == {0, 1, 2, 3}
    chosen = split(rows_of([20, 20, 30, 5000]), job(select=0.001), 0).select
    assert len(chosen) == 5


def test_val_is_the_same_for_every_seed_and_share() -> None:
    rows = rows_of(UNEVEN)
    first = split(rows, job(), 0)
    for seed, fields in [(1, {}), (2, {"label_fraction": 0.5, "fraction": 0.8}), (3, {"select": 0})]:
        other = split(rows, job(**fields), seed)
        assert (other.val == first.val).all()
        assert (other.labels[other.val] == rows.labels[other.val]).all()
    assert (split(rows, job(), 1).select != first.select).any()
    assert (split(rows, job(split_seed=1), 0).val != first.val).any()
    own = rows_of(UNEVEN, num_val=12)
    assert (split(own, job(), 0).val == np.flatnonzero(own.is_val)).all()


@pytest.mark.parametrize("field", ["fraction", "label_fraction"])
def test_smaller_shares_are_subsets(field: str) -> None:
    rows = rows_of(UNEVEN, num_val=6)
    before: set[int] = set()
    for share in [i / 40 for i in range(8, 41)]:
        splits = split(rows, job(**{field: share}, select=0), 5)
        now = set((splits.train if field == "fraction" else splits.labelled).tolist())
        assert before <= now
        before = now
    assert len(before) == sum(UNEVEN)


def test_no_labels_need_no_rows_of_a_class() -> None:
    splits = split(rows_of([1, 1, 100], num_val=3), job(label_fraction=0, fraction=0.1), 0)
    assert (len(splits.train), len(splits.labelled), len(splits.select)) == (10, 0, 0)
    assert (splits.labels[splits.val] >= 0).all()
    assert len(split(rows_of([1, 1, 100]), job(label_fraction=0), 0).train) == 92


def error_of(rows: Rows, **fields: Any) -> tuple[str, str, str]:
    with pytest.raises(JobError) as caught:
        split(rows, job(**fields), 0)
    assert "\n" not in str(caught.value)
    return caught.value.field, caught.value.problem, caught.value.hint


@pytest.mark.parametrize("field", ["fraction", "label_fraction"])
@pytest.mark.parametrize("select", [0, 0.1])
def test_the_hint_names_the_smallest_value_that_does(field: str, select: float) -> None:
    rows = rows_of([30, 40, 300], num_val=3)
    where, problem, hint = error_of(rows, **{field: 0.004}, select=select)
    assert where == f"data.{field}"
    assert problem.startswith("0.004 leaves class 'class")
    assert problem.endswith("' without a row")
    value = float(hint.removeprefix(f"set data.{field}=").removesuffix(" or more"))
    split(rows, job(**{field: value}, select=select), 0)
    error_of(rows, **{field: value * 0.85}, select=select)


def test_the_hint_is_a_round_number() -> None:
    assert error_of(rows_of([50] * 20, num_val=20), label_fraction=0.01)[2] == "set data.label_fraction=0.04 or more"


def test_too_few_rows() -> None:
    assert error_of(rows_of([1, 50])) == (
        "data.holdout",
        "0.1 leaves class 'class0' without a row, it has one image only",
        "add images of it, or give a data.val",
    )
    assert error_of(rows_of([1, 50], num_val=2)) == (
        "data.select",
        "class 'class0' has one labelled row, too few to train on and to choose with",
        "set data.select=0",
    )
    field, _, hint = error_of(rows_of([20, 200], num_val=2), label_fraction=0.05)
    assert field == "data.select"
    assert hint.startswith("set data.select=0, or data.label_fraction=0.")
    field, _, hint = error_of(rows_of([20, 200], num_val=2), fraction=0.05)
    assert field == "data.select"
    assert hint.startswith("set data.select=0, or data.fraction=0.")


def test_without() -> None:
    splits = split(rows_of(UNEVEN), job(), 0)
    bad = np.array([splits.train[3], splits.select[0], splits.val[-1]])
    left = splits.without(bad)
    for before, after in zip(parts(splits), parts(left), strict=True):
        assert before - after == before & set(bad.tolist())
        assert len(before) == len(after) + 1
    assert (left.labels[bad] == -1).all()
    assert len(splits.without(np.array([], dtype=np.int64)).train) == len(splits.train)
    assert len(splits.labels) == len(left.labels)


def test_without_val_no_label_of_it_is_left() -> None:
    splits = split(rows_of(UNEVEN), job(), 0)
    left = splits.without_val()
    assert parts(left)[:2] == parts(splits)[:2]
    assert not len(left.val)
    assert (left.labels[splits.val] == -1).all()
    assert (left.labels[splits.select] == splits.labels[splits.select]).all()


def test_pickles_small() -> None:
    splits = split(rows_of([500] * 200), job(label_fraction=0.1), 0)
    text = pickle.dumps(splits)
    assert len(text) < 250_000
    again = pickle.loads(text)
    for name in ("train", "labels", "select", "val", "labelled"):
        before, after = getattr(splits, name), getattr(again, name)
        assert before.dtype == after.dtype
        assert (before == after).all()
