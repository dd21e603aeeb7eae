"""`hf_disk`: a Hugging Face dataset as `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote it.

Its Arrow files are mapped into memory, not loaded; the package `datasets` is not needed. A uri is
`<file>#<record batch>:<row>`.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np

from raymix.data import arrow
from raymix.data.files import PATH, checked_folder
from raymix.data.labels import Part, rows_of, unlabelled
from raymix.data.rows import Rows
from raymix.spec import HfDiskSource, JobError

_VAL_SPLITS = ("validation", "valid", "val", "test")
_EXPECTED = "name the folder that save_to_disk was given"
_RUN = 64  # rows that lie together: a page of the disk, not an open, is what each costs


def index(source: HfDiskSource) -> Rows:
    """The rows of `source.split`, then, of a DatasetDict, those of the validation split, in the order of the files.

    Raises:
        JobError: the path, a split, a column or one of the files is wrong.
    """
    root = checked_folder(source.path)
    train, val = _folders(root, source)
    return rows_of(source, PATH, _part(train, source), _part(val, source) if val else None, _RUN)


def fetch(source: HfDiskSource, uris: Sequence[str]) -> list[bytes]:
    """The encoded images; b"" where a row has none. OSError where a file cannot be read."""
    images: list[bytes] = []
    for place, group in groupby(uris, key=lambda uri: uri.rpartition(":")[0]):
        path, _, batch = place.rpartition("#")
        rows = [int(uri.rpartition(":")[2]) for uri in group]
        images += _images(path, int(batch), rows, source.image_column)
    return images


def column(source: HfDiskSource, name: str, uris: Sequence[str]) -> list[str]:
    """What a column says of each row, empty for nothing.

    Raises:
        JobError: there is no such column, or what it holds is no name.
    """
    places = arrow.places(uris)
    found = {path: _names(path, name) for path in dict.fromkeys(path for path, _, _ in places)}
    return [found[path][batch][row] for path, batch, row in places]


def _names(path: str, name: str) -> list[list[str]]:
    """What a column of a file says, by record batch."""
    import pyarrow as pa

    batches = _opened(path)
    names = arrow.names_of(batches[0].schema, name, lambda: pa.chunked_array(_columns(path, batches, name)), path)
    left = iter(names)
    return [list(islice(left, batch.num_rows)) for batch in batches]


def _folders(root: str, source: HfDiskSource) -> tuple[str, str | None]:
    """The folders of the training and the validation split."""
    if os.path.isfile(os.path.join(root, "state.json")):
        return root, None
    table = os.path.join(root, "dataset_dict.json")
    if not os.path.isfile(table):
        parquet = any(name.endswith(".parquet") for name in os.listdir(root))
        hint = "set the source's format to parquet" if parquet else _EXPECTED
        raise JobError(PATH, f"{root} holds neither state.json nor dataset_dict.json", hint)
    splits = [str(name) for name in _json(table).get("splits", [])]
    val = source.val_split
    if val is None:
        val = next((name for name in _VAL_SPLITS if name in splits and name != source.split), "none")
    for field, name in (("split", source.split), ("val_split", val)):
        if name not in splits and (field, name) != ("val_split", "none"):
            close = difflib.get_close_matches(name, splits, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(splits)}"
            raise JobError(f"data.train.{field}", f"{root} has no split {name!r}", hint)
    if val == source.split:
        raise JobError("data.train.val_split", f"{val!r} is the training split too", "null picks one, none: a hold-out")
    return os.path.join(root, source.split), None if val == "none" else os.path.join(root, val)


def _part(folder: str, source: HfDiskSource) -> Part:
    import pyarrow as pa

    state = _json(os.path.join(folder, "state.json"))
    features = _json(os.path.join(folder, "dataset_info.json")).get("features") or None
    uris: list[str] = []
    columns: list[Any] = []
    declared: tuple[str, ...] = ()
    for entry in state.get("_data_files") or []:
        path = os.path.join(folder, str(entry["filename"]))
        batches = _opened(path)
        if not batches:
            continue
        schema = batches[0].schema
        arrow.image_column(schema, source.image_column, path)
        name = arrow.label_column(schema, source.label_column, path)
        declared = arrow.class_names(schema, name, features)
        uris += [f"{path}#{number}:{row}" for number, batch in enumerate(batches) for row in range(batch.num_rows)]
        columns += _columns(path, batches, name) if name else []
    if not uris:
        raise JobError(PATH, f"{folder} holds no row", _EXPECTED)
    labels = arrow.labels_of(pa.chunked_array(columns), declared, folder) if columns else unlabelled(len(uris))
    if state.get("_indices_data_files"):
        kept = _kept(folder, state["_indices_data_files"], len(uris))
        uris, labels = [uris[i] for i in kept], labels._replace(codes=labels.codes[kept])
    return Part(uris, labels, folder)


def _kept(folder: str, files: list[dict[str, str]], num_rows: int) -> list[int]:
    """Rows that a select or shuffle left, as releases of `datasets` before 2.8 noted beside the whole data; sorted."""
    paths = [os.path.join(folder, entry["filename"]) for entry in files]
    columns = [column for path in paths for column in _columns(path, _opened(path), "indices")]
    rows = np.concatenate([column.to_numpy() for column in columns])
    kept = np.unique(rows)
    if len(kept) < len(rows) or (len(kept) and kept[-1] >= num_rows):
        raise JobError(PATH, f"{folder} names a row twice, or one that is not there", "flatten_indices, then save it")
    return [int(row) for row in kept]


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise JobError(PATH, f"{path} cannot be read: {reason}", _EXPECTED) from None
    if not isinstance(content, dict):
        raise JobError(PATH, f"{path} is not what save_to_disk writes", _EXPECTED)
    return content


def _opened(path: str) -> Sequence[Any]:
    """The record batches of a file, for an index."""
    try:
        return _batches(path, *_version(path))
    except OSError as error:
        raise _broken(path, error) from None


def _columns(path: str, batches: Sequence[Any], name: str) -> list[Any]:
    try:
        return [_column(batch, name, path) for batch in batches]
    except OSError as error:
        raise _broken(path, error) from None


def _broken(path: str, error: OSError) -> JobError:
    reason = error.strerror or str(error).splitlines()[0]
    return JobError(PATH, f"{path} cannot be read: {reason}", "save the dataset again")


def _images(path: str, batch: int, rows: list[int], column: str | None) -> Iterator[bytes]:
    batches = _batches(path, *_version(path))
    if batch >= len(batches) or max(rows) >= batches[batch].num_rows:
        raise OSError(f"{path} has changed since it was indexed")
    try:
        images = _column(batches[batch], arrow.image_column(batches[batch].schema, column, path), path).take(rows)
    except JobError as error:
        raise OSError(f"{path} has changed since it was indexed: {error}") from None
    for payload, name in arrow.payloads(images):
        yield _file(name) if payload is None and name else payload or b""


def _column(batch: Any, name: str, path: str) -> Any:
    """A column of a batch, checked: Arrow takes the places of values from the file, and broken ones end the process.

    Raises:
        OSError: it is broken.
    """
    import pyarrow as pa

    column = batch.column(name)
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        raise OSError(str(error)) from error
    return column


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _version(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns


@functools.lru_cache(maxsize=64)  # maps of files, which cost addresses and no memory
def _batches(path: str, size: int, changed: int) -> Sequence[Any]:
    """All record batches of a file, their pixels not yet read.

    Raises:
        OSError: it cannot be read, or is no Arrow stream.
    """
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(pa.memory_map(path)) as reader:
            _ = reader.schema.names  # broken ones are told here and not later
            return list(reader)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise OSError(str(error)) from error
