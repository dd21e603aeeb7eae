"""Which rows train, choose and judge: val, then data.fraction, then data.label_fraction, then select, all stratified.

Every cut takes the first rows of a random order whose every prefix is stratified (see `_order`), so totals are exact
and a smaller share with the same seed is a subset of a larger one. Where rows have groups (data.group), val and select
are whole ones (see `raymix.data.choose`), and nothing else of those groups is in any part: no image without a label,
none that hides it. `fraction` and `label_fraction`, which judge nothing, cut through groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymix.data.choose import whole_groups
from raymix.data.kept import Kept, find
from raymix.data.rows import Ids, Rows
from raymix.plan import Facts
from raymix.report.run import GroupRows
from raymix.spec import Data, JobError

# one random stream a purpose
_HOLDOUT, _FRACTION, _LABELS, _SELECT = 1, 2, 3, 4


@dataclass(frozen=True, eq=False)
class Splits:
    """The rows of each part; no row is in two of them.

    Attributes:
        train: int64 row ids, sorted; SSL sees all of them, SL the `labelled` ones.
        labels: int64 for ALL rows, -1 where a row has no label, hides it, or is in no part.
        select: int64 row ids, sorted; labelled rows kept for choosing.
        val: int64 row ids, sorted.
    """

    train: Ids
    labels: Ids
    select: Ids
    val: Ids

    @property
    def labelled(self) -> Ids:
        """Training rows that carry a label, sorted."""
        return self.train[self.labels[self.train] >= 0]

    @property
    def unlabelled(self) -> Ids:
        """Training rows that have no label or hide it, sorted."""
        return self.train[self.labels[self.train] < 0]

    def without(self, bad_ids: Ids) -> Splits:
        """The same parts without some rows, such as unreadable images."""

        def left(ids: Ids) -> Ids:
            return ids[~np.isin(ids, bad_ids)]

        labels = self.labels.copy()
        labels[bad_ids] = -1
        return Splits(train=left(self.train), labels=labels, select=left(self.select), val=left(self.val))

    def without_val(self) -> Splits:
        """The same parts without val, whose labels are hidden too: for what must not see it."""
        labels = self.labels.copy()
        labels[self.val] = -1
        return Splits(train=self.train, labels=labels, select=self.select, val=self.val[:0])

    def __reduce__(self) -> tuple[Callable[..., Splits], tuple[Any, ...]]:
        # travels to every worker: one bit a row and part, and the labels in the smallest type
        parts = tuple(_bits(ids, len(self.labels)) for ids in (self.train, self.select, self.val))
        smallest = np.min_scalar_type(-1 - int(self.labels.max(initial=0)))
        return _unpacked, (*parts, self.labels.astype(smallest))


def _bits(ids: Ids, num_rows: int) -> NDArray[np.uint8]:
    mask = np.zeros(num_rows, dtype=np.bool_)
    mask[ids] = True
    return np.packbits(mask)


def _unpacked(
    train: NDArray[np.uint8], select: NDArray[np.uint8], val: NDArray[np.uint8], labels: NDArray[Any]
) -> Splits:
    train_ids, select_ids, val_ids = (
        np.flatnonzero(np.unpackbits(bits, count=len(labels))).astype(np.int64) for bits in (train, select, val)
    )
    return Splits(train=train_ids, labels=labels.astype(np.int64), select=select_ids, val=val_ids)


def split(rows: Rows, data: Data, seed: int, kept: Kept | None = None) -> Splits:
    """Cut the rows into parts; val depends on data.split_seed, everything else on `seed` as well.

    With `kept`, select and val are those of an earlier run (`data.keep_splits`), as far as they are there.

    With data.label_fraction 0 no labels are needed, so no class needs a row and select is empty.

    Raises:
        JobError: a class is left without a row; the hint names the smallest value that would do.
    """
    try:
        return _split(rows, data, seed, kept)
    except _TooFewError as short:
        raise _explained(short, rows, data, seed, kept) from None


def facts(rows: Rows, splits: Splits, run: int = 0) -> Facts:
    """What the plan needs to know of them; `run` as `Facts` has it."""
    class_images = np.bincount(splits.labels[splits.labelled], minlength=len(rows.class_names))
    return Facts(
        num_train=rows.tiles * len(splits.train),
        num_labelled=rows.tiles * len(splits.labelled),
        num_select=len(splits.select),
        num_val=len(splits.val),
        class_names=rows.class_names,
        class_rows=tuple((rows.tiles * class_images).tolist()),
        tiles=rows.tiles,
        run=run,
    )


def group_rows(rows: Rows, splits: Splits) -> GroupRows | None:
    """How many groups each part has; None where rows stand each for itself."""
    if rows.groups is None:
        return None
    of = {name: np.unique(rows.groups[getattr(splits, name)]) for name in ("train", "select", "val")}
    judging = np.isin(rows.groups, np.concatenate([of["select"], of["val"]]))
    judging[np.concatenate([splits.select, splits.val])] = False

    def lacking(ids: Ids) -> tuple[str, ...]:
        counts = np.bincount(splits.labels[ids], minlength=len(rows.class_names))
        return tuple(name for name, count in zip(rows.class_names, counts, strict=True) if len(ids) and not count)

    return GroupRows(
        **{name: len(found) for name, found in of.items()},
        left_out=int(judging.sum()),
        select_lacks=lacking(splits.select),
        val_lacks=lacking(splits.val),
    )


# ---- the cuts ---------------------------------------------------------------------------------------------------


class _TooFewError(Exception):
    """A class has too few rows for a cut, or after one."""

    def __init__(self, field: str, label: int) -> None:
        self.field, self.label = field, label


def _split(rows: Rows, data: Data, seed: int, kept: Kept | None) -> Splits:
    needs_labels = data.label_fraction > 0
    train = np.flatnonzero(~rows.is_val).astype(np.int64)
    select = np.empty(0, dtype=np.int64)
    if kept is not None:
        found = find(kept, rows)
        _, select, val = found.parts
        train = _outside(rows, train[~found.apart[train]], np.concatenate([select, val]))
    elif rows.is_val.any():
        val = np.flatnonzero(rows.is_val).astype(np.int64)
        train = _outside(rows, train, val)
    else:
        _check(rows, train, "holdout", at_least=_needed(rows) if needs_labels else 0)
        val, train = _carved(rows, train, train, "holdout", data.holdout, [data.split_seed, _HOLDOUT])

    train = _share(rows.labels, train, data.fraction, [seed, _FRACTION])
    _check(rows, train, "fraction", at_least=int(needs_labels))

    has_label = train[rows.labels[train] >= 0]
    labelled = _share(rows.labels, has_label, data.label_fraction, [seed, _LABELS])
    _check(rows, labelled, "label_fraction", at_least=int(needs_labels))

    if not needs_labels:
        select = select[:0]
    elif kept is None and data.select:
        _check(rows, labelled, "select", at_least=_needed(rows))
        select, train = _carved(rows, train, labelled, "select", data.select, [seed, _SELECT])

    labels = np.full(len(rows), -1, dtype=np.int64)
    for ids in (labelled, select, val):
        labels[ids] = rows.labels[ids]
    return Splits(train=train, labels=labels, select=select, val=val)


def _needed(rows: Rows) -> int:
    """Rows of a class that a cut in two needs; which classes whole groups leave where, `whole_groups` sees to."""
    return 2 if rows.groups is None else 1


def _carved(rows: Rows, ids: Ids, among: Ids, field: str, share: float, seed: list[int]) -> tuple[Ids, Ids]:
    """A share of the labelled rows of `among` that are kept to judge, and what of `ids` is left to train on."""
    if rows.groups is None:
        kept = _some_of_each(rows.labels, among, share, seed)
        return kept, np.setdiff1d(ids, kept, assume_unique=True)
    labelled = among[rows.labels[among] >= 0]
    groups, labels = rows.groups[labelled], rows.labels[labelled]
    taken = whole_groups(groups, labels, share, seed)
    if not len(taken):
        pairs = np.unique(np.stack([labels, groups]), axis=1)
        raise _TooFewError(field, int(np.bincount(pairs[0]).argmin()))
    kept = labelled[np.isin(groups, taken)]
    return kept, _outside(rows, ids, kept)


def _outside(rows: Rows, ids: Ids, judging: Ids) -> Ids:
    """Those of `ids` that are in no group of the rows that judge."""
    return ids if rows.groups is None else ids[~np.isin(rows.groups[ids], rows.groups[judging])]


def _check(rows: Rows, ids: Ids, field: str, at_least: int) -> None:
    """Every class has that many rows among `ids`."""
    labels = rows.labels[ids]
    counts = np.bincount(labels[labels >= 0], minlength=len(rows.class_names))
    if counts.min() < at_least:
        raise _TooFewError(field, int(counts.argmin()))


def _share(labels: Ids, ids: Ids, share: float, seed: list[int]) -> Ids:
    """round(share * len(ids)) of `ids`, stratified by label, sorted."""
    if share == 1:
        return ids
    return np.sort(ids[_order(labels[ids], seed)[: round(share * len(ids))]])


def _some_of_each(labels: Ids, ids: Ids, share: float, seed: list[int]) -> Ids:
    """A stratified share of the labelled rows of `ids`, sorted: at least one row of each class, never all of one.

    Of a class with a single row, none.
    """
    ids = ids[labels[ids] >= 0]
    sizes = np.bincount(labels[ids])
    lowest, highest = np.count_nonzero(sizes > 1), len(ids) - np.count_nonzero(sizes)
    count = min(max(round(share * len(ids)), lowest), highest)
    return np.sort(ids[_order(labels[ids], seed, spare_one=True)[:count]])


def _order(labels: Ids, seed: list[int], spare_one: bool = False) -> Ids:
    """A random order of the positions of `labels` (count,) whose every prefix is stratified.

    The r-th random row of a class of n comes at (r + u) / n, with u in (0, 1) spread evenly over the classes at
    random. So every prefix holds each class's share to within about a row, small classes are not put last, and
    unlike with largest remainders no class ever loses a row when the total grows. `spare_one`: the first row of each
    class goes to the front and its last one to the end.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(labels))
    by_class = drawn[np.argsort(labels[drawn], kind="stable")]
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    offsets = (generator.permutation(len(sizes)) + 0.5) / max(1, len(sizes))
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)
    size = np.repeat(sizes, sizes)
    key = (rank + np.repeat(offsets, sizes)) / size
    if spare_one:
        key[rank == 0] = 0.0
        key[rank == size - 1] = 1.0
    return by_class[np.argsort(key, kind="stable")]


# ---- what would do instead --------------------------------------------------------------------------------------


def _explained(short: _TooFewError, rows: Rows, data: Data, seed: int, kept: Kept | None) -> JobError:
    """The user's error for a class with too few rows, with a value that was tried and does."""
    name = rows.class_names[short.label]
    if rows.groups is not None and short.field in ("holdout", "select"):
        problem = f"no whole group can be kept: each holds all rows of a class, as of {name!r}"
        other = "give a data.val" if short.field == "holdout" else "set data.select=0"
        return JobError(f"data.{short.field}", problem, f"add images of other groups, or {other}")
    problem = f"{getattr(data, short.field)} leaves class {name!r} without a row"
    if short.field == "holdout":
        return JobError("data.holdout", f"{problem}, it has one image only", "add images of it, or give a data.val")
    if short.field == "select":
        problem = f"class {name!r} has one labelled row, too few to train on and to choose with"
    ways = ["data.select=0"] if short.field == "select" else []
    for field in ("label_fraction", "fraction") if short.field != "fraction" else ("fraction",):
        value = _smallest(field, rows, data, seed, kept)
        if value is not None:
            ways.append(f"data.{field}={value:g} or more")
            break
    return JobError(f"data.{short.field}", problem, "set " + ", or ".join(ways) if ways else "add images of it")


def _smallest(field: str, rows: Rows, data: Data, seed: int, kept: Kept | None) -> float | None:
    """About the smallest share at which no class is short of rows, two digits; None: not even 1 does.

    Found by trying: the cuts that follow have a say in it, too.
    """

    def does(share: float) -> bool:
        try:
            _split(rows, data.model_copy(update={field: share}), seed, kept)
        except _TooFewError:
            return False
        return True

    if not does(1.0):
        return None
    low, high = 0.5 / len(rows), 1.0  # `low` is too small, `high` does
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if does(middle) else (middle, high)
    unit = 10.0 ** (math.floor(math.log10(high)) - 1)
    for rounded in (math.floor(high / unit) * unit, math.ceil(high / unit) * unit):
        if does(share := float(f"{min(1.0, rounded):g}")):
            return share
    return 1.0
