"""Parquet as `datasets`, pandas and pyarrow write it; memory and reads stay bounded; what is wrong with a file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import error_of, hf_dataset, hf_parquet
from pictures import data, drawn, encoded

from raymix.data.decode import decode
from raymix.data.formats import fetch, index_data, index_source
from raymix.data.formats import parquet as parquet_format
from raymix.data.frame import Frame
from raymix.data.reading import read_part
from raymix.data.rows import Rows


def index(path: Any, **fields: Any) -> Rows:
    return index_data(data({"format": "parquet", "path": path if isinstance(path, list) else str(path), **fields}))


def write(path: Path, labels: Any, images: Any = None, **options: Any) -> Path:
    """A table of image bytes and labels, by pyarrow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [encoded(drawn(seed)) for seed in range(len(labels))] if images is None else images
    pq.write_table(pa.table({"image": images, "label": labels}), path, **options)
    return path


def test_what_datasets_wrote(tmp_path: Path) -> None:
    rows = index(hf_parquet(tmp_path / "rows.parquet", names=["dog", "cat"]))
    known = hf_dataset(["dog", "cat"])
    assert rows.class_names == ("dog", "cat")
    assert rows.labels.tolist() == known["label"]
    for raw, image in zip(fetch(rows, np.arange(len(rows))), known["image"], strict=True):
        assert isinstance(raw, bytes)
        assert (decode(raw, Frame(9)) == np.asarray(image)[:, 1:10]).all()


def test_classes_without_a_row_are_left_out(tmp_path: Path) -> None:
    rows = index(hf_parquet(tmp_path / "rows.parquet", names=["d", "c", "b", "a"], labels=[3, 1, -1, 3]))
    assert rows.class_names == ("c", "a")
    assert rows.labels.tolist() == [1, 0, -1, 1]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.large_binary()})])
def test_types_of_image_columns(tmp_path: Path, kind: Any) -> None:
    raws = [encoded(drawn(seed)) for seed in range(3)]
    values = [{"bytes": raw} for raw in raws] if pa.types.is_struct(kind) else raws
    rows = index(write(tmp_path / "rows.parquet", [0, 1, 1], pa.array(values, kind)))
    assert fetch(rows, np.arange(3)) == raws


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([10, 9, 2, 10], ("2", "9", "10"), [2, 1, 0, 2]),
        (pa.array([3, 7, 3], pa.uint8()), ("3", "7"), [0, 1, 0]),
        ([5, None, 6, -1], ("5", "6"), [0, -1, 1, -1]),
        (["b", "a", None, ""], ("a", "b"), [1, 0, -1, -1]),
        (pa.array(["b", "a", "b"], pa.large_string()), ("a", "b"), [1, 0, 1]),
        (pa.array(["b", "a", None]).dictionary_encode(), ("a", "b"), [1, 0, -1]),
        ([True, False, True], ("0", "1"), [1, 0, 1]),
        ([1.0, float("nan"), 0.0], ("0", "1"), [1, -1, 0]),
    ],
)
def test_types_of_label_columns(tmp_path: Path, labels: Any, names: tuple[str, ...], expected: list[int]) -> None:
    rows = index(write(tmp_path / "rows.parquet", labels))
    assert rows.class_names == names
    assert rows.labels.tolist() == expected


def test_what_pandas_wrote(tmp_path: Path) -> None:
    raws = [encoded(drawn(seed)) for seed in range(4)]
    frame = pd.DataFrame({"png": raws, "class": pd.Categorical(["x", "y", "x", "y"]), "lot": range(4)})
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = index(tmp_path / "rows.parquet")
    assert (rows.class_names, rows.labels.tolist()) == (("x", "y"), [0, 1, 0, 1])
    assert fetch(rows, np.arange(4)) == raws
    assert index(tmp_path / "rows.parquet", label_column="lot").class_names == ("0", "1", "2", "3")


def test_a_source_without_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"bytes": [encoded(drawn())] * 2}), tmp_path / "rows.parquet")
    spec = data({"format": "parquet", "path": str(tmp_path)}).train
    rows = index_source(spec, "data.unlabelled")
    assert (rows.class_names, rows.labels.tolist()) == ((), [-1, -1])
    assert "its images have no labels" in error_of({"format": "parquet", "path": str(tmp_path)})


# ---- many files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "left_out"),
    [
        ("train-00000-of-00002 train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"),
        ("train/0 train/1", "val/0", "test/0"),
        ("data/set-train-0", "data/set-valid-0", ""),
        ("part-0 part-1", "", ""),
        ("test-0 val-0", "", ""),
    ],
)
def test_validation_files_by_name(tmp_path: Path, train: str, val: str, left_out: str) -> None:
    for name in f"{train} {val} {left_out}".split():
        write(tmp_path / "here" / f"{name}.parquet", [0, 1])
    rows = index(tmp_path / "here")
    files = [str(Path(uri.rpartition("#")[0]).relative_to(tmp_path / "here")) for uri in rows.uris]
    assert [file for file, is_val in zip(files, rows.is_val, strict=True) if not is_val] == [
        f"{name}.parquet" for name in train.split() for _ in range(2)
    ]
    assert [file for file, is_val in zip(files, rows.is_val, strict=True) if is_val] == [
        f"{name}.parquet" for name in val.split() for _ in range(2)
    ]


def test_lists_and_patterns(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.parquet", [0, 1]) for name in ("train-0", "train-1", "val-0")]
    assert index([str(paths[2]), str(paths[0])]).is_val.tolist() == [False] * 4
    assert index(tmp_path / "train-*.parquet").is_val.tolist() == [False] * 4
    assert index(tmp_path / "*.parquet").is_val.tolist() == [False] * 4 + [True] * 2
    assert index(tmp_path / "train-{0..1}.parquet").uris == index(tmp_path / "train-*").uris


def test_rows_of_val_without_a_label_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", ["a", "b", None])
    write(tmp_path / "val.parquet", ["b", None, "a"])
    rows = index(tmp_path)
    assert rows.labels.tolist() == [0, 1, -1, 1, 0]
    assert rows.is_val.tolist() == [False] * 3 + [True] * 2
    assert rows.uris[-1].endswith("val.parquet#0:2")
    write(tmp_path / "val.parquet", [None, None])
    assert "label" in error_of({"format": "parquet", "path": str(tmp_path)})  # a column of no type is another type
    write(tmp_path / "val.parquet", pa.array([None, None], pa.string()))
    assert not index(tmp_path).is_val.any()


# ---- reading ----------------------------------------------------------------------------------------------------


def test_any_rows_in_any_order_from_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raws = [b"%05d" % i * 10 for i in range(3000)]
    monkeypatch.setattr(parquet_format, "_BATCH_BYTES", 5000)  # about a hundred rows, so that batches are crossed
    for part in range(2):
        rows_of_part = raws[1500 * part : 1500 * (part + 1)]
        write(tmp_path / f"{part}.parquet", [i % 2 for i in range(1500)], rows_of_part, row_group_size=700)
    rows = index(tmp_path)
    assert rows.run == 700
    assert fetch(rows, np.arange(3000)) == raws
    windows = [np.random.default_rng(seed).integers(0, 3000, 200) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for window, found in zip(windows, pool.map(lambda ids: fetch(rows, ids), windows), strict=True):
            assert found == [raws[i] for i in window]
    assert len(parquet_format._idle) <= 16


def test_a_large_row_group_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    raws = [noise.bytes(100_000) for _ in range(400)]
    # a page is what no reader can divide, and pyarrow cuts pages at 1,024 rows only unless told otherwise
    write(tmp_path / "rows.parquet", [i % 2 for i in range(400)], raws, write_batch_size=8, use_dictionary=False)
    rows = index(tmp_path)
    monkeypatch.setattr(parquet_format, "_idle", [])
    before, peak = pa.total_allocated_bytes(), 0
    for start in range(0, 400, 50):
        assert fetch(rows, np.arange(start, start + 50)) == raws[start : start + 50]
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 20_000_000 < 400 * 100_000


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [0, 1], [b"old", b"old"])
    rows = index(path)
    assert fetch(rows, np.arange(2)) == [b"old", b"old"]
    write(path, [0, 1], [b"newer", b"newer"])
    assert fetch(rows, np.arange(2)) == [b"newer", b"newer"]
    write(path, [0], [b"one"])
    raws = fetch(rows, np.arange(2))
    assert raws[0] == b"one"
    assert "has changed since it was indexed" in str(raws[1])


def test_rows_without_an_image_are_empty(tmp_path: Path) -> None:
    part = read_part(index(write(tmp_path / "a.parquet", [0, 1], [None, encoded(drawn())])), np.arange(2), Frame(8))
    assert part.skipped == {0: "empty"}
    struct = pa.array([{"bytes": None, "path": "x"}, None], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    assert fetch(index(write(tmp_path / "b.parquet", [0, 1], struct)), np.arange(2)) == [b"", b""]


def test_index_reads_no_image_and_a_broken_page_costs_its_rows_alone(tmp_path: Path) -> None:
    raws = [np.random.default_rng(i).bytes(2000) for i in range(40)]
    path = write(tmp_path / "rows.parquet", [i % 2 for i in range(40)], raws, row_group_size=20, use_dictionary=False)
    column = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 64] = b"\xff" * 64
    path.write_bytes(content)
    rows = index(path)
    assert len(rows) == 40
    found = fetch(rows, np.arange(40))
    assert all(isinstance(raw, OSError) for raw in found[:20])
    assert found[20:] == raws[20:]
    path.write_bytes(content[:-100])
    assert all(isinstance(raw, OSError) for raw in fetch(rows, np.arange(40)))
    path.unlink()
    assert all(isinstance(raw, FileNotFoundError) for raw in fetch(rows, np.arange(40)))


# ---- mistakes ---------------------------------------------------------------------------------------------------


def test_wrong_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [0, 1])

    def error(**fields: Any) -> str:
        return error_of({"format": "parquet", "path": str(path), **fields})

    assert error(image_column="imag") == (
        f"data.train.image_column: {path} has no column 'imag' (did you mean 'image'?)"
    )
    assert error(label_column="species").endswith("has no column 'species' (it has 'image', 'label')")
    assert "column 'label' of" in error(image_column="label")
    assert "is int64, not the bytes of images" in error(image_column="label")
    assert "is binary, not one label an image" in error(label_column="image")
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "label": [0, 1]}), path)
    assert error().endswith("is string, not the bytes of images (for paths of files use format table)")
    pq.write_table(pa.table({"picture": [b"", b""], "label": [0, 1]}), path)
    assert error().endswith("has no column 'image' (it has 'picture', 'label')")
    write(path, [0.5, 1.0])
    assert "holds 0.5, which is no class" in error()
    latin = pa.array([b"caf\xe9", b"b"]).view(pa.string())
    write(path, latin)
    assert error() == f"data.train.label_column: {path} has a label that is not UTF-8 text (write it as UTF-8)"
    hf_parquet(path, names=["a", "b"])
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "label", pa.array([0, 1, 2, 1, 0, 1])), path)
    assert "holds label 2, but 2 class names" in error()


def test_wrong_files(tmp_path: Path) -> None:
    def error(path: Path | None = None) -> str:
        return error_of({"format": "parquet", "path": str(path or tmp_path / "here")})

    assert "no such file or folder" in error()
    first = write(tmp_path / "here" / "train-0.parquet", [0, 1])
    second = write(tmp_path / "here" / "train-1.parquet", ["a", "b"])
    assert error() == (
        f"data.train.path: {second} has 'label' of type string where {first} has 'label' of type int64 "
        "(one source needs files of one kind)"
    )
    second.write_bytes(first.read_bytes()[:-50])
    assert error().startswith(f"data.train.path: {second} is not a whole Parquet file: ")
    second.write_bytes(b"")
    assert f"{second} is not a whole Parquet file" in error()
    write(second, [0, 1]).rename(tmp_path / "here" / "more.parquet")
    assert "more.parquet is named neither train nor val nor test" in error()
    (tmp_path / "here" / "more.parquet").rename(tmp_path / "here" / "val-0.parquet")
    write(tmp_path / "here" / "val-0.parquet", [0, 2])
    assert "has class '2', unknown to the training set" in error()
    assert "hold no row" in error(
        write(tmp_path / "empty.parquet", pa.array([], pa.int64()), pa.array([], pa.binary()))
    )
    hf_parquet(tmp_path / "names" / "train-0.parquet", names=["a", "b"])
    hf_parquet(tmp_path / "names" / "train-1.parquet", names=["b", "a"])
    assert "train-1.parquet names other classes than" in error(tmp_path / "names")
