"""A fingerprint of rows: what changes it, what does not, what it costs where there are many."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymix.data import fingerprint as module
from raymix.data.fingerprint import Fingerprint, changed, fingerprint, read_marks
from raymix.data.formats import FORMATS, index_source
from raymix.data.rows import Rows
from raymix.spec import DigitsSource, ImageFolderSource, NpzSource


def rows_at(folder: Path) -> Rows:
    return index_source(ImageFolderSource(format="image_folder", path=str(folder)), "data.train")


@pytest.fixture
def tree(image_tree: Callable[..., Path], tmp_path: Path) -> Path:
    return image_tree(tmp_path / "images")


def test_a_copy_elsewhere_is_the_same(tree: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tree, tmp_path / "elsewhere" / "deep"))
    before, now = fingerprint(rows_at(tree)), fingerprint(rows_at(copy))
    assert now.data == before.data
    assert (now.marks == before.marks).all()
    assert len(before.data.sample) == 32
    assert before.data.sized == 1
    assert changed(before, rows_at(copy)) is None


def test_labels_parts_and_order_count(tree: Path) -> None:
    rows = rows_at(tree)
    before = fingerprint(rows)
    labels = rows.labels.copy()
    labels[7] = 2
    assert str(changed(before, replace(rows, labels=labels))).startswith(f"row 7 ({rows.uris[7]}) is not the image")
    assert str(changed(before, replace(rows, is_val=np.arange(60) >= 59))).startswith("row 59 (")
    assert str(changed(before, rows.take(np.array([0, 1, 3, 2, *range(4, 60)])))).startswith("row 2 (")
    assert (
        changed(before, replace(rows, class_names=(*rows.class_names, "none"))) == "its classes are not what they were"
    )


def test_of_many_files_some_are_asked_for_their_size(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "_MOST_SIZES", 20)
    monkeypatch.setattr(module, "_size", lambda file: asked.append(file) or 1)
    before = fingerprint(rows_at(tree))
    assert before.data.sized == 3
    assert 5 < len(asked) < 40
    sized = set(asked)
    (tree / "class2" / "new.jpg").write_bytes(b"x")
    assert changed(before, rows_at(tree)) == f"row 60 ({tree}/class2/new.jpg) is new", "no other row has changed"
    assert sized == set(asked) - {f"{tree}/class2/new.jpg"}, "the same files are asked"


def test_rows_in_one_file_and_in_none(tmp_path: Path) -> None:
    pixels = np.arange(10 * 64, dtype=np.uint8).reshape(10, 8, 8)
    path = tmp_path / "a.npz"
    np.savez(path, images=pixels, labels=np.arange(10) % 2)
    source = NpzSource(format="npz", path=str(path))
    before = fingerprint(FORMATS["npz"].index(source))
    assert before.data.sized == 1
    pixels[0, 0, 0] += 1
    np.savez(path, images=pixels, labels=np.arange(10) % 2)
    assert str(changed(before, FORMATS["npz"].index(source))).startswith("row 0 (")
    digits = fingerprint(index_source(DigitsSource(format="digits"), "data.train"))
    assert (digits.data.rows, digits.data.sized) == (1797, 0)


def test_an_image_that_cannot_be_read_is_no_failure(tree: Path) -> None:
    rows = rows_at(tree)
    Path(rows.uris[0]).unlink()
    assert fingerprint(rows).data.sample[0] == "unreadable"


def test_marks_are_never_unpickled(tmp_path: Path, tree: Path) -> None:
    found = fingerprint(rows_at(tree))
    np.save(tmp_path / "marks.npy", found.marks, allow_pickle=False)
    assert (read_marks(tmp_path / "marks.npy") == found.marks).all()
    np.save(tmp_path / "objects.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_marks(tmp_path / "objects.npy")
    assert Fingerprint(found.data, found.marks).data.index == found.data.index
