"""One Parquet shard of prepared images: written whole or not at all, and read back."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raymix.data.blocks import Block, encodable, fetched, part_of
from raymix.data.decode import unreadable
from raymix.data.encoded import BadImage
from raymix.data.picture import Codec, rewritten
from raymix.data.rows import Ids, Rows
from raymix.report.check import UnreadableImage
from raymix.spec import Channels, JobError, Section, Source

GROUP_COLUMN = "group"  # of data.group, whatever it was called where the images come from
GROUP_ROWS = 256  # a reader that wants one row fetches its group
WORK = ".raymix"  # folder of what is unfinished; formats and Hugging Face's `datasets` pass over hidden ones
_READ_BYTES = 4 * 2**20


class Writing(NamedTuple):
    """Writing an image is written; see `raymix.data.picture.rewritten`."""

    size: int | None
    codec: Codec | None
    quality: int | None
    channels: Channels


class Shard(NamedTuple):
    """A shard to be written: its file name and its rows in their order."""

    file: str
    block: Block


class Written(Section):
    """A shard as it was written, and the rows that it left out."""

    file: str
    rows: int
    labelled: int
    bytes: int
    sha256: str
    skipped: tuple[UnreadableImage, ...] = ()


def write_shard(shard: Shard, folder: str, writing: Writing) -> Written:
    """Reads the rows of a shard, leaves out the unreadable ones, and writes the others: file, then its entry.

    Both are written under another name, synced and renamed, so that what has its name is whole. The bytes follow from
    the rows and `writing` alone. Memory: about two shards.

    Raises:
        JobError: the folder cannot be written to.
    """
    rows, ids = shard.block.rows, shard.block.ids
    images, causes = _images(rows, ids, writing)
    good = [place for place, image in enumerate(images) if image]
    content = _parquet(rows, good, [images[place] for place in good])
    written = Written(
        file=shard.file,
        rows=len(good),
        labelled=int((rows.labels[good] >= 0).sum()),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        skipped=tuple(
            UnreadableImage(cause=cause, part=part_of(rows, place), path=encodable(rows.uris[place]))
            for place, cause in sorted(causes.items())
        ),
    )
    write_whole(folder, shard.file, content)
    write_whole(folder, entry_name(shard.file), written.model_dump_json().encode())
    return written


def is_sound(written: Written, folder: str) -> bool:
    """The shard is there, with the rows and the checksum that it was written with; it is read whole."""
    import pyarrow.parquet as pq

    path = Path(folder, written.file)
    try:
        if path.stat().st_size != written.bytes:
            return False
        hashed = hashlib.sha256()
        with path.open("rb") as file:
            while part := file.read(_READ_BYTES):
                hashed.update(part)
        return hashed.hexdigest() == written.sha256 and pq.read_metadata(path).num_rows == written.rows
    except FileNotFoundError:
        return False


def entry_name(file: str) -> str:
    """Where the entry of a shard stands in the folder while others are still missing."""
    return f"{WORK}/{file}.json"


def write_whole(folder: str, name: str, content: Any) -> None:
    """A file in a folder of shards that is there whole or not at all, whatever ends this process or the machine.

    Raises:
        JobError: it cannot be written.
    """
    path = Path(folder, name)
    part = Path(folder, WORK, f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        above = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(above)  # else the name may be gone after a power cut
        finally:
            os.close(above)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise JobError("DIR", f"{path} cannot be written: {error.strerror or error}") from error


def _images(rows: Rows, ids: Ids, writing: Writing) -> tuple[list[bytes], dict[int, str]]:
    """The images as they will be written, empty for bad ones, and place -> cause of those.

    They are read in the order of the source, where neighbours often lie in one piece of a larger file.
    """
    images = [b""] * len(rows)
    causes: dict[int, str] = {}
    by_id = np.argsort(ids)
    for chunk, raws in fetched(Block.of(rows, by_id).rows):
        for place, raw in zip(by_id[chunk].tolist(), raws, strict=True):
            if isinstance(raw, OSError):
                causes[place] = unreadable(raw)
                continue
            try:
                images[place] = rewritten(raw, writing.size, writing.codec, writing.quality, writing.channels)
            except BadImage as error:
                causes[place] = error.cause
    return images, causes


def _parquet(rows: Rows, places: Sequence[int], images: Sequence[bytes]) -> Any:
    """The file's content, as a buffer: columns as Hugging Face's `datasets` write them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(rows.class_names, rows.groups is not None)
    roots = [_root(source) for source in rows.sources]
    out = pa.BufferOutputStream()
    # images are compressed already; small groups let a reader fetch a few rows without the rest of the file
    options: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    with pq.ParquetWriter(out, schema, write_statistics=["label"], **options) as writer:
        for start in range(0, len(places), GROUP_ROWS):
            part = places[start : start + GROUP_ROWS]
            paths = [_relative(rows.uris[place], roots[rows.source_of[place]]) for place in part]
            columns: dict[str, list[Any]] = {
                "image": [
                    {"bytes": image, "path": path}
                    for image, path in zip(images[start : start + GROUP_ROWS], paths, strict=True)
                ]
            }
            if rows.class_names:
                columns["label"] = [int(label) if label >= 0 else None for label in rows.labels[list(part)]]
            if rows.groups is not None:
                columns[GROUP_COLUMN] = [encodable(rows.group_names[group]) for group in rows.groups[list(part)]]
            writer.write_table(pa.Table.from_pydict(columns, schema), row_group_size=GROUP_ROWS)
    return out.getvalue()


def _schema(class_names: Sequence[str], grouped: bool) -> Any:
    """Columns and their Hugging Face features; no label column where there are no classes, no group column so too."""
    import pyarrow as pa

    columns = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if class_names:
        columns.append(("label", pa.int64()))
        features["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    if grouped:
        columns.append((GROUP_COLUMN, pa.string()))
        features[GROUP_COLUMN] = {"dtype": "string", "_type": "Value"}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _root(source: Source) -> str:
    """The folder that a source's uris begin with, with a slash; empty where there is none."""
    path = getattr(source, "path", "")
    if not isinstance(path, str) or not path or "://" in path:
        return ""
    return os.path.join(os.path.abspath(os.path.expanduser(path)), "")


def _relative(uri: str, root: str) -> str:
    """The path that stands beside the image: where it came from, without what only this machine calls so."""
    return encodable(uri.removeprefix(root) if root else uri)
