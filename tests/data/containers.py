"""Small data sets of two classes, each written by the tool that its format comes from."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pictures import data, drawn, encoded

from raymix.data.formats import index_data
from raymix.spec import JobError

NUM = 6
LABELS = [i % 2 for i in range(NUM)]


def pixels(num: int = NUM, shape: tuple[int, ...] = (8, 8, 3)) -> NDArray[np.uint8]:
    """Images of noise, uint8 (num, *shape)."""
    return np.random.default_rng(num).integers(0, 256, (num, *shape), dtype=np.uint8)


def hf_dataset(names: Sequence[str] = ("a", "b"), labels: Sequence[int] = LABELS) -> Any:
    """A dataset of the package `datasets` with an Image and a ClassLabel column."""
    from datasets import ClassLabel, Dataset, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=list(names))})
    images = [drawn(seed) for seed in range(len(labels))]
    return Dataset.from_dict({"image": images, "label": list(labels)}, features=features)


def hf_parquet(path: Path, **options: Any) -> Path:
    """The dataset as `datasets` writes Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hf_dataset(**options).to_parquet(path)
    return path


def hf_disk(folder: Path) -> Path:
    """The dataset with two splits as `datasets` saves it."""
    from datasets import DatasetDict

    splits = DatasetDict({"train": hf_dataset(), "test": hf_dataset(labels=[1, 0])})
    splits.save_to_disk(folder, num_shards={"train": 2, "test": 1})
    return folder


def tar(path: Path, first: int = 0, **options: Any) -> Path:
    """A shard as webdataset writes it: png and cls, keys are numbers from `first` on."""
    from webdataset import TarWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path), **options) as writer:
        for i, label in enumerate(LABELS, first):
            writer.write({"__key__": f"{i:04}", "png": encoded(drawn(i)), "cls": label})
    return path


def cifar10(folder: Path) -> Path:
    """CIFAR-10's files with a few records: the binary version, and in python/ the one that torchvision reads."""
    folder.mkdir(parents=True)
    python = folder / "python" / "cifar-10-batches-py"
    python.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("a\nb\n\n")
    for seed, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        planes = np.random.default_rng(seed).integers(0, 256, (NUM, 3072), dtype=np.uint8)
        labels = np.array(LABELS, dtype=np.uint8)[:, None]
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, planes]).tobytes())
        (python / name).write_bytes(pickle.dumps({"data": planes, "labels": LABELS}))
    (python / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    return folder


def mnist(root: Path) -> Path:
    """MNIST's idx files as they are distributed, of the classes 0 and 1 alone."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, num in (("train", NUM), ("t10k", 4)):
        images = struct.pack(">4i", 0x803, num, 28, 28) + pixels(num, (28, 28)).tobytes()
        labels = struct.pack(">2i", 0x801, num) + bytes(LABELS[:num])
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{name}-{kind}-ubyte").write_bytes(content)
            with gzip.open(raw / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(content)
    return root


def npz(path: Path) -> Path:
    """Training and validation arrays with the names that MedMNIST uses."""
    labels = np.array(LABELS)[:, None]
    np.savez(path, train_images=pixels(), train_labels=labels, val_images=pixels(4), val_labels=labels[:4])
    return path


def error_of(train: dict[str, Any], **fields: Any) -> str:
    """The whole text of the error that an index raises; it is one line."""
    with pytest.raises(JobError) as caught:
        index_data(data(train, **fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sources(folder: Path) -> dict[str, Any]:
    """For each container format a function that writes a small source of it below `folder`."""

    def of(form: str, path: Path, **fields: Any) -> dict[str, Any]:
        return {"format": form, "path": str(path), **fields}

    return {
        "parquet": lambda: of("parquet", hf_parquet(folder / "rows.parquet")),
        "webdataset": lambda: of("webdataset", tar(folder / "shard.tar")),
        "cifar_binary": lambda: of("cifar_binary", cifar10(folder / "cifar")),
        "hf_disk": lambda: of("hf_disk", hf_disk(folder / "saved")),
        "torchvision": lambda: of("torchvision", mnist(folder / "mnist"), name="MNIST"),
        "npz": lambda: of("npz", npz(folder / "arrays.npz")),
    }
