"""The splits of an earlier run: names that stay, what is found again, and what is cut from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymix.data.kept import Parts, find, names_of, read_splits, write_splits
from raymix.data.rows import Rows
from raymix.data.splits import split
from raymix.spec import Data, DigitsSource, ImageFolderSource, ParquetSource, Source

DIGITS = DigitsSource(format="digits")


def rows_of(source: Source, uris: Sequence[str], num_train: int | None = None, names: Sequence[str] = "ab") -> Rows:
    labels = [number % 2 for number in range(len(uris))]
    return Rows.of(source, uris, labels, tuple(names), len(uris) if num_train is None else num_train)


def digits(ids: Sequence[int], names: Sequence[str] = "ab") -> Rows:
    return rows_of(DIGITS, [f"digits:{number}" for number in ids], names=names)


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ("/a/oct", "/b/nov", True),  # names below the folder
        ("/a/oct/", "/a/oct", True),
        ("s3://one/oct", "s3://two/nov/", True),
        ("/a/oct/*.parquet", "/b/oct/{train,more}-*.parquet", True),  # below what stands before the pattern
        (["/a/oct"], ["/b/oct"], False),  # of a list whole
    ],
)
def test_names_are_those_below_the_source(before: str | list[str], now: str | list[str], same: bool) -> None:
    def names(path: str | list[str]) -> list[int]:
        first = path if isinstance(path, str) else path[0]
        folder = first.partition("*")[0].partition("{")[0].rstrip("/")
        source = ParquetSource(format="parquet", path=path)
        return names_of(rows_of(source, [f"{folder}/x.parquet#0:{number}" for number in range(3)])).tolist()

    assert len(set(names(before))) == 3
    assert (names(before) == names(now)) == same


def test_a_row_of_the_validation_set_is_not_that_of_the_training_set() -> None:
    source = ImageFolderSource(format="image_folder", path="/data")
    first, second = (
        names_of(rows_of(source, ["/data/a.jpg", "/data/b.jpg"], num_train=1)),
        names_of(rows_of(source, ["/data/a.jpg", "/data/b.jpg"])),
    )
    assert (first[0] == second[0], first[1] == second[1]) == (True, False)


@pytest.fixture
def kept_in(tmp_path: Path) -> Path:
    """A run's folder: digits 0 to 99, of which 0 to 9 are val, 10 to 14 select, and 90 to 99 took no part."""
    rows, ids = digits(range(100)), np.arange(100, dtype=np.int64)
    labels = np.where(ids % 3 == 0, -1, rows.labels)  # hidden
    labels[:15] = rows.labels[:15]
    write_splits(tmp_path, rows, Parts(ids[15:90], ids[10:15], ids[:10]), labels)
    return tmp_path


def test_rows_are_found_again_in_another_order(kept_in: Path) -> None:
    kept = read_splits(kept_in, "it")
    rows = digits([*range(120, 60, -1), *range(5, 20)])
    found = find(kept, rows)
    number = [int(uri.removeprefix("digits:")) for uri in rows.uris]
    for part, expected in zip(found.parts, (range(15, 90), range(10, 15), range(10)), strict=True):
        assert [number[row] for row in part] == [n for n in number if n in expected]
        assert (np.diff(part) > 0).all()
    assert (found.val_gone, found.select_gone) == (5, 0)
    assert [n for n, known in zip(number, found.known, strict=True) if not known] == list(range(120, 89, -1))
    assert found.label[number.index(63)] == -1
    assert found.label[number.index(61)] == 1


def test_all_other_rows_train_and_shares_are_of_them_alone(kept_in: Path) -> None:
    kept, rows = read_splits(kept_in, "it"), digits(range(200))
    data = Data(train=DIGITS, holdout=0.5, select=0.5)
    parts = split(rows, data, seed=3, kept=kept)
    assert (parts.val.tolist(), parts.select.tolist()) == (list(range(10)), list(range(10, 15)))
    assert parts.train.tolist() == list(range(15, 200))
    assert (parts.labels[:15] == rows.labels[:15]).all()
    half = split(rows, data.model_copy(update={"fraction": 0.4, "label_fraction": 0.5}), seed=3, kept=kept)
    assert (half.val.tolist(), half.select.tolist()) == (parts.val.tolist(), parts.select.tolist())
    assert (len(half.train), len(half.labelled)) == (74, 37)
    none = split(rows, data.model_copy(update={"label_fraction": 0.0}), seed=3, kept=kept)
    assert (len(none.select), none.train.tolist()) == (0, parts.train.tolist())


def test_a_row_without_a_label_neither_chooses_nor_judges_nor_trains(kept_in: Path) -> None:
    rows = digits(range(100))
    rows.labels[3] = -1
    found = find(read_splits(kept_in, "it"), rows)
    assert (3 in found.parts.val, found.val_gone) == (False, 1)
    parts = split(rows, Data(train=DIGITS), seed=0, kept=read_splits(kept_in, "it"))
    assert 3 not in np.concatenate([parts.train, parts.select, parts.val])
    # nor does it after a second such run, or when that one is resumed
    later = kept_in / "later"
    later.mkdir()
    write_splits(later, rows, Parts(parts.train, parts.select, parts.val), parts.labels, np.array([3]))
    again = split(rows, Data(train=DIGITS), seed=0, kept=read_splits(later, "it"))
    assert [part.tolist() for part in (again.train, again.select, again.val)] == [
        part.tolist() for part in (parts.train, parts.select, parts.val)
    ]


def test_new_rows_of_a_group_that_judges_do_not_train(kept_in: Path) -> None:
    """Digits 100 to 109 are of the lot of val row 3, 110 to 119 of a lot that trains."""
    rows = digits(range(120))
    lots = np.arange(120)
    lots[100:110], lots[110:] = 3, 50
    grouped = replace(rows, groups=lots, group_names=tuple(map(str, range(120))))
    data = Data(train=DIGITS, keep_splits=str(kept_in))
    kept = read_splits(kept_in, "it")
    alone, whole = split(rows, data, 0, kept), split(grouped, data, 0, kept)
    assert set(alone.train) - set(whole.train) == set(range(100, 110))
    assert whole.val.tolist() == alone.val.tolist() == list(range(10))
