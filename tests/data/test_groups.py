"""Groups come of columns and of paths; what has none, or stands on both sides, is told by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from containers import error_of
from pictures import data, drawn, encoded, write

from raymix.data.fingerprint import changed, fingerprint
from raymix.data.formats import COLUMNS, index_data
from raymix.data.rows import Rows

LOTS = ("L1", "L1", "L2", "L2", "L3", "L3")


def names(rows: Rows) -> list[str]:
    assert rows.groups is not None
    return [rows.group_names[group] for group in rows.groups]


def csv(folder: Path, lots: Sequence[Any] = LOTS) -> dict[str, Any]:
    for number in range(6):
        write(folder / f"{number}.png", number)
    lines = "".join(f"{number}.png,{'ab'[number % 2]},{lot}\n" for number, lot in enumerate(lots))
    (folder / "rows.csv").write_text("file,label,Lot\n" + lines)
    return {"format": "table", "path": str(folder / "rows.csv")}


def jsonl(folder: Path, lots: Sequence[Any] = LOTS) -> dict[str, Any]:
    csv(folder)
    lines = [{"file": f"{i}.png", "label": "ab"[i % 2], "Lot": lot} for i, lot in enumerate(lots)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"format": "table", "path": str(folder / "rows.jsonl")}


def parquet(folder: Path, lots: Sequence[Any] = LOTS) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [encoded(drawn(i)) for i in range(6)], "label": [i % 2 for i in range(6)], "Lot": lots})
    pq.write_table(table.slice(0, 4), folder / "train-0.parquet", row_group_size=3)
    pq.write_table(table.slice(4), folder / "train-1.parquet")
    return {"format": "parquet", "path": str(folder)}


def hf_disk(folder: Path, lots: Sequence[Any] = LOTS) -> dict[str, Any]:
    from datasets import Dataset, Features, Image, Value

    columns = {"image": [drawn(i) for i in range(6)], "label": [i % 2 for i in range(6)], "Lot": list(lots)}
    kind = Value("string" if isinstance(lots[0], str) else "int64")
    features = Features({"image": Image(), "label": Value("int64"), "Lot": kind})
    Dataset.from_dict(columns, features=features).save_to_disk(folder, num_shards=2)
    return {"format": "hf_disk", "path": str(folder)}


def webdataset(folder: Path, lots: Sequence[Any] = LOTS) -> dict[str, Any]:
    from webdataset import TarWriter

    folder.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(folder / "shard.tar")) as writer:
        for i, lot in enumerate(lots):
            writer.write({"__key__": f"{i:04}", "png": encoded(drawn(i)), "cls": i % 2, "json": {"Lot": lot}})
    return {"format": "webdataset", "path": str(folder / "shard.tar")}


WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "csv": csv,
    "jsonl": jsonl,
    "parquet": parquet,
    "hf_disk": hf_disk,
    "webdataset": webdataset,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_columns(kind: str, tmp_path: Path) -> None:
    source = WRITERS[kind](tmp_path / "rows")
    rows = index_data(data(source, group="Lot"))
    assert names(rows) == list(LOTS)
    assert rows.group_names == ("L1", "L2", "L3")
    plain = index_data(data(source))
    assert plain.groups is None
    assert (plain.uris, plain.labels.tolist()) == (rows.uris, rows.labels.tolist())
    assert names(index_data(data(WRITERS[kind](tmp_path / "numbers", [1, 1, 2, 2, 30, 30]), group="Lot")))[4] == "30"
    assert "has no column 'lot'" in (told := error_of(source, group="lot")) or "says nothing of" in told
    assert told.startswith("data.group: ")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_without_a_group_is_named(kind: str, tmp_path: Path) -> None:
    nothing = "" if kind in ("csv", "jsonl") else None
    told = error_of(WRITERS[kind](tmp_path, ("L1", "L2", "L2", nothing, "L3", "L3")), group="Lot")
    assert told.startswith("data.group: the column 'Lot' says nothing of ")
    assert told.split("'Lot' says nothing of ")[1].startswith(str(tmp_path))


def test_every_format_with_columns_is_tried() -> None:
    assert set(COLUMNS) == {"table", "parquet", "hf_disk", "webdataset"}


def test_a_column_of_another_kind_is_refused(tmp_path: Path) -> None:
    told = error_of(parquet(tmp_path, [[1]] * 6), group="Lot")
    assert "not one name an image (an integer, a text or a date column)" in told
    assert "rows.jsonl line 1 has Lot [1]" in error_of(jsonl(tmp_path / "j", [[1]] * 6), group="Lot")


def lots_folder(root: Path) -> dict[str, Any]:
    for name in ("a/lot7_1.png", "a/lot8_1.png", "b/deep/lot7_2.png", "b/lot9_1.png"):
        write(root / name, len(name))
    return {"format": "image_folder", "path": str(root)}


PATTERN = {"pattern": r"lot(\d+)"}


def test_patterns_are_searched_below_the_source(tmp_path: Path) -> None:
    source = lots_folder(tmp_path / "lot1")  # the folder's own name is no part of what is searched
    assert names(index_data(data(source, group=PATTERN))) == ["7", "8", "9", "7"]
    write(tmp_path / "lot1" / "b" / "x.png")
    told = error_of(source, group=PATTERN)
    assert told == f"data.group: the pattern matches nothing in {tmp_path}/lot1/b/x.png (each image needs a group)"


def test_patterns_of_tables_and_of_unlabelled_images(tmp_path: Path) -> None:
    table = csv(tmp_path / "lot1")
    more = lots_folder(tmp_path / "more") | {"format": "images"}
    rows = index_data(data(table, unlabelled=more, group={"pattern": r"(?:^|lot)(\d)"}))
    assert names(rows) == [*"012345", "7", "8", "7", "9"]


def test_what_cannot_tell_groups_is_refused(tmp_path: Path) -> None:
    folder = lots_folder(tmp_path / "f")
    assert "data.train (image_folder) has no columns (search in its paths" in error_of(folder, group="lot")
    more = folder | {"format": "images"}
    assert "data.unlabelled (images) has no columns" in error_of(csv(tmp_path / "c"), unlabelled=more, group="Lot")
    assert "(digits) has no columns (they are for table, parquet" in error_of({"format": "digits"}, group="lot")
    assert "data.train (parquet) has none (name a column)" in error_of(parquet(tmp_path / "p"), group=PATTERN)
    assert "(digits) has none (it is for image_folder" in error_of({"format": "digits"}, group=PATTERN)


def test_a_given_validation_set_that_shares_a_group_is_refused(tmp_path: Path) -> None:
    train, val = csv(tmp_path / "train"), csv(tmp_path / "val", ("L3", "L4", "L1", "L5", "L6", "L6"))
    told = error_of(train, val=val, group="Lot")
    assert told == (
        "data.group: data.val shares group 'L1' and 1 more with the training rows "
        "(move its images to one of the two, or leave data.val out for a hold-out)"
    )
    rows = index_data(data(train, val=csv(tmp_path / "val", ("L4", "L4", "L5", "L5", "L6", "L6")), group="Lot"))
    assert rows.is_val.sum() == 6
    own = lots_folder(tmp_path / "own" / "train") and lots_folder(tmp_path / "own" / "val")
    told = error_of(own | {"path": str(tmp_path / "own")}, group=PATTERN)
    assert told.startswith("data.group: the validation set of data.train shares group '7' and 2 more with the training")


def test_a_row_of_another_group_is_noticed(tmp_path: Path) -> None:
    before = fingerprint(index_data(data(csv(tmp_path), group="Lot")))
    assert changed(before, index_data(data(csv(tmp_path), group="Lot"))) is None
    told = changed(before, index_data(data(csv(tmp_path, ("L1", "L1", "L2", "L9", "L3", "L3")), group="Lot")))
    assert told is not None
    assert told.startswith("row 3 ")


def test_prepared_shards_keep_the_groups(tmp_path: Path) -> None:
    from raymix.data.prepare import Options
    from raymix.datacmd import How, named, prepare

    source = csv(tmp_path / "rows")
    what = named(str(source["path"]), overrides=["data.group=Lot"])
    prepare(what, str(tmp_path / "shards"), Options(), How(local=True, quiet=True))
    rows = index_data(data({"format": "parquet", "path": str(tmp_path / "shards")}, group="group"))
    assert sorted(names(rows)) == sorted(LOTS)
    assert np.unique(names(rows)).tolist() == ["L1", "L2", "L3"]
