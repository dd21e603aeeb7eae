"""A path without a format gets the right one from what lies there; what cannot be told is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pictures import data, write

from raymix.data.find import NAMES, find_source
from raymix.data.formats import FORMATS, index_data
from raymix.spec import JobError

# a class folder of images can be read as images, and a name of torchvision is none of a path
FOUND = [name for name in FORMATS if name not in ("images", "torchvision")]


def test_every_format_has_its_name() -> None:
    assert set(NAMES) == set(FORMATS)


@pytest.mark.parametrize("name", FOUND)
def test_each_format_is_found(name: str, source: Callable[[str], dict[str, Any]], request: Any) -> None:
    if name == "image_folder":  # without the table that the fixture of another format lays beside the classes
        (Path(source("table")["path"])).unlink()
    section = source(name)
    text = section.get("path", "digits")
    found = find_source(text, None, "SOURCE")
    assert found["format"] == name
    assert len(index_data(data(found)))


def test_patterns_are_told_by_their_suffix() -> None:
    assert find_source("s3://bucket/x/shard-{000..127}.tar", None, "SOURCE")["format"] == "webdataset"
    assert find_source("/data/train-*.parquet", None, "SOURCE")["format"] == "parquet"
    assert find_source("https://host/labels.CSV?version=2", None, "SOURCE")["format"] == "table"


def test_shards_a_folder_deeper(source: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "repository" / "data").mkdir(parents=True)
    original = Path(source("parquet")["path"])
    file = original if original.is_file() else next(original.rglob("*.parquet"))
    (tmp_path / "repository" / "data" / "train-0.parquet").symlink_to(file)
    assert find_source(str(tmp_path / "repository"), None, "SOURCE")["format"] == "parquet"


def test_images_alone(tmp_path: Path) -> None:
    write(tmp_path / "flat" / "1.png")
    assert find_source(str(tmp_path / "flat"), None, "--val") == {"format": "images", "path": str(tmp_path / "flat")}


def test_what_the_user_says_goes_first(image_folder: Path) -> None:
    assert find_source(str(image_folder), "images", "SOURCE")["format"] == "images"
    assert find_source("anything", "digits", "SOURCE") == {"format": "digits"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{root}/imagse", "SOURCE: no such file or folder: {root}/imagse (did you mean {root}/images?)"),
        ("{root}/empty", "SOURCE: {root}/empty is empty"),
        ("{root}/notes.txt", "SOURCE: the format of {root}/notes.txt cannot be told from its name (say what it is"),
        ("{root}/papers", "SOURCE: {root}/papers holds no images and no file of a known format, but a.pdf (say"),
    ],
)
def test_what_cannot_be_told(text: str, message: str, image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(JobError, match="^" + re.escape(message.format(root=tmp_path))):
        find_source(text.format(root=tmp_path), None, "SOURCE")


def test_a_wrong_format_has_a_hint() -> None:
    with pytest.raises(JobError, match=r"--format: unknown value image_foldr \(did you mean image_folder\?\)"):
        find_source("x", "image_foldr", "SOURCE")
