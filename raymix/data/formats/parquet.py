"""`parquet`: Parquet files with encoded images in a column, plain binary or Hugging Face's struct {bytes, path}.

The index reads metadata and labels only. A uri is `<file>#<row group>:<row>`.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from raymix.data import arrow
from raymix.data.files import PATH, expand, is_remote
from raymix.data.labels import Part, rows_of, unlabelled
from raymix.data.remote import in_threads, open_remote, problem
from raymix.data.rows import Rows
from raymix.data.shards import train_and_val
from raymix.spec import JobError, ParquetSource

SUFFIXES = ("parquet", "pq")
_MAX_RUN = 1000  # rows: a window of 48 runs is in memory at once where images are streamed
_BATCH_BYTES = 8 << 20  # of images that a reader holds decompressed
_BUFFER_BYTES = 4 << 20  # read from the file at once
_MAX_IDLE = 16  # readers kept between fetches


def index(source: ParquetSource) -> Rows:
    """Rows in the order of the sorted files; files named val-* or in val/ are the validation set of those of train.

    Raises:
        JobError: the path, a column or one of the files is wrong.
    """
    train, val = train_and_val(source.path, expand(source.path, SUFFIXES))
    files = [*train, *val]
    first = _head(files[0], source)
    heads = dict(zip(files, in_threads(lambda path: _checked_head(path, first), files), strict=True))
    sizes = [size for head in heads.values() for size in head.group_sizes]
    run = int(np.clip(np.median(sizes), 1, _MAX_RUN)) if sizes else 1
    parts = [_part(paths, [heads[path] for path in paths]) if paths else None for paths in (train, val)]
    if parts[0] is None or not parts[0].uris:
        raise JobError(PATH, f"{train[0] if len(train) == 1 else 'its files'} hold no row")
    return rows_of(source, PATH, parts[0], parts[1], run)


def fetch(source: ParquetSource, uris: Sequence[str]) -> list[bytes]:
    """The encoded images; b"" where a row has none. OSError where a file cannot be read."""
    wanted: dict[str, list[tuple[int, int, int]]] = {}  # path -> (row group, row, position in `uris`)
    for position, uri in enumerate(uris):
        path, _, place = uri.rpartition("#")
        group, _, row = place.partition(":")
        wanted.setdefault(path, []).append((int(group), int(row), position))
    images = [b""] * len(uris)
    for path, places in wanted.items():
        places.sort()
        reader = _borrowed(path, source.image_column, places[0][:2])
        found = reader.take([place[:2] for place in places])
        for (_, _, position), image in zip(places, found, strict=True):
            images[position] = image
        _give_back(reader)
    return images


def column(source: ParquetSource, name: str, uris: Sequence[str]) -> list[str]:
    """What a column says of each row, empty for nothing.

    Raises:
        JobError: there is no such column, or what it holds is no name.
    """
    places = arrow.places(uris)
    paths = list(dict.fromkeys(path for path, _, _ in places))
    found = dict(zip(paths, in_threads(lambda path: _names(path, name), paths), strict=True))
    return [found[path][group][row] for path, group, row in places]


def _names(path: str, name: str) -> list[list[str]]:
    """What a column of a file says, by row group."""
    import pyarrow as pa

    try:
        with _opened(path) as file:
            names = iter(arrow.names_of(file.schema_arrow, name, lambda: file.read([name]).column(name), path))
            groups = range(file.metadata.num_row_groups)
            return [list(islice(names, file.metadata.row_group(group).num_rows)) for group in groups]
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise JobError(PATH, f"{path} is not a whole Parquet file: {reason}", "write or copy it again") from None
    except OSError as error:
        raise problem(path, error) from None


# ---- index ------------------------------------------------------------------------------------------------------


class _Head(NamedTuple):
    """What an index needs of a file; `labels` is a list of Arrow arrays, empty where there is no such column."""

    path: str
    group_sizes: list[int]
    image_column: tuple[str, Any]  # name and type
    label_column: tuple[str | None, Any]
    labels: list[Any]
    class_names: tuple[str, ...]


def _head(path: str, source: ParquetSource) -> _Head:
    import pyarrow as pa

    try:
        with _opened(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            image = arrow.image_column(schema, source.image_column, path)
            label = arrow.label_column(schema, source.label_column, path)
            sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
            labels = file.read(columns=[label]).column(label).chunks if label else []
            return _Head(
                path,
                sizes,
                (image, schema.field(image).type),
                (label, schema.field(label).type if label else None),
                labels,
                arrow.class_names(schema, label),
            )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise JobError(PATH, f"{path} is not a whole Parquet file: {reason}", "write or copy it again") from None
    except OSError as error:
        raise problem(path, error) from None


def _checked_head(path: str, first: _Head) -> _Head:
    """The head of a file that must have the columns of the first one.

    Raises:
        JobError: it cannot be read, or has not.
    """
    image, label = first.image_column[0], first.label_column[0]
    asked = ParquetSource(format="parquet", path=path, image_column=image, label_column=label)
    head = first if path == first.path else _head(path, asked)
    pairs = (first.image_column, head.image_column), (first.label_column, head.label_column)
    for (name, expected), (other, found) in pairs:
        if (name, expected) != (other, found):
            problem = f"{path} has {other!r} of type {found} where {first.path} has {name!r} of type {expected}"
            raise JobError(PATH, problem, "one source needs files of one kind")
    return head


def _part(paths: Sequence[str], heads: Sequence[_Head]) -> Part:
    import pyarrow as pa

    groups = [(head.path, group, size) for head in heads for group, size in enumerate(head.group_sizes)]
    uris = [f"{path}#{group}:{row}" for path, group, size in groups for row in range(size)]
    declared = heads[0].class_names
    for head in heads:
        if head.class_names != declared:
            raise JobError(PATH, f"{head.path} names other classes than {heads[0].path}", "write them alike")
    chunks = [chunk for head in heads for chunk in head.labels]
    where = paths[0] if len(paths) == 1 else os.path.dirname(paths[0])
    labels = arrow.labels_of(pa.chunked_array(chunks), declared, where) if chunks else unlabelled(len(uris))
    return Part(uris, labels, where)


# ---- fetch ------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one file's images forwards, a batch at a time: what it holds is bounded by a page, not by a row group."""

    def __init__(self, path: str, column: str | None) -> None:
        """Open the file; OSError where it is not to be read."""
        self.key = _key(path, column)
        self._path = path
        self._file = _opened(path)
        schema = self._file.schema_arrow
        name = arrow.image_column(schema, column, path)
        struct = schema.field(name).type.num_fields > 0
        self._column = f"{name}.bytes" if struct else name
        self._group, self._start = -1, 0  # of the batch that is held
        self._batch: Any = []
        self._batches: Iterator[Any] = iter(())

    def is_before(self, place: tuple[int, int]) -> bool:
        """Whether it comes past a place (row group, row) without starting the group anew."""
        return self._group == place[0] and self._start <= place[1]

    def take(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The images at sorted places (row group, row).

        Raises:
            OSError: they cannot be read, or are not there.
        """
        import pyarrow as pa

        images: list[bytes] = []
        try:
            while len(images) < len(places):
                group, row = places[len(images)]
                self._go_to(group, row)
                end = bisect_left(places, (group, self._start + len(self._batch)))
                rows = [place[1] - self._start for place in places[len(images) : end]]
                images += [payload or b"" for payload, _ in arrow.payloads(self._batch.take(rows))]
        except pa.ArrowException as error:
            raise OSError(f"{self._path}: {error}") from error
        return images

    def _go_to(self, group: int, row: int) -> None:
        if not self.is_before((group, row)):
            if group >= self._file.num_row_groups:
                raise OSError(f"{self._path} has changed since it was indexed")
            self._batches = self._file.iter_batches(
                self._batch_rows(group), row_groups=[group], columns=[self._column], use_threads=False
            )
            self._group, self._start, self._batch = group, 0, []
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(f"{self._path} has changed since it was indexed")
            self._batch = batch.column(0)

    def _batch_rows(self, group: int) -> int:
        found = self._file.metadata.row_group(group)
        return max(1, int(_BATCH_BYTES * found.num_rows // max(1, found.total_byte_size)))


_idle: list[_Reader] = []  # the most recently used last
_idle_lock = threading.Lock()


def _borrowed(path: str, column: str | None, place: tuple[int, int]) -> _Reader:
    """A reader of the file that no other thread uses: neighbouring rows are mostly asked for one after the other."""
    import pyarrow as pa

    key = _key(path, column)
    with _idle_lock:
        fitting = [reader for reader in _idle if reader.key == key]
        if fitting:
            best = next((reader for reader in fitting if reader.is_before(place)), fitting[-1])
            _idle.remove(best)
            return best
    try:
        return _Reader(path, column)
    except (pa.ArrowException, UnicodeDecodeError, JobError) as error:  # it was whole when it was indexed
        raise OSError(f"{path}: {error}") from error


def _give_back(reader: _Reader) -> None:
    with _idle_lock:
        _idle.append(reader)
        del _idle[:-_MAX_IDLE]


def _key(path: str, column: str | None) -> tuple[str, str | None, int, int]:
    """Also tells a local file that was written anew."""
    found = None if is_remote(path) else os.stat(path)
    return (path, column, found.st_size, found.st_mtime_ns) if found else (path, column, 0, 0)


def _opened(path: str) -> Any:
    """The file as a pyarrow ParquetFile; OSError or ArrowException where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = open_remote(path) if is_remote(path) else pa.OSFile(path)
    return pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)  # which would hold a whole row group
