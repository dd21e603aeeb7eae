"""A second source without labels: its rows, and that no image of it is in another part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import data, write

from raymix.data.formats import fetch, index_data
from raymix.data.rows import Rows
from raymix.data.splits import split
from raymix.spec import Data, JobError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """labelled/{a,b} of six images each, val/{a,b} of two each, more/ of ten in folders of their own."""
    seed = 0
    for where, classes, num in (("labelled", "ab", 6), ("val", "ab", 2), ("more", "xyzuv", 2)):
        for name in classes:
            for number in range(num):
                write(tmp_path / where / name / f"{number}.png", seed := seed + 1)
    return tmp_path


def source(path: Path, format: str = "image_folder") -> dict[str, str]:
    return {"format": format, "path": str(path)}


def indexed(folders: Path, more: Path, **fields: object) -> tuple[Rows, Data]:
    spec = data(source(folders / "labelled"), unlabelled=source(more), **fields)
    return index_data(spec), spec


def test_its_labels_are_not_read(folders: Path) -> None:
    rows, _ = indexed(folders, folders / "more")
    assert rows.class_names == ("a", "b")
    assert len(rows) == 22
    assert rows.labels.tolist() == [0] * 6 + [1] * 6 + [-1] * 10
    assert rows.source_of.tolist() == [0] * 12 + [1] * 10
    assert [Path(uri).parent.name for uri in rows.uris[12:]] == [*"uuvvxxyyzz"]
    assert all(isinstance(raw, bytes) for raw in fetch(rows, np.arange(22)))


def test_rows_stand_between_training_and_validation(folders: Path) -> None:
    rows, spec = indexed(folders, folders / "more", val=source(folders / "val"))
    assert rows.is_val.tolist() == [False] * 22 + [True] * 4
    assert rows.labels[22:].tolist() == [0, 0, 1, 1]
    assert [Path(uri).parent.parent.name for uri in rows.uris[22:]] == ["val"] * 4
    splits = split(rows, spec, 0)
    assert set(range(12, 22)) <= set(splits.train.tolist())
    assert not set(range(12, 22)) & set(splits.labelled.tolist())
    assert not set(range(12, 22)) & {*splits.select.tolist(), *splits.val.tolist()}


def test_images_that_another_part_has_are_left_out(folders: Path) -> None:
    """A folder of everything, some of it labelled: val and select rows must not come back as unlabelled ones."""
    rows, _ = indexed(folders, folders, val=source(folders / "val"))
    assert len(set(rows.uris)) == len(rows) == 26
    assert rows.num_shared == 16
    with pytest.raises(JobError) as caught:
        indexed(folders, folders / "labelled")
    assert str(caught.value) == "data.unlabelled: all of its images are in data.train or data.val (leave it out)"


def test_its_own_validation_set_is_left_out(folders: Path, tiny_imagenet: Path) -> None:
    spec = data(source(folders / "labelled"), unlabelled=source(tiny_imagenet, "tiny_imagenet"))
    assert np.count_nonzero(index_data(spec).source_of == 1) == 4


def test_fraction_is_of_everything_and_label_fraction_of_the_labelled(folders: Path) -> None:
    rows, spec = indexed(folders, folders / "more", holdout=0.34, fraction=0.5, label_fraction=0.5, select=0)
    splits = split(rows, spec, 0)
    assert len(splits.val) == 4
    assert len(splits.train) == 9  # half of the eight labelled and ten unlabelled rows that are left
    assert len(splits.labelled) == 2
    assert np.count_nonzero(splits.train >= 12) == 5


def test_a_mistake_in_it_is_named(folders: Path) -> None:
    with pytest.raises(JobError, match=r"^data\.unlabelled\.path: no such folder: "):
        indexed(folders, folders / "moer")


def test_training_images_without_any_label_are_refused(folders: Path) -> None:
    with pytest.raises(JobError) as caught:
        index_data(data(source(folders / "more", "images")))
    assert str(caught.value) == (
        "data.train: its images have no labels (give a source that has some; without, it can be data.unlabelled)"
    )
    (folders / "more.csv").write_text("image,kind\nmore/u/0.png,a\n")
    with pytest.raises(JobError, match=r"no labels \(set data\.train\.label_column to the column that holds them\)$"):
        index_data(data(source(folders / "more.csv", "table")))
