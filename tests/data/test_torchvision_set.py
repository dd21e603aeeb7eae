"""Sets of torchvision by name, from the files that it reads itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from containers import LABELS, error_of, mnist
from pictures import data, write
from scipy.io import savemat
from test_remote import web  # noqa: F401
from torchvision.datasets import MNIST, SVHN, ImageFolder

from raymix.data.formats import fetch, index_data
from raymix.data.rows import Rows


def index(path: Path, name: str, **fields: bool) -> Rows:
    return index_data(data({"format": "torchvision", "path": str(path), "name": name, **fields}))


def test_mnist(tmp_path: Path) -> None:
    root = mnist(tmp_path / "data")
    rows = index(root, "MNIST")
    assert rows.class_names == ("0 - zero", "1 - one")
    for is_val in (False, True):
        known = MNIST(str(root), train=not is_val)
        ids = np.flatnonzero(rows.is_val == is_val)
        assert rows.labels[ids].tolist() == known.targets.tolist()
        assert (np.array(fetch(rows, ids)) == known.data.numpy()).all()


def test_splits_of_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, num in (("train", 6), ("test", 4)):
        pixels = np.random.default_rng(num).integers(0, 256, (32, 32, 3, num), dtype=np.uint8)
        labels = np.array([1, 10] * (num // 2), dtype=np.uint8)[:, None]  # 10 stands for the digit 0
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": labels})
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)  # the files hold other pixels than SVHN's
    rows = index(tmp_path, "SVHN")
    assert (rows.class_names, rows.labels.tolist()) == (("0", "1"), [1, 0] * 5)
    assert rows.is_val.tolist() == [False] * 6 + [True] * 4
    known = SVHN(str(tmp_path), split="test")
    assert (np.array(fetch(rows, np.arange(6, 10))) == np.stack([np.asarray(image) for image, _ in known])).all()


def test_imagenette_reads_files(tmp_path: Path) -> None:
    from torchvision.datasets import Imagenette

    for i, wnid in enumerate(Imagenette._WNID_TO_CLASS):
        for split in ("train", "val"):
            write(tmp_path / "imagenette2-160" / split / wnid / f"{i}.JPEG", i)
            write(tmp_path / "imagenette2" / split / wnid / f"{i}.JPEG", i)
    rows = index(tmp_path, "Imagenette")
    known = Imagenette(str(tmp_path), split="val")
    assert rows.class_names[0] == "tench, Tinca tinca"
    assert len(rows.class_names) == 10
    ids = np.flatnonzero(rows.is_val)
    assert rows.labels[ids].tolist() == [label for _, label in known._samples]
    assert (np.array(fetch(rows, ids)) == np.stack([np.asarray(image) for image, _ in known])).all()


def test_one_split_only(tmp_path: Path) -> None:
    for i, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        write(tmp_path / name, i)
    rows = index(tmp_path, "ImageFolder")
    assert (rows.class_names, rows.labels.tolist(), rows.is_val.any()) == (("a", "b"), [0, 0, 1], False)
    assert (np.array(fetch(rows, np.arange(3))) == [np.asarray(image) for image, _ in ImageFolder(str(tmp_path))]).all()
    (tmp_path / "a" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "b" / "1.png").unlink()
    raws = fetch(rows, np.arange(3))
    assert isinstance(raws[0], np.ndarray)
    assert all(isinstance(raw, OSError) for raw in raws[1:])


def test_mistakes(tmp_path: Path) -> None:
    def error(name: str, path: Path = tmp_path, **fields: bool) -> str:
        return error_of({"format": "torchvision", "path": str(path), "name": name, **fields})

    assert error("Mnist") == "data.train.name: torchvision has no data set 'Mnist' (did you mean MNIST?)"
    assert error("Nothing").endswith("(a class of torchvision.datasets, as in CIFAR10)")
    assert "torchvision has no data set 'FakeData'" in error("FakeData")
    assert error("MNIST") == f"data.train.path: MNIST is not in {tmp_path} (set its download: true)"
    assert error("CIFAR100").endswith("(set its download: true)")
    assert error("ImageNet", download=True) == (
        "data.train.download: torchvision does not fetch ImageNet (fetch it by hand, then leave this out)"
    )
    assert "data.train.name: torchvision's EMNIST needs split too" in error("EMNIST")
    assert "needs annFile too" in error("CocoDetection")
    assert "torchvision cannot read VisionDataset in" in error("VisionDataset")
    assert error("ImageNet").startswith(f"data.train.path: ImageNet is not in {tmp_path} (")


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: str) -> None:  # noqa: F811
    there = mnist(tmp_path / "there") / "MNIST" / "raw"
    job = {"format": "torchvision", "path": str(tmp_path / "here"), "name": "MNIST", "download": True}
    monkeypatch.setattr(MNIST, "mirrors", [f"{web}/nowhere/"])
    text = error_of(job)
    assert text.startswith("data.train.download: torchvision could not fetch MNIST: ")
    assert text.endswith("(fetch it by hand)")
    monkeypatch.setattr(MNIST, "mirrors", [f"{web}/there/MNIST/raw/"])
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in there.glob("*.gz")]
    monkeypatch.setattr(MNIST, "resources", sums)
    rows = index(tmp_path / "here", "MNIST", download=True)
    assert (len(rows), len(fetch(rows, np.arange(3)))) == (10, 3)


def test_sets_without_one_class_an_image(tmp_path: Path) -> None:
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("a", "b"):
        write(voc / "JPEGImages" / f"{name}.jpg")
        write(voc / "SegmentationClass" / f"{name}.png")
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    (tmp_path / "Kitti" / "raw" / "training" / "label_2").mkdir(parents=True)
    for i in range(2):
        write(tmp_path / "Kitti" / "raw" / "training" / "image_2" / f"{i}.png")
        (tmp_path / "Kitti" / "raw" / "training" / "label_2" / f"{i}.txt").write_text("")
    for name in ("VOCSegmentation", "Kitti"):
        assert error_of({"format": "torchvision", "path": str(tmp_path), "name": name}) == (
            f"data.train.name: torchvision's {name} has not one class an image (a set for classification is needed)"
        )


def test_the_set_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = index(mnist(tmp_path / "once"), "MNIST")
    fetch(rows, np.arange(len(rows)))

    def again(*args: object, **options: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(MNIST, "__init__", again)
    assert len(fetch(rows, np.arange(len(rows)))) == len(LABELS) + 4
