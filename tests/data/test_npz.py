"""Arrays that NumPy wrote: names, shapes, types, stored and compressed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import LABELS, NUM, error_of, pixels
from pictures import data

from raymix.data.decode import decode
from raymix.data.formats import fetch, index_data
from raymix.data.formats import npz as npz_format
from raymix.data.frame import Frame
from raymix.data.rows import Rows

IMAGES = pixels()


def index(path: Path, **fields: str) -> Rows:
    return index_data(data({"format": "npz", "path": str(path), **fields}))


def written(path: Path, images: Any = IMAGES, labels: Any = LABELS) -> Path:
    np.savez(path, images=images, labels=np.array(labels))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arrays.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names",
    ["train_images train_labels val_images val_labels", "x_train y_train x_test y_test", "x_train y_train x_val y_val"],
)
def test_usual_names(path: Path, names: str, save: Callable[..., None]) -> None:
    values = (IMAGES, np.array(LABELS, dtype=np.uint8)[:, None], pixels(4), np.array([0, 1, 1, 0]))
    others = {"test_images": IMAGES, "test_labels": LABELS} if "train_images" in names else {}
    save(path, **dict(zip(names.split(), values, strict=True)), **others)
    rows = index(path)
    assert rows.class_names == ("0", "1")
    assert rows.labels.tolist() == [*LABELS, 0, 1, 1, 0]
    assert rows.is_val.tolist() == [False] * NUM + [True] * 4
    assert (np.array(fetch(rows, np.arange(10))) == np.concatenate([IMAGES, pixels(4)])).all()
    assert (np.array(fetch(rows, np.array([9, 0, 3, 3]))) == np.stack([pixels(4)[3], *IMAGES[[0, 3, 3]]])).all()


def test_names_that_are_given(path: Path) -> None:
    np.savez(path, photos=IMAGES, kinds=np.array(["cat", "dog"] * 3), images=IMAGES[:2], labels=LABELS[:2])
    rows = index(path, images="photos", labels="kinds")
    assert (rows.class_names, rows.labels.tolist()) == (("cat", "dog"), LABELS)
    assert len(index(path)) == 2
    np.savez(path, my_train=IMAGES, my_train_y=LABELS, my_val=IMAGES[:2], my_val_y=LABELS[:2])
    assert index(path, images="my_train", labels="my_train_y").is_val.sum() == 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 9, 1), (8, 9, 3), (8, 9, 4), (3, 8, 9), (1, 8, 9)])
def test_shapes(path: Path, shape: tuple[int, ...], order: Any) -> None:
    images = pixels(NUM, shape)
    rows = index(written(path, np.asarray(images, order=order)))
    found = fetch(rows, np.arange(NUM))
    expected = images.transpose(0, 2, 3, 1) if shape[0] in (1, 3) else images
    assert (np.array(found) == expected).all()
    assert all(decode(raw, Frame(8)).shape == (8, 8, 3) for raw in found)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1, 255])
def test_floats_are_brought_back_exactly(path: Path, dtype: str, scale: int) -> None:
    rows = index(written(path, (IMAGES / 255 * scale).astype(dtype)))
    assert (np.array(fetch(rows, np.arange(NUM))) == IMAGES).all()
    assert np.array(fetch(rows, np.arange(NUM))).dtype == np.uint8


def test_other_types(path: Path) -> None:
    rows = index(written(path, IMAGES.astype(np.int64)))
    assert np.array(fetch(rows, np.arange(NUM))).dtype == np.uint8
    rows = index(written(path, IMAGES > 127))
    assert (np.array(fetch(rows, np.arange(NUM))) == np.where(IMAGES > 127, 255, 0)).all()
    for dtype, shape in (("<u2", (8, 8)), (">u2", (8, 8, 1)), ("<u2", (1, 8, 8))):
        wide = pixels(NUM, shape).astype(dtype) * np.array(257, dtype)
        found = fetch(index(written(path, wide)), np.arange(NUM))
        assert (np.array(found) == wide.reshape(NUM, 8, 8)).all()
        assert {(raw.dtype, raw.shape) for raw in found} == {(np.dtype(np.uint16), (8, 8))}  # type: ignore[union-attr]


def test_stored_arrays_are_mapped_and_compressed_ones_loaded_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(npz_format._array(str(written(path)), "images"), np.memmap)
    np.savez_compressed(path, images=IMAGES, labels=LABELS)
    rows = index(path)
    loads = []
    monkeypatch.setattr(np, "load", lambda *args, **options: loads.append(args))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda i: fetch(rows, np.array([i % NUM])), range(20)):
            assert isinstance(found[0], np.ndarray)
    assert not loads


def test_a_file_that_changed(path: Path) -> None:
    rows = index(written(path))
    written(path, IMAGES[:2], LABELS[:2])
    assert [type(raw) for raw in fetch(rows, np.arange(3))] == [np.ndarray] * 2 + [OSError]
    path.write_bytes(path.read_bytes()[:100])
    assert isinstance(fetch(rows, np.arange(1))[0], OSError)
    np.savez(path, other=IMAGES)
    assert isinstance(fetch(rows, np.arange(1))[0], OSError)
    path.unlink()
    assert isinstance(fetch(rows, np.arange(1))[0], FileNotFoundError)


# ---- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (IMAGES.astype(np.float32) / 300, LABELS, "'images' of {} has values between the grey levels of 8 bits"),
        (IMAGES - 128.0, LABELS, "(store uint8, values 0 to 255)"),
        (IMAGES * np.nan, LABELS, "has values from nan to nan"),
        (IMAGES.astype(np.int32) * 2, LABELS, "has values from"),
        (IMAGES.astype(np.uint16), LABELS, "is of type uint16"),
        (IMAGES.astype(complex), LABELS, "is of type complex128"),
        (pixels(NUM, (8, 8, 8)), LABELS, "is (6, 8, 8, 8) (images are (N, H, W) or (N, H, W, C), C 1, 3 or 4)"),
        (IMAGES[0, 0], LABELS, "is (8, 3)"),
        (IMAGES[:0], [], "which is no pixel"),
        (IMAGES, LABELS[:3], "data.train.labels: 'labels' of {} is (3,) for 6 images"),
        (IMAGES, np.eye(6), "is (6, 6) for 6 images (labels are (N,) or (N, 1))"),
        (IMAGES, np.array(LABELS) + 0.5, "holds 0.5, which is no class"),
        (IMAGES, np.array([b"a", b"b"] * 3), "is of type |S1"),
        (IMAGES, np.array([1] * 6), "only one class found"),
    ],
)
def test_wrong_arrays(path: Path, images: Any, labels: Any, expected: str) -> None:
    assert expected.format(path) in error_of({"format": "npz", "path": str(written(path, images, labels))})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_objects_are_not_unpickled(path: Path, save: Callable[..., None]) -> None:
    save(path, images=np.array([*IMAGES, None], dtype=object), labels=[*LABELS, 0])
    assert error_of({"format": "npz", "path": str(path)}) == (
        f"data.train.images: 'images' of {path} holds Python objects (numpy.savez writes what can be read)"
    )


def test_wrong_files(path: Path, tmp_path: Path) -> None:
    def error(**fields: str) -> str:
        return error_of({"format": "npz", "path": str(path), **fields})

    written(tmp_path / "array.npz")
    assert error().endswith(f"cannot be read: No such file or directory (did you mean {tmp_path}/array.npz?)")
    np.savez(path, pictures=IMAGES, labels=LABELS)
    assert error().endswith("has no array of training images by a usual name (it has 'pictures', 'labels')")
    assert error(images="picture").endswith("has no array 'picture' (did you mean 'pictures'?)")
    assert error(images="pictures", labels="x").startswith("data.train.labels: ")
    np.savez(path, images=IMAGES)
    assert "its images have no labels" in error()
    whole = written(path).read_bytes()
    path.write_bytes(whole[:-30])
    assert error() == f"data.train.path: {path} is not a .npz file, or is cut off"
    np.save(tmp_path / "array.npy", IMAGES)
    assert error(path=str(tmp_path / "array.npy")).endswith(
        "(one array alone has no labels: numpy.savez writes several)"
    )
    assert error(path=str(tmp_path)).endswith("Is a directory (name the .npz file in it)")
    np.savez_compressed(path, images=IMAGES, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    assert "data.train.images: 'images' of" in error()
    written(path)
    np.savez(path, train_images=IMAGES, train_labels=LABELS, val_images=IMAGES, val_labels=[0, 2] * 3)
    assert "has class '2', unknown to the training set" in error()
