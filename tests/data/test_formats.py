"""Every format keeps one contract; each one's layout, and what is said when it is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import data, write
from torchvision.datasets import ImageFolder

from raymix.data.decode import decode
from raymix.data.formats import FORMATS, fetch, index_data
from raymix.data.frame import Frame
from raymix.data.reading import read_part
from raymix.spec import JobError

SourceOf = Callable[[str], dict[str, Any]]


# ---- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_format_contract(name: str, source: SourceOf) -> None:
    spec = data(source(name)).train
    rows = FORMATS[name].index(spec)
    assert len(rows) == len(rows.uris) == len(rows.labels) == len(rows.is_val) > 0
    assert len(set(rows.uris)) == len(rows)
    assert rows.labels.dtype == np.int64
    assert rows.is_val.dtype == np.bool_
    assert [source.format for source in rows.sources] == [name]
    assert not rows.source_of.any()
    assert list(rows.class_names) == sorted(set(rows.class_names))
    for part in (~rows.is_val, rows.is_val):
        assert set(rows.labels[part]) - {-1} in ({*range(len(rows.class_names))}, set())
    assert list(rows.is_val) == sorted(rows.is_val), "training rows come first"

    again = FORMATS[name].index(spec)
    assert again.uris == rows.uris
    assert (again.labels == rows.labels).all()

    picked = np.arange(len(rows))[:: max(1, len(rows) // 5)]
    raws = FORMATS[name].fetch(spec, [rows.uris[i] for i in picked])
    assert all(isinstance(raw, bytes | np.ndarray) for raw in raws)
    again_raws = fetch(rows, picked[::-1])[::-1]
    assert all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(raws, again_raws, strict=True)
    )
    assert all(decode(raw, Frame(8)).shape == (8, 8, 3) for raw in raws)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "images"])  # which has no labels
def test_a_source_serves_as_val_of_another(name: str, source: SourceOf, tmp_path: Path) -> None:
    train = {"format": "image_folder", "path": str(tmp_path / "other")}
    for class_name in FORMATS[name].index(data(source(name)).train).class_names:
        write(tmp_path / "other" / class_name / "x.png")
    rows = index_data(data(train, val=source(name)))
    assert [rows.sources[number].format for number in rows.source_of[[0, -1]]] == ["image_folder", name]
    assert set(rows.labels[rows.is_val]) - {-1} == set(rows.labels[~rows.is_val])
    raws = fetch(rows, np.arange(len(rows)))
    assert len(raws) == len(rows)
    assert all(isinstance(raw, bytes | np.ndarray) for raw in raws)


def test_index_imports_nothing_slow(source: SourceOf) -> None:
    job = data(source("image_folder")).model_dump_json()
    code = (
        "import sys; from raymix.data.formats import index_data; from raymix.data.splits import split;"
        f"from raymix.spec import Data; d = Data.model_validate_json({job!r}); split(index_data(d), d, 0);"
        "print({'PIL', 'torch', 'ray', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_digits() -> None:
    from sklearn.datasets import load_digits

    rows = index_data(data({"format": "digits"}))
    assert len(rows) == 1797
    assert (rows.uris[0], rows.class_names) == ("digits:0", tuple("0123456789"))
    known = load_digits()
    assert (rows.labels == known.target).all()
    part = read_part(rows, np.arange(len(rows)), Frame(8))
    assert (part.pixels == (known.images * 255 / 16).astype(np.uint8)[..., None]).all()


# ---- image_folder -----------------------------------------------------------------------------------------------


def test_image_folder_is_in_the_order_of_torchvision(tmp_path: Path) -> None:
    names = (
        "b/2.png b/10.PNG b/1.jpeg a/z.jpg a/sub/1.png a/sub-x/1.png a/sub/deep/1.bmp B/1.webp c/1.tif c/1.tiff c/A.Jpg"
    )
    for name in names.split():
        write(tmp_path / name)
    known = ImageFolder(str(tmp_path))
    rows = index_data(data({"format": "image_folder", "path": str(tmp_path)}))
    assert list(rows.class_names) == known.classes
    assert list(zip(rows.uris, rows.labels.tolist(), strict=True)) == known.samples
    assert len(rows) == len(names.split())


def test_image_folder_leaves_out_what_is_no_image(image_folder: Path) -> None:
    before = index_data(data({"format": "image_folder", "path": str(image_folder)}))
    for name in ("a/.hidden.png", "a/.thumbs/1.png", ".cache/1.png", "a/._1.png"):
        (image_folder / name).parent.mkdir(exist_ok=True)
        (image_folder / name).write_bytes(b"x")
    (image_folder / "a" / "notes.txt").write_text("x")
    (image_folder / "labels.csv").write_text("x")
    (image_folder / "a" / "folder.png").mkdir()
    assert index_data(data({"format": "image_folder", "path": str(image_folder)})).uris == before.uris


def test_image_folder_follows_links_and_ends_in_a_loop(image_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "9.png")
    (image_folder / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (image_folder / "a" / "loop").symlink_to(image_folder / "a")
    (tmp_path / "elsewhere" / "back").symlink_to(image_folder / "a")
    rows = index_data(data({"format": "image_folder", "path": str(image_folder)}))
    assert [os.path.relpath(uri, image_folder) for uri in rows.uris[:4]] == [
        "a/1.png",
        "a/2.png",
        "a/3.png",
        "a/linked/9.png",
    ]
    assert len(rows) == 7


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_image_folder_takes_train_and_val(tmp_path: Path, val: str) -> None:
    for name in ("train/a/1.png", "train/b/1.png", f"{val}/a/2.png", f"{val}/b/2.png", "test/a/3.png"):
        write(tmp_path / name)
    rows = index_data(data({"format": "image_folder", "path": str(tmp_path)}))
    assert rows.class_names == ("a", "b")
    assert rows.is_val.tolist() == [False, False, True, True]
    assert rows.labels.tolist() == [0, 1, 0, 1]
    assert rows.uris[2] == str(tmp_path / val / "a" / "2.png")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus/1.png", "car/1.png", "train/1.png", "val/1.png"):
        write(tmp_path / name)
    assert index_data(data({"format": "image_folder", "path": str(tmp_path)})).class_names == (
        "bus",
        "car",
        "train",
        "val",
    )


def test_home_is_expanded(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(image_folder.parent))
    rows = index_data(data({"format": "image_folder", "path": "~/images"}))
    assert rows.uris[0] == str(image_folder / "a" / "1.png")


# ---- tiny_imagenet ----------------------------------------------------------------------------------------------


def test_tiny_imagenet(tiny_imagenet: Path) -> None:
    rows = index_data(data({"format": "tiny_imagenet", "path": str(tiny_imagenet)}))
    names = [os.path.relpath(uri, tiny_imagenet) for uri in rows.uris]
    train = [f"train/{wnid}/images/{wnid}_{i}.JPEG" for wnid in ("n01", "n02") for i in (0, 1)]
    assert names == [*train, "val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    assert rows.labels.tolist() == [0, 0, 1, 1, 1, 0]
    assert rows.is_val.tolist() == [False] * 4 + [True] * 2


def test_tiny_imagenet_without_val(tiny_imagenet: Path) -> None:
    (tiny_imagenet / "val").rename(tiny_imagenet / "gone")
    rows = index_data(data({"format": "tiny_imagenet", "path": str(tiny_imagenet)}))
    assert len(rows) == 4
    assert not rows.is_val.any()


def test_tiny_imagenet_as_val_is_its_validation_set(tiny_imagenet: Path) -> None:
    train = {"format": "image_folder", "path": str(tiny_imagenet / "train")}
    rows = index_data(data(train, val={"format": "tiny_imagenet", "path": str(tiny_imagenet)}))
    assert [os.path.basename(rows.uris[i]) for i in np.flatnonzero(rows.is_val)] == ["val_0.JPEG", "val_1.JPEG"]


def test_real_tiny_imagenet_is_indexed_quickly() -> None:
    path = os.environ.get("RAYMIX_TINY_IMAGENET")
    if not path:
        pytest.skip("RAYMIX_TINY_IMAGENET does not name a folder with TinyImageNet")
    spec = data({"format": "tiny_imagenet", "path": path})
    rows = index_data(spec)  # the first time may wait for the disk
    start = time.perf_counter()
    index_data(spec)
    seconds = time.perf_counter() - start
    assert len(rows.class_names) == 200
    assert set(rows.labels[rows.is_val]) == set(range(200))
    assert seconds < 0.3 * max(1, len(rows) / 15_000)
    part = read_part(rows, np.arange(0, len(rows), len(rows) // 500), Frame(64))
    assert not part.skipped


# ---- mistakes ---------------------------------------------------------------------------------------------------


def error_of(train: dict[str, Any], **fields: Any) -> tuple[str, str]:
    """Field and whole text of the error that an index raises; it is one line."""
    with pytest.raises(JobError) as caught:
        index_data(data(train, **fields))
    assert "\n" not in str(caught.value)
    return caught.value.field, str(caught.value)


@pytest.mark.parametrize("name", ["image_folder", "tiny_imagenet"])
def test_wrong_paths(name: str, tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error(path: str) -> str:
        field, text = error_of({"format": name, "path": path})
        assert field == "data.train.path"
        return text

    missing = f"{tmp_path}/imagess"
    assert error(missing) == f"data.train.path: no such folder: {missing} (did you mean {image_folder}?)"
    assert error(f"{tmp_path}/x/y/z").endswith(f"({tmp_path}/x does not exist either)")
    monkeypatch.chdir(tmp_path)
    assert error("qqq") == f"data.train.path: no such folder: qqq (looked in {tmp_path})"
    assert error("https://host/images") == (
        "data.train.path: https://host/images is on a web server, which has no listing (copy it to a disk, s3:// or gs://)"
    )
    assert "hdfs:// cannot be read (name a local path, or s3://" in error("hdfs://host/images")
    (tmp_path / "images.tar.gz").write_bytes(b"x")
    assert f"({tmp_path}/images.tar.gz is not a folder)" in error(f"{tmp_path}/images.tar.gz/train")
    assert "is not a folder (unpack it" in error(f"{tmp_path}/images.tar.gz")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty is empty (expected" in error(f"{tmp_path}/empty")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(image_folder: Path) -> None:
    (image_folder / "a").chmod(0)
    field, text = error_of({"format": "image_folder", "path": str(image_folder)})
    (image_folder / "a").chmod(0o755)
    assert field == "data.train.path"
    assert "cannot be read: Permission denied" in text


def test_wrong_image_folders(tmp_path: Path, image_folder: Path, tiny_imagenet: Path) -> None:
    def error(path: Path) -> tuple[str, str]:
        return error_of({"format": "image_folder", "path": str(path)})

    assert "holds images but no class folders (expected <class>/*.jpg" in error(image_folder / "a")[1]
    assert error(tiny_imagenet)[1].endswith("(set the source's format to tiny_imagenet)")
    (image_folder / "empty").mkdir()
    assert f"class folder {image_folder}/empty holds no image" in error(image_folder)[1]
    (tmp_path / "bare" / "a").mkdir(parents=True)
    assert f"no image below {tmp_path}/bare" in error(tmp_path / "bare")[1]
    write(tmp_path / "one" / "a" / "1.png")
    assert error(tmp_path / "one") == (
        "data.train",
        "data.train: only one class found: 'a' (a classifier needs two or more)",
    )
    (image_folder / "empty").rmdir()
    image_folder.rename(tmp_path / "one" / "a" / "wrapped")
    tiny_imagenet.rename(tmp_path / "one" / "a" / "tiny")
    assert error(tmp_path / "one")[1].endswith(f"(did you mean path {tmp_path}/one/a?)")


def test_image_folder_of_splits_only(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"):
        write(tmp_path / name)
    field, text = error_of({"format": "image_folder", "path": str(tmp_path)})
    assert field == "data.train.path"
    assert "holds test and train where class folders are expected" in text
    assert text.endswith(f"(name {tmp_path}/train)")


def test_image_folder_with_other_classes_in_val(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"):
        write(tmp_path / name)
    field, text = error_of({"format": "image_folder", "path": str(tmp_path)})
    assert field == "data.train.path"
    assert f"{tmp_path}/val has class 'c', unknown to the training set" in text
    (tmp_path / "val" / "c").rename(tmp_path / "gone")
    assert (
        f"{tmp_path}/val lacks class 'b' of the training set"
        in error_of({"format": "image_folder", "path": str(tmp_path)})[1]
    )


def test_wrong_tiny_imagenets(tiny_imagenet: Path, image_folder: Path) -> None:
    def error(path: Path) -> str:
        field, text = error_of({"format": "tiny_imagenet", "path": str(path)})
        assert field == "data.train.path"
        return text

    assert error(image_folder).endswith("(set the source's format to image_folder)")
    (image_folder.parent / "bare" / "x").mkdir(parents=True)
    assert "has not the layout of TinyImageNet (expected train/<wnid>" in error(image_folder.parent / "bare")
    for path in (tiny_imagenet.parent, tiny_imagenet / "train", tiny_imagenet / "val"):
        assert error(path).endswith(f"(did you mean {tiny_imagenet}?)")
    table = tiny_imagenet / "val" / "val_annotations.txt"
    good = table.read_text()
    for text, expected in [
        (good + "val_0.JPEG n02\n", "line 3 is not a file name, a tab and a class: 'val_0.JPEG n02'"),
        (good + "val_0.JPEG\tn01\n", "line 3 gives val_0.JPEG a second class"),
        (good + "gone.JPEG\tn02\n", f"names gone.JPEG, not in {tiny_imagenet}/val/images"),
        (good + "gone.JPEG\tn02\nlost.JPEG\tn02\n", "names gone.JPEG and 1 more, not in"),
        (good.replace("n02", "n99"), "val/val_annotations.txt has class 'n99', unknown to the training set"),
        (good.splitlines()[0], "val/val_annotations.txt lacks class 'n02' of the training set"),
        ("\n", "val_annotations.txt is empty"),
    ]:
        table.write_text(text)
        assert expected in error(tiny_imagenet)
    table.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read: not UTF-8 text" in error(tiny_imagenet)
    table.unlink()
    assert "cannot be read: No such file or directory" in error(tiny_imagenet)
    for image in (tiny_imagenet / "train" / "n02" / "images").iterdir():
        image.unlink()
    assert "n02/images holds no image" in error(tiny_imagenet)


def test_wrong_val(image_folder: Path, tmp_path: Path) -> None:
    train = {"format": "image_folder", "path": str(image_folder)}

    def error(path: Path) -> tuple[str, str]:
        return error_of(train, val={"format": "image_folder", "path": str(path)})

    assert error(tmp_path / "nowhere")[0] == "data.val.path"
    write(tmp_path / "val" / "a" / "1.png")
    write(tmp_path / "val" / "c" / "1.png")
    field, text = error(tmp_path / "val")
    assert field == "data.val"
    assert "has class 'c', unknown to the training set (the training set has classes 'a', 'b')" in text
    (tmp_path / "val" / "c").rename(tmp_path / "val" / "b")
    write(image_folder / "c" / "1.png")
    assert "lacks class 'c' of the training set" in error(tmp_path / "val")[1]
    field, text = error(image_folder)
    assert field == "data.val"
    assert "7 of its images are training images too" in text


def test_an_unreadable_file_does_not_sink_its_neighbours(image_folder: Path) -> None:
    rows = index_data(data({"format": "image_folder", "path": str(image_folder)}))
    (image_folder / "a" / "2.png").unlink()
    raws = fetch(rows, np.array([5, 1, 0, 1]))
    assert [type(raw) for raw in raws] == [bytes, FileNotFoundError, bytes, FileNotFoundError]
    assert raws[0] == (image_folder / "b" / "3.png").read_bytes()
