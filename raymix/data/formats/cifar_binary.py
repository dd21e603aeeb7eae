"""`cifar_binary`: CIFAR-10 or CIFAR-100 in its binary version, records of label bytes and 3,072 bytes of pixels.

A uri is `<file>#<record>`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.files import PATH, checked_folder, listing
from raymix.data.labels import Labels, Part, of_numbers, rows_of
from raymix.data.rows import Rows
from raymix.spec import CifarBinarySource, JobError

_PIXELS = 3 * 32 * 32
_EXPECTED = "expected data_batch_*.bin and test_batch.bin, or train.bin and test.bin"


class _Kind(NamedTuple):
    train: str  # how the training files' names begin
    test: str
    label_bytes: int


_CIFAR10 = _Kind("data_batch_", "test_batch.bin", 1)
_CIFAR100 = _Kind("train.bin", "test.bin", 2)


def index(source: CifarBinarySource) -> Rows:
    """Training records by file, then those of the test file as validation set.

    Raises:
        JobError: the path, a file's size or a label is wrong.
    """
    root = checked_folder(source.path)
    names = sorted(name for name in os.listdir(root) if name.endswith(".bin"))
    kind = _kind(root, names)
    place, table = _label_byte(source, kind)
    declared = _class_names(os.path.join(root, table))
    train = _part(root, [name for name in names if name.startswith(kind.train)], kind, place, declared)
    val = _part(root, [kind.test], kind, place, declared) if kind.test in names else None
    return rows_of(source, PATH, train, val)


def fetch(source: CifarBinarySource, uris: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Each image, uint8 (32, 32, 3). OSError where a file cannot be read or has become shorter."""
    images: list[NDArray[np.uint8]] = []
    for path, group in groupby(uris, key=lambda uri: uri.rpartition("#")[0]):
        rows = [int(uri.rpartition("#")[2]) for uri in group]
        kind = _CIFAR10 if _CIFAR10.train in path or path.endswith(_CIFAR10.test) else _CIFAR100
        records = _records(path, kind)
        if max(rows) >= len(records):
            raise OSError(f"{path} has changed since it was indexed")
        planes = records[rows][:, kind.label_bytes :].reshape(-1, 3, 32, 32)
        images += list(planes.transpose(0, 2, 3, 1))
    return images


def _kind(root: str, names: Sequence[str]) -> _Kind:
    for kind in (_CIFAR10, _CIFAR100):
        if any(name.startswith(kind.train) for name in names):
            return kind
    below = [name for name in listing(root).folders if name.startswith("cifar-10") and name.endswith("bin")]
    if below:
        raise JobError(PATH, f"{root} holds no training file", f"did you mean {os.path.join(root, below[0])}?")
    if "data_batch_1" in os.listdir(root) or "train" in os.listdir(root):
        hint = "fetch the binary version, or set the source's format to torchvision"
        raise JobError(PATH, f"{root} holds the Python version of CIFAR", hint)
    raise JobError(PATH, f"{root} holds no training file", _EXPECTED)


def _label_byte(source: CifarBinarySource, kind: _Kind) -> tuple[int, str]:
    """Where a record has its label, and the file that names the classes."""
    if kind is _CIFAR100:
        return (1, "fine_label_names.txt") if source.labels == "fine" else (0, "coarse_label_names.txt")
    if source.labels == "coarse":
        raise JobError("data.train.labels", "CIFAR-10 has no coarse labels", "leave it out")
    return 0, "batches.meta.txt"


def _class_names(path: str) -> list[str]:
    """One name a line; without the file the classes are called by their numbers."""
    if not os.path.lexists(path):
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise JobError(PATH, f"{path} cannot be read: {reason}", "unpack the archive again") from None


def _part(root: str, names: Sequence[str], kind: _Kind, place: int, declared: Sequence[str]) -> Part:
    uris: list[str] = []
    found: list[Labels] = []
    for name in names:
        path = os.path.join(root, name)
        try:
            values = np.array(_records(path, kind)[:, place])
        except OSError as error:
            raise JobError(PATH, f"{path}: {error.strerror or error}", "unpack the archive again") from None
        uris += [f"{path}#{row}" for row in range(len(values))]
        found.append(of_numbers(values, declared or [str(i) for i in range(256)], PATH, path))
    return Part(uris, Labels(found[0].names, np.concatenate([labels.codes for labels in found])), root)


def _records(path: str, kind: _Kind) -> NDArray[np.uint8]:
    """The records of a file, uint8 (N, label bytes + 3072), mapped into memory.

    Raises:
        OSError: it cannot be read, or its size is not that of whole records.
    """
    length = kind.label_bytes + _PIXELS
    size = os.stat(path).st_size
    if not size or size % length:
        raise OSError(f"{size:,} bytes are not whole records of {length:,} bytes")
    return np.memmap(path, np.uint8, "r", shape=(size // length, length))
