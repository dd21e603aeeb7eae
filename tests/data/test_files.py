"""What a path stands for on a disk: files, folders, patterns, braces and lists; opening and reading them."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pictures import data, drawn, encoded, write

from raymix.data.files import expand, file_size, is_remote, open_file, read_files
from raymix.data.formats import fetch, index_data, index_source
from raymix.data.formats import images as images_format
from raymix.spec import ImagesSource, JobError

SHARDS = ("parquet",)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Files of two kinds, in a folder and below it; some of them hidden."""
    folder = tmp_path / "shards"
    for name in ("a0.parquet", "a1.parquet", "b.PARQUET", "notes.txt", "deep/c.parquet", "deep/er/d.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    for name in (".hidden.parquet", ".cache/e.parquet", "deep/._c.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return folder


def names(paths: str | tuple[str, ...], folder: Path, suffixes: tuple[str, ...] = SHARDS) -> list[str]:
    found = expand(paths, suffixes)
    assert all(os.path.isabs(path) and os.path.isfile(path) for path in found)
    return [os.path.relpath(path, folder) for path in found]


def problem(paths: str | tuple[str, ...]) -> str:
    with pytest.raises(JobError) as caught:
        expand(paths, SHARDS)
    assert caught.value.field == "data.train.path"
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("data.train.path: ")


def test_is_remote() -> None:
    assert all(is_remote(path) for path in ("s3://b/k", "gs://b", "https://h/x", "http://h", "hdfs://x"))
    assert not any(is_remote(path) for path in ("/data", "data", "~/x", "C:/x", "a:b", "./s3:/x", "x/s3://b"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "a0.parquet a1.parquet b.PARQUET deep/c.parquet deep/er/d.parquet"),
        ("/", "a0.parquet a1.parquet b.PARQUET deep/c.parquet deep/er/d.parquet"),
        ("/a0.parquet", "a0.parquet"),
        ("/notes.txt", "notes.txt"),  # named by the user, so it is taken
        ("/*.parquet", "a0.parquet a1.parquet"),
        ("/a?.parquet", "a0.parquet a1.parquet"),
        ("/a[1-9].*", "a1.parquet"),
        ("/*.txt", "notes.txt"),
        ("/*", "a0.parquet a1.parquet b.PARQUET deep/c.parquet deep/er/d.parquet"),
        ("/d*", "deep/c.parquet deep/er/d.parquet"),
        ("/*/*.parquet", "deep/c.parquet"),
        ("/**/*.parquet", "a0.parquet a1.parquet deep/c.parquet deep/er/d.parquet"),
        ("/a{0..1}.parquet", "a0.parquet a1.parquet"),
        ("/{a0,b}.{parquet,PARQUET}", None),
        ("/{a0.parquet,deep/{c,er/d}.parquet}", "a0.parquet deep/c.parquet deep/er/d.parquet"),
        ("/deep/../a1.parquet", "a1.parquet"),
    ],
)
def test_expand(shards: Path, path: str, expected: str | None) -> None:
    if expected is None:
        assert problem(f"{shards}{path}").startswith(f"no such file or folder: {shards}/a0.PARQUET (did you mean")
    else:
        assert names(f"{shards}{path}", shards) == expected.split()


def test_expand_pads_ranges(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        (tmp_path / f"s-{number:03}.tar").touch()
    assert names(f"{tmp_path}/s-{{008..010}}.tar", tmp_path) == ["s-008.tar", "s-009.tar", "s-010.tar"]


def test_expand_lists_and_counts_a_file_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shards)
    monkeypatch.setenv("HOME", str(shards))
    paths = ("deep", "a1.parquet", f"{shards}/a*.parquet", "~/deep/c.parquet", "./deep/../a0.parquet")
    assert names(paths, shards) == ["a0.parquet", "a1.parquet", "deep/c.parquet", "deep/er/d.parquet"]
    assert expand("deep", (".parquet",)) == expand("deep", SHARDS)


def test_expand_takes_a_name_with_signs_for_itself(tmp_path: Path) -> None:
    for name in ("a[1].parquet", "a1.parquet", "b{1,2}.parquet", "c*.parquet", "cc.parquet"):
        (tmp_path / name).touch()
    assert names(f"{tmp_path}/a[1].parquet", tmp_path) == ["a[1].parquet"]
    assert names(f"{tmp_path}/b{{1,2}}.parquet", tmp_path) == ["b{1,2}.parquet"]
    assert names(f"{tmp_path}/c*.parquet", tmp_path) == ["c*.parquet"]
    assert names(glob.escape(f"{tmp_path}/c*.parquet"), tmp_path) == ["c*.parquet"]


def test_expand_ends_in_a_loop_of_links(shards: Path) -> None:
    (shards / "deep" / "loop").symlink_to(shards)
    assert len(names(str(shards), shards)) == len(names(f"{shards}/*", shards)) == 5


def test_expand_says_what_is_wrong(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = f"{shards}/a2.parquet"
    assert problem(missing) == f"no such file or folder: {missing} (did you mean {shards}/a1.parquet?)"
    assert problem("shard") == f"no such file or folder: shard (did you mean {shards}?)"
    assert problem("zzz") == f"no such file or folder: zzz (looked in {tmp_path})"
    assert problem(f"{tmp_path}/x/y/z").endswith(f"({tmp_path}/x does not exist either)")
    held = "a0.parquet, a1.parquet, b.PARQUET and 2 more"
    assert problem(f"{shards}/*.tar") == f"no file matches {shards}/*.tar ({shards} holds {held})"
    assert problem(f"{tmp_path}/x/*.tar").endswith(f"(there is no folder {tmp_path}/x)")
    (tmp_path / "bare").mkdir()
    assert problem("bare") == "no file below bare ends in .parquet (name the files, or another folder)"
    assert "its braces do not pair" in problem("x{1..2")
    assert "stands for more than 1,000,000 files" in problem("x{0..999999999}")


def test_open_size_read(shards: Path) -> None:
    path = str(shards / "a0.parquet")
    with open_file(path) as file:
        assert file.seek(3) == 3
        assert file.read(4) == b"parq"
    assert file_size(path) == 10
    assert read_files([path, str(shards / "notes.txt"), path]) == [b"a0.parquet", b"notes.txt", b"a0.parquet"]
    for call in (open_file, file_size, lambda name: read_files([name])):
        with pytest.raises(FileNotFoundError):
            call(f"{path}.gone")
    with pytest.raises(IsADirectoryError):
        read_files([str(shards)])


def test_nothing_slow_is_imported_for_local_files(shards: Path) -> None:
    code = (
        "import sys; from raymix.data.files import expand, read_files;"
        f"read_files(expand({str(shards)!r}, ('parquet',)));"
        "print({'pyarrow', 'fsspec', 'aiohttp', 'PIL', 'torch', 'ray'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- images -----------------------------------------------------------------------------------------------------


def images(path: Any) -> list[str]:
    rows = index_source(ImagesSource(format="images", path=path), "data.unlabelled")
    assert rows.labels.tolist() == [-1] * len(rows)
    assert rows.class_names == ()
    assert not rows.is_val.any()
    return list(rows.uris)


def test_images_at_any_depth(tmp_path: Path) -> None:
    known = [write(tmp_path / name) for name in ("b.png", "a/1.JPG", "a/x/y/2.webp", "c/3.tiff")]
    for name in ("notes.txt", ".hidden.png", ".thumbs/1.png", "jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert images(str(tmp_path)) == sorted(map(str, known))
    assert images((str(tmp_path / "c"), str(tmp_path / "a"))) == sorted(map(str, known[1:]))


def test_an_image_reached_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "a" / "deep" / "1.png")
    (tmp_path / "also").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    folders = (f"{tmp_path}/a", f"{tmp_path}/a/deep", f"{tmp_path}/also", f"{tmp_path}/a/deep/1.png")
    assert images(folders) == [f"{tmp_path}/a/deep/1.png"]


def test_images_serve_as_unlabelled(image_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "more" / "x" / "1.png", 7)
    train = {"format": "image_folder", "path": str(image_folder)}
    more = {"format": "images", "path": [str(tmp_path / "more"), str(image_folder / "a")]}
    rows = index_data(data(train, unlabelled=more))
    assert rows.labels.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert rows.num_shared == 3
    assert rows.uris[6] == str(tmp_path / "more" / "x" / "1.png")
    assert fetch(rows, rows.source_of[6:] * 0 + 6) == [encoded(drawn(7))]
    with pytest.raises(JobError, match=r"^data.train: its images have no labels"):
        index_data(data(more))
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match=r"^data.unlabelled.path: no file below .*/empty ends in .jpg, .jpeg, "):
        index_data(data(train, unlabelled={"format": "images", "path": f"{tmp_path}/empty"}))


def test_images_fetch(tmp_path: Path) -> None:
    path = write(tmp_path / "1.png")
    source = ImagesSource(format="images", path=str(tmp_path))
    assert images_format.fetch(source, [str(path)]) == [path.read_bytes()]
    with pytest.raises(FileNotFoundError):
        images_format.fetch(source, [f"{path}.gone"])
