"""Tables of images and labels: what is read from CSV, TSV and JSONL, where images are, and what is said of mistakes."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import data, write

from raymix.data.formats import fetch, index_data, index_source
from raymix.data.frame import Frame
from raymix.data.reading import read_part
from raymix.data.rows import Rows
from raymix.spec import JobError, TableSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in a folder and below it."""
    for seed, name in enumerate(("1.png", "2.png", "3.png", "sub/4.png", "sub/5 b.png", "sub/ü.png")):
        write(tmp_path / "pics" / name, seed)
    return tmp_path / "pics"


def rows_of(path: Path, **fields: Any) -> Rows:
    return index_source(TableSource(format="table", path=str(path), **fields), "data.train")


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def labels(rows: Rows) -> list[str | None]:
    return [None if code < 0 else rows.class_names[code] for code in rows.labels]


def problem(path: Path, **fields: Any) -> str:
    with pytest.raises(JobError) as caught:
        rows_of(path, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is read -----------------------------------------------------------------------------------------------


def test_csv(folder: Path) -> None:
    rows = rows_of(table(folder, "file_name,label\n1.png,dog\n2.png,cat\nsub/4.png,dog\n3.png,\n"))
    assert rows.uris == tuple(f"{folder}/{name}" for name in ("1.png", "2.png", "sub/4.png", "3.png"))
    assert rows.class_names == ("cat", "dog")
    assert rows.labels.tolist() == [1, 0, 1, -1]
    assert not rows.is_val.any()
    raws = fetch(rows, np.arange(4))
    assert raws[2] == (folder / "sub" / "4.png").read_bytes()


def test_what_the_csv_module_writes(folder: Path) -> None:
    odd = folder / 'a "b", c\nd.png'
    write(folder / "x.png").rename(odd)
    for dialect in ("excel", "unix", "excel-tab"):
        path = folder / ("t.tsv" if dialect == "excel-tab" else "t.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, dialect)
            writer.writerows([("image", "label"), (odd.name, 'a "class", odd'), ("sub/ü.png", "größe"), ("1.png", "")])
        rows = rows_of(path)
        assert rows.uris == (str(odd), f"{folder}/sub/ü.png", f"{folder}/1.png")
        assert labels(rows) == ['a "class", odd', "größe", None]


@pytest.mark.parametrize(
    "text",
    [
        "file_name,label\n1.png,a\n2.png,b\n",
        "file_name,label\r\n1.png,a\r\n2.png,b\r\n",
        "\ufefffile_name,label\n1.png,a\n2.png,b",
        "file_name,label\n\n1.png,a\n\n2.png,b\n\n",
        "file_name;label\n1.png;a\n2.png;b\n",
        "file_name\tlabel\n1.png\ta\n2.png\tb\n",
        'id, file_name , label\n7, 1.png, a \n8, "2.png", b\n',
        "label,file_name,note\na,./1.png,x\nb,sub/../2.png,\n",
        "Label,File_Name\na,1.png\nb,2.png\n",
        "class,path,image\na,no,1.png\nb,no,2.png\n",
        "target,filename\na,1.png\nb,2.png\n",
        "category,image_path\na,1.png\nb,2.png\n",
        "class_name,file\na,1.png\nb,2.png\n",
    ],
)
def test_ways_to_write_the_same(folder: Path, text: str) -> None:
    rows = rows_of(table(folder, text))
    assert rows.uris == (f"{folder}/1.png", f"{folder}/2.png")
    assert labels(rows) == ["a", "b"]


def test_named_columns(folder: Path) -> None:
    path = table(folder, "image,label,photo,kind\nx,y,1.png,a\nx,y,2.png,b\n")
    rows = rows_of(path, image_column="photo", label_column="kind")
    assert (len(rows), labels(rows)) == (2, ["a", "b"])


@pytest.mark.parametrize(
    ("written", "names", "codes"),
    [
        (("10", "9", "2"), ("2", "9", "10"), [2, 1, 0]),
        (("10", "9", "b"), ("10", "9", "b"), [0, 1, 2]),
        (("007", "08", ""), ("007", "08"), [0, 1, -1]),
        (("1.0", "", "10.0"), ("1", "10"), [0, -1, 1]),  # as a data frame with gaps writes integers
        (("0", "-1", "1"), ("0", "1"), [0, -1, 1]),
        (("a", "-1", "b"), ("-1", "a", "b"), [1, 0, 2]),
        (("", "", ""), (), [-1, -1, -1]),
    ],
)
def test_labels_of_csv(folder: Path, written: tuple[str, ...], names: tuple[str, ...], codes: list[int]) -> None:
    lines = "".join(f"{i}.png,{label}\n" for i, label in enumerate(written, start=1))
    rows = rows_of(table(folder, f"file,label\n{lines}"))
    assert (rows.class_names, rows.labels.tolist()) == (names, codes)


@pytest.mark.parametrize(
    ("written", "names", "codes"),
    [
        ((10, 9, 2), ("2", "9", "10"), [2, 1, 0]),
        (("b", None, "a"), ("a", "b"), [1, -1, 0]),
        ((1.0, float("nan"), 0), ("0", "1"), [1, -1, 0]),
        ((True, False, None), ("false", "true"), [1, 0, -1]),
        ((0, -1, 1), ("0", "1"), [0, -1, 1]),
    ],
)
def test_labels_of_jsonl(folder: Path, written: tuple[Any, ...], names: tuple[str, ...], codes: list[int]) -> None:
    lines = [json.dumps({"image": f"{i}.png", "label": label}) for i, label in enumerate(written, start=1)]
    rows = rows_of(table(folder, "\r\n".join(["", *lines, ""]), "t.jsonl"))
    assert (rows.class_names, rows.labels.tolist()) == (names, codes)


def test_jsonl_lines_may_lack_keys(folder: Path) -> None:
    lines = (
        '{"file_name": "1.png"}',
        '{"label": "a", "file_name": "sub/\\u00fc.png"}',
        '{"file_name": "2.png", "box": [1]}',
    )
    rows = rows_of(table(folder, "\ufeff" + "\n".join(lines), "t.jsonl"))
    assert (labels(rows), rows.uris[1]) == ([None, "a", None], f"{folder}/sub/ü.png")


def test_a_column_split(folder: Path) -> None:
    text = "file,label,split\n3.png,b,val\n1.png,a,train\nsub/4.png,a,Validation\n2.png,b,\nsub/ü.png,c,test\n"
    rows = rows_of(table(folder, text))
    assert [Path(uri).name for uri in rows.uris] == ["1.png", "2.png", "3.png", "4.png"]
    assert rows.is_val.tolist() == [False, False, True, True]
    assert rows.class_names == ("a", "b")  # c stands in test alone
    assert labels(rows) == ["a", "b", "b", "a"]
    assert "split val of " in problem(table(folder, text.replace("b,val", "z,val")))
    odd = problem(table(folder, text.replace("b,val", "b,fold3")))
    assert "t.csv line 2 has split 'fold3' (expected train, val or test; rename a column that means some" in odd


def test_without_labels_it_serves_as_unlabelled(folder: Path) -> None:
    lone = table(folder, "file\n1.png\n2.png\n")
    labelled = table(folder, "file,label\n3.png,a\nsub/4.png,b\n", "l.csv")
    rows = index_data(
        data({"format": "table", "path": str(labelled)}, unlabelled={"format": "table", "path": str(lone)})
    )
    assert rows.labels.tolist() == [0, 1, -1, -1]
    with pytest.raises(JobError, match=r"^data.train: its images have no labels"):
        index_data(data({"format": "table", "path": str(lone)}))


# ---- where images are -------------------------------------------------------------------------------------------


def test_paths_are_relative_to_the_table_or_to_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tables").mkdir()
    names = "../1.png a\n../sub/4.png b\n".replace(" ", ",")
    assert rows_of(table(folder / "tables", f"file,label\n{names}")).uris[0] == f"{folder}/1.png"
    path = table(folder / "tables", f"file,label\n1.png,a\n{folder}/2.png,b\n")
    monkeypatch.chdir(folder.parent)
    for images in (str(folder), "pics", "./pics/"):
        assert rows_of(path, images=images).uris == (f"{folder}/1.png", f"{folder}/2.png")


def test_images_that_are_not_there(folder: Path) -> None:
    path = table(folder, "file,label\n1.png,a\ngone.png,b\n2.png,b\n")
    part = read_part(rows_of(path), np.arange(3), Frame(8))
    assert part.skipped == {1: "missing"}
    (folder / "tables").mkdir()
    path = table(folder / "tables", "file,label\n1.png,a\n2.png,b\n")
    assert problem(path) == (
        f"data.train.images: none of its first 2 images is there, first: {folder}/tables/1.png "
        f"(set it to the folder that the paths in {path} are relative to)"
    )
    above = table(folder.parent, "file,label\n1.png,a\n2.png,b\n")
    assert problem(above).endswith(f"(did you mean {folder}?)")
    assert "data.train.images: no such folder: " in problem(path, images=f"{folder}x")
    assert f"(did you mean {folder}?)" in problem(path, images=f"{folder}x")
    many = table(folder, "file\n" + "".join(f"gone{i}.png\n" for i in range(100)) + "1.png\n")
    assert "none of its first 100 images is there" in problem(many)
    assert len(rows_of(table(folder, "file\n" + "".join(f"gone{i}.png\n" for i in range(99)) + "1.png\n"))) == 100


# ---- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "t.csv is empty"),
        ("file,label\n", "t.csv names no image"),
        ("file,label\n1.png,a\n2.png\n", "t.csv line 3 has 1 fields, its first line 2 (put a field that holds ',' in"),
        ("file,label\n1.png,a\n2.png,b,c\n", "t.csv line 3 has 3 fields, its first line 2"),
        ("file,label\n1.png,a\n./1.png,b\n", "t.csv line 3: ./1.png stands in line 2 already (remove one of them)"),
        ("file,label\n1.png,a\n,b\n", "t.csv line 3 names no image"),
        ('file,label\n1.png,a\n"2.png,b\n', "t.csv line 3 cannot be read: unexpected end of data (check its quotes)"),
        (b"file,label\n1.png,a\n\xff.png,b\n", "t.csv line 3 is not UTF-8 text (save it as UTF-8)"),
        ("file,label\n1.png,a\n".encode("utf-16"), "t.csv line 1 is not UTF-8 text (save it as UTF-8)"),
        (
            "file,label\n1.png,a\nhdfs://x/2.png,b\n",
            "t.csv line 3: hdfs://x/2.png: hdfs:// cannot be read (name a local",
        ),
    ],
)
def test_wrong_csv(folder: Path, text: str | bytes, expected: str) -> None:
    assert f"data.train.path: {folder}/{expected}" in problem(table(folder, text))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "is not JSON: Expecting property name"),
        ('"2.png"', "is not a JSON object (as in"),
        ('{"image": 5}', "names no image (5 is no path)"),
        ('{"label": "a"}', "names no image"),
        ('{"image": "a\\u0000b.png"}', "names no image"),
        ('{"image": "\\ud800.png"}', "names no image"),
        ('{"image": "2.png", "label": ["a", "b"]}', "has label ['a', 'b'] (a label is a text or a whole number)"),
        ('{"image": "2.png", "label": 1.5}', "has label 1.5"),
        ('{"image": "2.png", "split": ["val"]}', "has split ['val']"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_wrong_jsonl(folder: Path, line: str, expected: str) -> None:
    path = table(folder, f'{{"image": "1.png", "label": "a"}}\n{line}\n', "t.jsonl")
    assert f"{path} line 2 {expected}" in problem(path)


def test_a_label_that_is_no_text(folder: Path) -> None:
    path = table(folder, '{"image": "1.png", "label": "\\ud800"}', "t.jsonl")
    assert "has label '\\ud800', which is not UTF-8" in problem(path)


def test_missing_columns(folder: Path) -> None:
    path = table(folder, "img,labels\n1.png,a\n")
    assert problem(path) == (
        f"data.train.image_column: {path} has no column file_name, filename, file, image, image_path or path "
        "(name one of img, labels)"
    )
    assert problem(path, image_column="imag") == (
        f"data.train.image_column: {path} has no column 'imag' (did you mean 'img'? its columns are img, labels)"
    )
    text = problem(path, image_column="img", label_column="zzz")
    assert text == f"data.train.label_column: {path} has no column 'zzz' (its columns are img, labels)"
    path = table(folder, '{"a": 1}', "t.jsonl")
    assert problem(path).endswith("(name one of a)")


def test_missing_tables(folder: Path) -> None:
    path = table(folder, "file,label\n1.png,a\n")
    assert problem(folder / "tt.csv").endswith(f"no such file: {folder}/tt.csv (did you mean {path}?)")
    assert "is no table (its name has to end in .csv, .tsv, .jsonl, .ndjson)" in problem(folder / "1.png")
    (folder / "d.csv").mkdir()
    assert "d.csv cannot be read: Is a directory" in problem(folder / "d.csv")


@pytest.mark.bench
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_million_lines(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "0.png")
    names = (f"{i}.png" for i in range(1_000_000))
    if suffix == "csv":
        text = "file,label\n" + "".join(f"{name},class{i % 1000}\n" for i, name in enumerate(names))
    else:
        text = "".join(json.dumps({"file": name, "label": i % 1000}) + "\n" for i, name in enumerate(names))
    path = table(tmp_path, text, f"t.{suffix}")
    start = time.perf_counter()
    rows = rows_of(path)
    seconds = time.perf_counter() - start
    print(f"{suffix}: {seconds:.1f} s")
    assert (len(rows), len(rows.class_names)) == (1_000_000, 1000)
    assert seconds < 8
