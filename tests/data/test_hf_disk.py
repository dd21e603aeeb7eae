"""Datasets as the package `datasets` saves them to disk, read without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from containers import LABELS, error_of, hf_dataset, hf_disk
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_from_disk
from pictures import data, drawn, encoded, write

from raymix.data.decode import decode
from raymix.data.formats import fetch, index_data
from raymix.data.frame import Frame
from raymix.data.rows import Ids, Rows


def index(path: Path, **fields: Any) -> Rows:
    return index_data(data({"format": "hf_disk", "path": str(path), **fields}))


def check(rows: Rows, ids: Ids, known: Any) -> None:
    """The rows have the labels and pixels that `datasets` reads."""
    assert rows.labels[ids].tolist() == known["label"]
    for raw, image in zip(fetch(rows, ids), known["image"], strict=True):
        assert isinstance(raw, bytes)
        assert (decode(raw, Frame(9)) == np.asarray(image)[:, 1:10]).all()


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_dataset(tmp_path: Path, num_shards: int) -> None:
    hf_dataset(["dog", "cat"]).save_to_disk(tmp_path / "saved", num_shards=num_shards)
    rows = index(tmp_path / "saved")
    assert rows.class_names == ("dog", "cat")
    assert not rows.is_val.any()
    check(rows, np.arange(6), load_from_disk(tmp_path / "saved"))
    reverse = np.arange(6)[::-1]
    assert fetch(rows, reverse) == fetch(rows, np.arange(6))[::-1]


@pytest.mark.parametrize(
    ("splits", "fields", "val"),
    [
        ("train test", {}, "test"),
        ("train test validation", {}, "validation"),
        ("train test validation", {"val_split": "test"}, "test"),
        ("train test", {"val_split": "none"}, None),
        ("train", {}, None),
        ("big test", {"split": "big"}, "test"),
        ("train test", {"split": "test"}, None),
    ],
)
def test_splits(tmp_path: Path, splits: str, fields: dict[str, str], val: str | None) -> None:
    made = {name: hf_dataset(labels=[0, 1, 0, 1][: 2 + i]) for i, name in enumerate(splits.split())}
    DatasetDict(made).save_to_disk(tmp_path / "saved")
    rows = index(tmp_path / "saved", **fields)
    known = load_from_disk(tmp_path / "saved")
    check(rows, np.flatnonzero(~rows.is_val), known[fields.get("split", "train")])
    if val:
        check(rows, np.flatnonzero(rows.is_val), known[val])
    else:
        assert not rows.is_val.any()


def test_selected_and_shuffled(tmp_path: Path) -> None:
    hf_dataset().shuffle(seed=3).select(range(4)).save_to_disk(tmp_path / "saved")
    check(index(tmp_path / "saved"), np.arange(4), load_from_disk(tmp_path / "saved"))


def test_selected_as_older_releases_saved_it(tmp_path: Path) -> None:
    hf_dataset().save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))

    def indices(rows: list[int]) -> None:
        table = pa.table({"indices": pa.array(rows, pa.uint64())})
        path = str(tmp_path / "saved" / "indices.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    indices([5, 0, 3])
    check(index(tmp_path / "saved"), np.arange(3), hf_dataset().select([0, 3, 5]))
    for rows in ([5, 0, 5], [0, 6]):
        indices(rows)
        assert "names a row twice, or one that is not there" in error_of(
            {"format": "hf_disk", "path": str(tmp_path / "saved")}
        )


def test_columns(tmp_path: Path) -> None:
    names = {"kind": ClassLabel(names=["x", "y"]), "photo": Image(), "mask": Value("binary"), "lot": Value("string")}
    rows = {"kind": LABELS, "photo": [drawn(i) for i in range(6)], "mask": [b"m"] * 6, "lot": list("ppqqrr")}
    Dataset.from_dict(rows, features=Features(names)).save_to_disk(tmp_path / "saved")
    found = index(tmp_path / "saved")
    assert (found.class_names, found.labels.tolist()) == (("x", "y"), LABELS)
    assert (decode(fetch(found, np.array([4]))[0], Frame(9)) == np.asarray(drawn(4))[:, 1:10]).all()  # type: ignore[arg-type]
    found = index(tmp_path / "saved", image_column="mask", label_column="lot")
    assert (found.class_names, found.labels.tolist()) == (("p", "q", "r"), [0, 0, 1, 1, 2, 2])
    assert fetch(found, np.array([4])) == [b"m"]


def test_images_that_stayed_in_their_files(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{i}.png", i)) for i in range(2)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    struct = pa.array([{"bytes": None, "path": path} for path in [*paths, None]], kind)
    Dataset(pa.table({"image": struct, "label": [0, 1, 0]})).save_to_disk(tmp_path / "saved")
    rows = index(tmp_path / "saved")
    assert fetch(rows, np.arange(3)) == [encoded(drawn(0)), encoded(drawn(1)), b""]
    Path(paths[0]).unlink()
    assert [type(raw) for raw in fetch(rows, np.arange(3))] == [FileNotFoundError, bytes, bytes]


def test_a_file_that_changed(tmp_path: Path) -> None:
    saved = hf_disk(tmp_path / "saved")
    rows = index(saved)
    known = fetch(rows, np.arange(len(rows)))
    path = Path(rows.uris[0].rpartition("#")[0])
    whole = path.read_bytes()
    path.rename(tmp_path / "kept")  # a map of the old file stays what it was
    path.write_bytes(whole[:-300])
    found = fetch(rows, np.arange(len(rows)))
    assert all(isinstance(raw, OSError) for raw in found[:3])
    assert found[3:] == known[3:]
    path.unlink()
    assert isinstance(fetch(rows, np.array([0]))[0], FileNotFoundError)


def test_places_that_lead_out_of_the_file_do_not_end_the_process(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    hf_dataset().save_to_disk(saved)
    rows = index(saved)
    path = Path(rows.uris[0].rpartition("#")[0])
    whole = path.read_bytes()
    images = load_from_disk(saved).data.column("image").chunk(0).field("bytes")
    offsets = bytes(images.buffers()[1])[:28]  # of six values
    assert whole.count(offsets) == 1
    path.unlink()  # else the map of the old file changes with it
    path.write_bytes(whole.replace(offsets, b"\xff\xff\xff\x7f" * 7))
    assert all(isinstance(raw, OSError) for raw in fetch(rows, np.arange(6)))


# ---- mistakes ---------------------------------------------------------------------------------------------------


def test_mistakes(tmp_path: Path) -> None:
    saved = hf_disk(tmp_path / "saved")

    def error(**fields: str) -> str:
        return error_of({"format": "hf_disk", "path": str(saved), **fields})

    assert error(split="trian").endswith("has no split 'trian' (did you mean 'train'?)")
    assert error(split="x").startswith("data.train.split: ")
    assert error(val_split="x") == f"data.train.val_split: {saved} has no split 'x' (it has train, test)"
    assert "'train' is the training split too" in error(val_split="train")
    assert "has no column 'labl' (did you mean 'label'?)" in error(label_column="labl")
    assert "no such folder" in error(path=f"{tmp_path}/savd")
    (tmp_path / "bare").mkdir()
    assert "holds neither state.json nor dataset_dict.json (name the folder" in error(path=str(tmp_path / "bare"))
    (tmp_path / "bare" / "x.parquet").write_bytes(b"")
    assert error(path=str(tmp_path / "bare")).endswith("(set the source's format to parquet)")
    arrow = saved / "train" / "data-00001-of-00002.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-300])
    assert error().startswith(f"data.train.path: {arrow} cannot be read: ")
    arrow.write_bytes(b"")
    assert error().startswith(f"data.train.path: {arrow} cannot be read: ")
    arrow.unlink()
    assert error().startswith(f"data.train.path: {arrow} cannot be read: No such file")
    (saved / "train" / "state.json").write_text("{")
    assert "state.json cannot be read: not JSON" in error()
    (saved / "train" / "state.json").unlink()
    assert "state.json cannot be read: No such file or directory" in error()


def test_a_column_that_holds_no_image_files(tmp_path: Path) -> None:
    Dataset.from_dict({"image": [[[1, 2], [3, 4]]] * 2, "label": [0, 1]}).save_to_disk(tmp_path / "saved")
    text = error_of({"format": "hf_disk", "path": str(tmp_path / "saved")})
    assert text.startswith("data.train.image_column: column 'image' of ")
    assert "not the bytes of images (binary, or a struct with a binary field 'bytes')" in text
