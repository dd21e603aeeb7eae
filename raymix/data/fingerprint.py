"""A fingerprint of the rows of a run: cheap enough to be taken every time, fine enough to name the row that changed."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.formats import fetch
from raymix.data.groups import folder_of
from raymix.data.remote import is_remote
from raymix.data.rows import RawImage, Rows
from raymix.report.environment import DataPrint
from raymix.spec import Source

MARKS_FILE = "rows.npy"
SAMPLED = 32  # images of which the content is hashed
_MOST_SIZES, _THREADS = 20_000, 16  # files that are asked for their size: a second, at a millisecond each
_IN_FILE = ("parquet", "webdataset", "hf_disk", "cifar_binary", "npz")  # a uri is <file>#<place>
_NO_FILE = ("torchvision", "digits")

Marks = NDArray[np.uint32]


class Fingerprint(NamedTuple):
    """What is kept of the rows, and a mark for each of them."""

    data: DataPrint
    marks: Marks


@lru_cache(maxsize=1)  # a pilot's runs share their rows
def fingerprint(rows: Rows, sized: int | None = None) -> Fingerprint:
    """That of some rows; reads `SAMPLED` images. `sized`: as `DataPrint` has it, None: by the number of files."""
    files = [_file(rows, row) for row in range(len(rows))]
    if sized is None:
        num = len(set(filter(None, files)))
        sized = -(-num // _MOST_SIZES) if num else 0
    sizes = _sizes(files, sized)
    marks = np.fromiter(
        (zlib.crc32(text) for text in _texts(rows, [sizes.get(file, -1) for file in files])), np.uint32, len(rows)
    )
    hashed = hashlib.blake2b("\0".join(rows.class_names).encode("utf-8", "surrogateescape"), digest_size=16)
    hashed.update(marks.astype("<u4").tobytes())
    sample = np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(np.int64))
    contents = {int(row): _content(image) for row, image in zip(sample, fetch(rows, sample), strict=True)}
    return Fingerprint(DataPrint(rows=len(rows), index=hashed.hexdigest(), sized=sized, sample=contents), marks)


def changed(before: Fingerprint, rows: Rows) -> str | None:
    """What is not as it was, naming the first row that changed; None: all that is looked at is."""
    now = fingerprint(rows, before.data.sized)
    both = min(before.data.rows, now.data.rows)
    found = np.flatnonzero(before.marks[:both] != now.marks[:both])
    if len(found):
        return f"row {found[0]} ({rows.uris[found[0]]}) is not the image, label or size that it was"
    if now.data.rows > before.data.rows:
        return f"row {both} ({rows.uris[both]}) is new"
    if now.data.rows < before.data.rows:
        return f"row {both} is gone, there were {before.data.rows:,}"
    for row, content in before.data.sample.items():
        if now.data.sample.get(row) != content:
            return f"row {row} ({rows.uris[row]}) has another content"
    return None if now.data.index == before.data.index else "its classes are not what they were"


def _texts(rows: Rows, sizes: list[int]) -> Iterator[bytes]:
    """All that counts of each row; its name below the source's folder, so that a copy elsewhere is the same."""
    roots = [_root(rows, number) for number in range(len(rows.sources))]
    names = [*rows.class_names, ""]
    groups = [""] * len(rows) if rows.groups is None else [f"\0{rows.group_names[group]}" for group in rows.groups]
    for uri, label, is_val, source, size, group in zip(
        rows.uris, rows.labels.tolist(), rows.is_val.tolist(), rows.source_of.tolist(), sizes, groups, strict=True
    ):
        text = f"{uri.removeprefix(roots[source])}\0{names[label]}\0{is_val}\0{source}\0{size}{group}"
        yield text.encode("utf-8", "surrogateescape")


def _root(rows: Rows, number: int) -> str:
    """The folder that the names of a source's rows begin with."""
    uris = [rows.uris[row] for row in np.flatnonzero(rows.source_of == number)]
    return folder_of(getattr(rows.sources[number], "path", ""), uris)


def _file(rows: Rows, row: int) -> str:
    """The local file that holds a row; empty where there is none, or it is not cheap to ask for its size."""
    source: Source = rows.sources[rows.source_of[row]]
    uri = rows.uris[row]
    if source.format in _NO_FILE or is_remote(uri):
        return ""
    return uri.rpartition("#")[0] if source.format in _IN_FILE else uri


def _sizes(files: list[str], sized: int) -> dict[str, int]:
    """Bytes of one file in `sized`: which ones, their names alone say, so that another file more changes no other."""
    if not sized:
        return {}
    asked = [file for file in dict.fromkeys(filter(None, files)) if sized == 1 or not _name_hash(file) % sized]
    parts = [asked[start::_THREADS] for start in range(_THREADS)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="raymix-sizes") as pool:
        found = pool.map(lambda part: [_size(file) for file in part], parts)
        return {
            file: size for part, told in zip(parts, found, strict=True) for file, size in zip(part, told, strict=True)
        }


def _name_hash(file: str) -> int:
    return zlib.crc32(os.path.basename(file).encode("utf-8", "surrogateescape"))


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return -1


def _content(image: RawImage | OSError) -> str:
    if isinstance(image, OSError):
        return "unreadable"
    raw = image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def read_marks(file: str | os.PathLike[str]) -> Marks:
    """The marks that were kept.

    Raises:
        OSError, ValueError: they cannot be read.
    """
    return np.asarray(np.load(file, allow_pickle=False), np.uint32)
