"""`raymix data prepare`: which rows go into which shard, what is recorded, and whether a folder of shards is whole."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from raymix.data.blocks import Block
from raymix.data.encoded import BadImage
from raymix.data.expand import expand
from raymix.data.formats import fetch
from raymix.data.formats.parquet import SUFFIXES
from raymix.data.picture import rewritten
from raymix.data.remote import is_remote
from raymix.data.rows import Ids, RawImage, Rows
from raymix.data.shardfile import GROUP_ROWS, Shard, Writing, Written
from raymix.spec import Channels, JobError, ParquetSource, Section, Source

MANIFEST = "raymix.json"
SHARD_BYTES = 100_000_000
_NUM_SHARDS, _MIN_ROWS = 32, 4 * GROUP_ROWS  # small sets are cut finer, so that several processes can work on them
_MAX_SHARD_BYTES = 1_000_000_000  # a shard is put together in memory
_SAMPLE = 64


class Options(Section):
    """What the user asks for.

    Attributes:
        size: pixels that the shorter side is reduced to; None: all stays.
        codec: keep leaves an image's own.
        quality: of JPEG and WebP; None: 90, where an image is written anew.
        rows: of a shard; None: about 100 MB.
        seed: of the order.
    """

    size: int | None = Field(None, ge=4)
    codec: Literal["keep", "jpeg", "png", "webp"] = "keep"
    quality: int | None = Field(None, ge=1, le=100)
    rows: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    def writing(self, channels: Channels) -> Writing:
        """Writing each image is written."""
        return Writing(self.size, None if self.codec == "keep" else self.codec, self.quality, channels)


class Made(Section):
    """What shards are made of: the same gives the same bytes. `index`: a hash of all rows; `rows`: of a shard."""

    version: Literal[1] = 1
    sources: tuple[Source, ...]
    index: str
    channels: Channels
    options: Options
    rows: int


class Totals(Section):
    """Over all shards."""

    train: int
    labelled: int
    val: int
    bytes: int


class Manifest(Section):
    """`raymix.json` of a folder of shards. Written last: where it is, every image was read and every shard checked.

    `skipped`: cause -> number of images left out, which the shards' entries and `skipped.tsv` name.
    """

    made: Made
    class_names: tuple[str, ...]
    shards: tuple[Written, ...]
    totals: Totals
    skipped: dict[str, int]


def shards_of(rows: Rows, num_rows: int, seed: int) -> list[Shard]:
    """All shards in the order of their names, `num_rows` in each or a little less: training rows, then validation."""
    val = np.flatnonzero(rows.is_val)
    in_order = np.array_split(val, _num_shards(len(val), num_rows)) if len(val) else []
    shuffled = shuffled_shards(np.flatnonzero(~rows.is_val), rows.run, num_rows, seed)
    return [*_named("train", rows, shuffled), *_named("val", rows, in_order)]


def shuffled_shards(ids: Ids, run: int, num_rows: int, seed: int) -> list[Ids]:
    """The row ids of each shard, in a random order.

    Sources are often sorted by class. Where a job streams, it shuffles windows of neighbouring rows and never all of
    them, so a batch has a fair mix of classes only if the shards have one already.

    Args:
        run: Neighbours that lie in one piece of a larger file. They go to the same shard, else each shard would read
            every piece of the source; but no more of them than a sixteenth of a shard, so that it still mixes.
        num_rows: Of a shard, at most.
    """
    if not len(ids):
        return []
    generator = np.random.default_rng(seed)
    piece = np.arange(len(ids)) // max(1, min(run, num_rows // 16))
    place = generator.permutation(piece[-1] + 1)[piece]
    dealt = np.array_split(ids[np.argsort(place, kind="stable")], _num_shards(len(ids), num_rows))
    return [generator.permutation(shard) for shard in dealt]


def _num_shards(num_ids: int, num_rows: int) -> int:
    return math.ceil(num_ids / num_rows)


def _named(part: str, rows: Rows, shards: Sequence[Ids]) -> list[Shard]:
    files = [f"{part}-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards))]
    return [Shard(file, Block.of(rows, ids)) for file, ids in zip(files, shards, strict=True)]


def rows_of_shard(rows: Rows, asked: int | None, writing: Writing) -> int:
    """Writing many rows a shard gets, by the bytes of up to 64 images from all over the source.

    Raises:
        JobError: so many are asked for that a shard would not fit into memory.
    """
    places = np.unique(np.linspace(0, len(rows) - 1, _SAMPLE).astype(np.int64))
    sizes = [len(image) for raw in fetch(rows, places) if (image := _rewritten(raw, writing))]
    mean = max(1.0, sum(sizes) / max(1, len(sizes)))
    if asked is None:
        return max(1, min(int(SHARD_BYTES / mean), max(_MIN_ROWS, math.ceil(len(rows) / _NUM_SHARDS))))
    if min(asked, len(rows)) * mean > _MAX_SHARD_BYTES:
        most = int(_MAX_SHARD_BYTES / mean)
        raise JobError(
            "--rows", f"{asked:,} rows take about {asked * mean / 1e9:.1f} GB", f"{most:,} or fewer; 100 MB do"
        )
    return asked


def _rewritten(raw: RawImage | OSError, writing: Writing) -> bytes:
    """As it would be written; empty where it cannot be read."""
    try:
        return (
            b""
            if isinstance(raw, OSError)
            else rewritten(raw, writing.size, writing.codec, writing.quality, writing.channels)
        )
    except BadImage:
        return b""


def index_digest(rows: Rows) -> str:
    """A hash of all that an index says, so that a source that has changed is noticed."""
    hashed = hashlib.blake2b(digest_size=16)
    for texts in (rows.class_names, rows.uris):
        for text in texts:
            hashed.update(text.encode("utf-8", "surrogateescape") + b"\0")
        hashed.update(b"\0")
    for numbers in (rows.labels, rows.is_val, rows.source_of):
        hashed.update(np.ascontiguousarray(numbers).data)
    if rows.groups is not None:
        hashed.update("\0".join(rows.group_names).encode("utf-8", "surrogateescape"))
        hashed.update(np.ascontiguousarray(rows.groups).data)
    return hashed.hexdigest()


def manifest_of(made: Made, class_names: tuple[str, ...], shards: Sequence[Written]) -> Manifest:
    """The manifest of shards that are all there, in the order of their names."""
    causes = Counter(image.cause for shard in shards for image in shard.skipped)
    train = [shard for shard in shards if shard.file.startswith("train-")]
    val = [shard for shard in shards if not shard.file.startswith("train-")]
    return Manifest(
        made=made,
        class_names=class_names,
        shards=tuple(shards),
        totals=Totals(
            train=sum(shard.rows for shard in train),
            labelled=sum(shard.labelled for shard in train),
            val=sum(shard.rows for shard in val),
            bytes=sum(shard.bytes for shard in shards),
        ),
        skipped=dict(causes.most_common()),
    )


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of a folder; None: it has none that this version reads."""
    try:
        return Manifest.model_validate_json(Path(folder, MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def verified(source: Source) -> bool:
    """Whether all rows of a source are known to be readable: local shards that `raymix data prepare` wrote.

    Quick: a manifest is there and the sizes of its files are what it says; no shard is read.
    """
    if not isinstance(source, ParquetSource):
        return False
    paths = (source.path,) if isinstance(source.path, str) else source.path
    if any(is_remote(path) for path in paths):
        return False
    try:
        files = expand(source.path, SUFFIXES)
    except JobError:
        return False
    folders = {os.path.dirname(file) for file in files}
    sizes = {os.path.join(folder, name): size for folder in folders for name, size in _sizes(folder).items()}
    whole = {os.path.abspath(os.path.expanduser(path)) for path in paths}  # of these every shard must be there
    wanted = {file for file in sizes if os.path.dirname(file) in whole}
    return wanted <= set(files) and all(sizes.get(file) == os.stat(file).st_size for file in files)


def _sizes(folder: str) -> dict[str, int]:
    """File name -> bytes, as the folder's manifest has them; empty where it has none."""
    manifest = read_manifest(folder)
    return {shard.file: shard.bytes for shard in manifest.shards} if manifest else {}
