"""Tables written a piece at a time, as the name of the file says; it is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from raymix.bucket import shown
from raymix.spec import JobError

_GROUP = 8_192  # rows that are held before they are written: a row group of Parquet


class Writer(Protocol):
    """Takes tables of one schema."""

    def write_table(self, table: pa.Table) -> None:
        """The next rows."""

    def close(self) -> None:
        """No more come."""


class _Lines:
    """JSON, a row a line."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write_table(self, table: pa.Table) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())

    def close(self) -> None:
        self._file.close()


def _csv(path: Path, schema: pa.Schema) -> Writer:
    writer: Writer = pyarrow.csv.CSVWriter(
        str(path), schema, write_options=pyarrow.csv.WriteOptions(quoting_style="needed")
    )
    return writer


def _parquet(path: Path, schema: pa.Schema) -> Writer:
    writer: Writer = pyarrow.parquet.ParquetWriter(str(path), schema)
    return writer


WRITERS: dict[str, Callable[[Path, pa.Schema], Writer]] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _Lines}


def check_out(out: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Refuses, before anything starts, what will not be written.

    Raises:
        JobError: the name does not say a format, the folder is not there, or the file is.
    """
    if out.suffix not in suffixes:
        raise JobError("--out", f"{out} does not end in {' or '.join(suffixes)}", "its end says the format")
    if not out.parent.is_dir():
        raise JobError("--out", f"no such folder: {out.parent}")
    if out.exists() and (out.is_dir() or not overwrite):
        raise JobError("--out", f"{out} exists", "name another, or pass --overwrite")


@contextmanager
def writing(out: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """A function that takes the next rows. The file is there, by its name, once all of them are.

    Raises:
        OSError: it cannot be written.
    """
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    waiting: list[pa.Table] = []
    try:
        writer = WRITERS[out.suffix](part, schema)

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        def write(table: pa.Table) -> None:
            waiting.append(table)
            if sum(map(len, waiting)) >= _GROUP:
                flush()

        try:
            yield write
            flush()
        finally:
            writer.close()
        os.replace(part, out)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def check_folder(folder: Path, mark: str, what: str, overwrite: bool) -> None:
    """Refuses, before anything starts, a folder that will not be written.

    Args:
        mark: A file that is in every folder of that kind.
        what: The kind, in words.

    Raises:
        JobError: it is there already, or holds something else.
    """
    if folder.exists() and not overwrite:
        raise JobError("--out", f"{shown(folder)} exists", "name another, or pass --overwrite")
    if folder.exists() and not (folder / mark).is_file():
        raise JobError("--out", f"{shown(folder)} holds something else than {what}", "name another")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of an older one once all is written; nothing is left else."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
