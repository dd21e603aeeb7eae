"""`splits.npz`: which rows of a run trained, chose and judged, by name, so that a later run may keep them apart.

A name is a row's uri below its source's folder; of each there is a hash of 8 bytes, with its part and its label. Of 32
select and val rows the content is hashed as well: a folder may give other images the same names.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.formats import fetch
from raymix.data.remote import is_remote
from raymix.data.rows import Ids, RawImage, Rows
from raymix.report.folder import write_bytes
from raymix.spec import JobError

SPLITS_FILE = "splits.npz"
FIELD = "data.keep_splits"
MOST_GONE = 0.5  # of the val rows, or of the sampled contents, that may not be what they were
_SAMPLED = 32
_TRAIN, _SELECT, _VAL, _APART = 1, 2, 3, 4  # apart: it takes no part, and must not train either
_WILD = set("*?[{")
_NONE = np.empty(0, dtype=np.int64)

Hashes = NDArray[np.uint64]


class Parts(NamedTuple):
    """Row ids of each part; `raymix.data.splits.Splits` has them, too."""

    train: Ids
    select: Ids
    val: Ids


class Kept(NamedTuple):
    """The rows of an earlier run; those of no part are left out."""

    run: str  # as the user names it
    names: Hashes  # (N,)
    parts: NDArray[np.uint8]  # (N,)
    labels: NDArray[np.int32]  # (N,), into class_names; -1: none, or hidden
    class_names: tuple[str, ...]
    sample: Hashes  # names of some select and val rows
    contents: Hashes  # and their contents


class Found(NamedTuple):
    """The rows of an earlier run among those of now."""

    parts: Parts  # train: of the earlier run and there still
    known: NDArray[np.bool_]  # (rows,), whether the earlier run had it in any part
    apart: NDArray[np.bool_]  # (rows,), whether it chose or judged then, also where it has no label now
    label: NDArray[
        np.int32
    ]  # (rows,), what its label was, as an index into the classes of then; -1: none, or not known
    val_gone: int
    select_gone: int


def write_splits(folder: Path, rows: Rows, parts: Parts, labels: Ids, apart: Ids = _NONE) -> None:
    """Keeps the parts of a run.

    Args:
        folder: The run's.
        rows: All that there are.
        parts: Its splits.
        labels: int64 for all rows, -1 where a row has none or hides it.
        apart: Of no part; an earlier run judged or chose by them.

    Raises:
        OSError: it cannot be written, or the sampled images cannot be read.
    """
    every = (*parts, apart)
    ids = np.concatenate(every)
    of_part = np.repeat(np.array([_TRAIN, _SELECT, _VAL, _APART], np.uint8), [len(part) for part in every])
    order = np.argsort(ids)
    ids, of_part = ids[order], of_part[order]
    held = np.concatenate([parts.val, parts.select])
    sampled = held[np.unique(np.linspace(0, len(held) - 1, _SAMPLED).astype(np.int64))] if len(held) else held
    names = names_of(rows)
    raw = io.BytesIO()
    np.savez_compressed(
        raw,
        names=names[ids],
        parts=of_part,
        labels=labels[ids].astype(np.int32),
        class_names=np.array(rows.class_names, dtype=np.str_),
        sample=names[sampled],
        contents=_contents(rows, sampled),
    )
    write_bytes(folder / SPLITS_FILE, raw.getvalue())


def read_splits(folder: Path, shown: str, field: str = FIELD) -> Kept:
    """The parts of a run, which messages call `shown`; `field` is to blame.

    Raises:
        JobError: it is no run, or one of a raymix that did not keep them.
    """
    try:
        with np.load(folder / SPLITS_FILE, allow_pickle=False) as held:
            kept = Kept(
                shown,
                held["names"].astype(np.uint64),
                held["parts"].astype(np.uint8),
                held["labels"].astype(np.int32),
                tuple(str(name) for name in held["class_names"]),
                held["sample"].astype(np.uint64),
                held["contents"].astype(np.uint64),
            )
    except FileNotFoundError:
        if not (folder / "plan.json").is_file():
            raise JobError(field, f"{shown} holds no run", "name a run's folder") from None
        problem = f"{shown} has no {SPLITS_FILE}: it is of an older raymix, or no run of its own"
        raise JobError(field, problem, f"raymix run --replay {shown} repeats it and leaves one") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise JobError(field, f"{shown}/{SPLITS_FILE} cannot be read: {type(error).__name__}") from None
    if not len(kept.names) == len(kept.parts) == len(kept.labels) > 0:
        raise JobError(field, f"{shown}/{SPLITS_FILE} is damaged: its columns are empty, or of different lengths")
    return kept


def find(kept: Kept, rows: Rows) -> Found:
    """The rows of an earlier run among some rows; what has no label now neither chooses nor judges."""
    names = names_of(rows)
    order = np.argsort(kept.names, kind="stable")
    there = kept.names[order]
    place = np.minimum(np.searchsorted(there, names), len(there) - 1)
    known = there[place] == names
    part, label = (
        np.where(known, of[order][place], otherwise) for of, otherwise in ((kept.parts, 0), (kept.labels, -1))
    )
    judged = known & (rows.labels >= 0)
    train, select, val = (
        np.flatnonzero((part == number) & allowed).astype(np.int64)
        for number, allowed in ((_TRAIN, known), (_SELECT, judged), (_VAL, judged))
    )
    return Found(
        Parts(train, select, val),
        known,
        part >= _SELECT,
        label.astype(np.int32),
        val_gone=int(np.count_nonzero(kept.parts == _VAL)) - len(val),
        select_gone=int(np.count_nonzero(kept.parts == _SELECT)) - len(select),
    )


def check_kept(kept: Kept, rows: Rows) -> None:
    """Refuses splits that are not those of these rows; reads up to 32 images.

    Raises:
        JobError: the run had no val rows, more than half of them are gone, or images are others under their names.
    """
    num_val = int(np.count_nonzero(kept.parts == _VAL))
    if not num_val:
        raise JobError(FIELD, f"{kept.run} has no val rows to keep", "name a run that was judged on some")
    gone = find(kept, rows).val_gone
    if gone > MOST_GONE * num_val:
        problem = f"{gone:,} of the {num_val:,} val rows of {kept.run} are not in the data any more"
        raise JobError(FIELD, problem, "name the data that holds them, or leave it out")
    other, looked = other_images(kept, rows)
    if len(other) > MOST_GONE * looked:
        problem = f"{len(other)} of {looked} rows that were looked at are other images than in {kept.run}"
        raise JobError(FIELD, f"{problem}, first: {rows.uris[other[0]]}", "new images need names of their own")


def are_same(kept: Kept, rows: Rows) -> bool:
    """Whether rows with the names of an earlier run's are its images, as far as those that are looked at say."""
    other, looked = other_images(kept, rows)
    return looked > 0 and len(other) <= MOST_GONE * looked


def other_images(kept: Kept, rows: Rows) -> tuple[list[int], int]:
    """Ids of rows that have a name of the earlier run's and are other images, and how many were looked at."""
    names = names_of(rows)
    ids = np.flatnonzero(np.isin(names, kept.sample)).astype(np.int64)
    before = dict(zip(kept.sample.tolist(), kept.contents.tolist(), strict=True))
    now = zip(ids.tolist(), names[ids].tolist(), _contents(rows, ids).tolist(), strict=True)
    other = [row for row, name, content in now if 0 not in (content, before[name]) and content != before[name]]
    return other, len(ids)


@lru_cache(maxsize=1)  # it is asked for several times for one run, and by all runs of a pilot
def names_of(rows: Rows) -> Hashes:
    """A hash of each row's part and name, uint64 (rows,)."""
    texts = _texts(rows)
    return np.fromiter((_hash(text) for text in texts), np.uint64, len(rows))


def _hash(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _texts(rows: Rows) -> Iterator[bytes]:
    """Part (t: data.train, u: data.unlabelled, v: validation) and name: the same image may not stand for two."""
    roots = [_root(getattr(source, "path", "")) for source in rows.sources]
    for uri, is_val, source in zip(rows.uris, rows.is_val.tolist(), rows.source_of.tolist(), strict=True):
        part = "v" if is_val else "u" if source else "t"
        yield f"{part}\0{uri.removeprefix(roots[source])}".encode("utf-8", "surrogateescape")


def _root(path: object) -> str:
    """What the names of a source's rows begin with: its folder, or that of its file or pattern; of a list, nothing."""
    if not isinstance(path, str) or not path:
        return ""
    full = path if is_remote(path) else os.path.abspath(os.path.expanduser(path))
    if _WILD.intersection(full):
        first = min(full.index(sign) for sign in _WILD if sign in full)
        return full[:first].rpartition("/")[0] + "/"
    if os.path.splitext(full)[1] and (is_remote(full) or os.path.isfile(full)):
        return full.rpartition("/")[0] + "/"
    return full.rstrip("/") + "/"


def _contents(rows: Rows, ids: Ids) -> Hashes:
    return np.array(_contents_of(rows, tuple(ids.tolist())), dtype=np.uint64)


@lru_cache(maxsize=8)  # the runs of a seed share them
def _contents_of(rows: Rows, ids: tuple[int, ...]) -> list[int]:
    return [_content(raw) for raw in fetch(rows, np.array(ids, dtype=np.int64))] if ids else []


def _content(raw: RawImage | OSError) -> int:
    """0: it cannot be read."""
    if isinstance(raw, OSError):
        return 0
    return _hash(raw if isinstance(raw, bytes) else np.ascontiguousarray(raw).tobytes())
