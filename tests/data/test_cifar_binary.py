"""CIFAR's binary version against torchvision's reading of the Python version of the same records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from containers import cifar10, error_of
from pictures import data
from torchvision.datasets import CIFAR10

from raymix.data.formats import fetch, index_data
from raymix.data.rows import Rows


def index(path: Path, **fields: str) -> Rows:
    return index_data(data({"format": "cifar_binary", "path": str(path), **fields}))


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    """Records of two groups with two classes each."""
    root = tmp_path / "cifar100"
    root.mkdir()
    for name, seed in (("train.bin", 0), ("test.bin", 1)):
        planes = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = np.array([[0, 0], [0, 2], [1, 1], [1, 3]], dtype=np.uint8)
        (root / name).write_bytes(np.hstack([labels, planes]).tobytes())
    (root / "fine_label_names.txt").write_text("apple\nbear\npear\nwolf\n")
    (root / "coarse_label_names.txt").write_text("fruit\nanimal\n")
    return root


def test_like_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cifar10(tmp_path / "cifar")
    lists = {"train_list": [("data_batch_1", ""), ("data_batch_2", "")], "test_list": [("test_batch", "")]}
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)  # the files hold other pixels than CIFAR's
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    for name, files in lists.items():
        monkeypatch.setattr(CIFAR10, name, files)
    rows = index(root)
    assert rows.class_names == ("a", "b")
    for is_val in (False, True):
        known = CIFAR10(str(root / "python"), train=not is_val)
        ids = np.flatnonzero(rows.is_val == is_val)
        assert rows.labels[ids].tolist() == known.targets
        for pixels, image in zip(fetch(rows, ids), known.data, strict=True):
            assert isinstance(pixels, np.ndarray)
            assert (pixels.dtype, pixels.shape) == (np.uint8, (32, 32, 3))
            assert (pixels == image).all()


def test_cifar100(cifar100: Path) -> None:
    rows = index(cifar100)
    assert rows.class_names == ("apple", "bear", "pear", "wolf")
    assert rows.labels.tolist() == [0, 2, 1, 3] * 2
    assert rows.is_val.tolist() == [False] * 4 + [True] * 4
    planes = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)
    assert (fetch(rows, np.array([7]))[0] == planes[3].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    rows = index(cifar100, labels="coarse")
    assert rows.class_names == ("fruit", "animal")
    assert rows.labels.tolist() == [0, 0, 1, 1] * 2


def test_without_names_and_without_test(cifar100: Path) -> None:
    (cifar100 / "fine_label_names.txt").unlink()
    (cifar100 / "test.bin").unlink()
    rows = index(cifar100)
    assert (rows.class_names, len(rows)) == (("0", "1", "2", "3"), 4)


def test_a_file_that_changed(tmp_path: Path) -> None:
    rows = index(cifar10(tmp_path / "cifar"))
    path = tmp_path / "cifar" / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[: 3073 * 2])
    assert [type(raw) for raw in fetch(rows, np.arange(7))] == [np.ndarray] * 2 + [OSError] * 4 + [np.ndarray]
    path.write_bytes(b"x")
    assert [type(raw) for raw in fetch(rows, np.arange(5, 7))] == [OSError, np.ndarray]
    path.unlink()
    assert isinstance(fetch(rows, np.arange(1))[0], FileNotFoundError)


def test_mistakes(tmp_path: Path, cifar100: Path) -> None:
    root = cifar10(tmp_path / "cifar")

    def error(path: Path, **fields: str) -> str:
        return error_of({"format": "cifar_binary", "path": str(path), **fields})

    assert error(root, labels="coarse") == "data.train.labels: CIFAR-10 has no coarse labels (leave it out)"
    (tmp_path / "above").mkdir()
    root.rename(tmp_path / "above" / "cifar-10-batches-bin")
    root = tmp_path / "above" / "cifar-10-batches-bin"
    assert error(tmp_path / "above").endswith(f"(did you mean {root}?)")
    assert "holds the Python version of CIFAR (fetch the binary" in error(root / "python" / "cifar-10-batches-py")
    assert "holds no training file (expected data_batch_*.bin" in error(tmp_path)
    (root / "batches.meta.txt").write_text("a\n")
    assert f"{root}/data_batch_1.bin holds label 1, but 1 class names" in error(root)
    (root / "batches.meta.txt").write_bytes(b"\xff")
    assert "batches.meta.txt cannot be read: not UTF-8 text" in error(root)
    (root / "data_batch_2.bin").write_bytes(bytes(3072))
    (root / "batches.meta.txt").unlink()
    assert f"{root}/data_batch_2.bin: 3,072 bytes are not whole records of 3,073 bytes" in error(root)
    (cifar100 / "train.bin").write_bytes(b"")
    assert "0 bytes are not whole records of 3,074 bytes" in error(cifar100)
