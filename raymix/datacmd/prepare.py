"""`raymix data prepare`: shards written in parallel, gone on with after any end, read back, then recorded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from raymix.data.blocks import map_threads
from raymix.data.prepare import (
    MANIFEST,
    Made,
    Manifest,
    Options,
    index_digest,
    manifest_of,
    read_manifest,
    rows_of_shard,
    shards_of,
)
from raymix.data.rows import Rows
from raymix.data.shardfile import WORK, Shard, Writing, Written, entry_name, is_sound, write_shard, write_whole
from raymix.datacmd.named import Named, index
from raymix.datacmd.work import How, console, told, workers
from raymix.report.check import skipped_table
from raymix.spec import Data, JobError
from raymix.watch.console import ConsoleSink

SKIPPED = "skipped.tsv"
_MADE = f"{WORK}/made.json"


def prepare(what: Named, folder: str, options: Options, how: How) -> Manifest:
    """Writes the images of a source as Parquet shards in `folder`; of one that was begun, what is whole stays.

    Raises:
        JobError: the source, DIR or an option is wrong, or too many images are unreadable.
    """
    rows, data = index(what), what.spec.data
    folder = _local(folder)
    writing = options.writing(data.channels)
    made = _made(rows, options, writing, _begun(folder), folder)
    shards = shards_of(rows, made.rows, options.seed)
    with console(how, "the same command goes on from here") as sink:
        manifest = read_manifest(folder)
        written = _sound(
            manifest.shards if manifest else _entries(folder, shards), folder, sink, "checking what is there"
        )
        if manifest is not None and len(written) == len(shards):
            sink.note(f"{folder} was prepared before: nothing to do")
            return manifest
        _open(folder, made)
        kept = {shard.file for shard in written}
        left = [shard for shard in shards if shard.file not in kept]
        num_left = sum(len(shard.block) for shard in left)
        new = list[Written]()
        with workers(what.spec.cluster, num_left, how, sink) as map_blocks:
            results = map_blocks(partial(write_shard, folder=folder, writing=writing), left)
            with closing(told(results, sink, "writing images", num_left, _num_rows)) as done:
                for shard in done:
                    new.append(shard)
                    _check_bad([*written, *new], data, len(rows), folder)
        _check_back(new, folder, sink)
    return _finish(folder, made, rows, [*written, *new])


# ---- the folder -------------------------------------------------------------------------------------------------


def _local(folder: str) -> str:
    if "://" in folder:
        raise JobError("DIR", f"{folder} is not a local folder", "prepare into one, then copy it")
    return os.path.abspath(os.path.expanduser(folder))


def _begun(folder: str) -> Made | None:
    """What the shards in a folder are made of; None: it is empty, or not there yet.

    Raises:
        JobError: it holds something else.
    """
    if (manifest := read_manifest(folder)) is not None:
        return manifest.made
    try:
        return Made.model_validate_json(Path(folder, _MADE).read_bytes())
    except ValidationError:
        raise JobError("DIR", f"{folder} was begun by another version of raymix", "remove it") from None
    except FileNotFoundError:
        pass
    except OSError as error:
        raise JobError("DIR", f"{folder} cannot be read: {error.strerror or error}") from None
    if os.path.isdir(folder) and set(os.listdir(folder)) - {WORK}:
        raise JobError("DIR", f"{folder} holds other files", "name a new or an empty folder")
    return None


def _made(rows: Rows, options: Options, writing: Writing, begun: Made | None, folder: str) -> Made:
    """What the shards are to be made of.

    Raises:
        JobError: those that are there are made of something else.
    """
    made = Made(
        sources=rows.sources,
        index=index_digest(rows),
        channels=writing.channels,
        options=options,
        rows=begun.rows if begun else rows_of_shard(rows, options.rows, writing),
    )
    # how a path is written does not matter: `index` says where each image is
    if begun is not None and begun.model_copy(update={"sources": made.sources}) != made:
        raise JobError("DIR", f"{folder} was prepared {_difference(begun, made)}", "name another folder, or remove it")
    return made


def _difference(begun: Made, made: Made) -> str:
    """The first thing that is not the same, as in 'with --size 64, not 32'."""
    for name in Options.model_fields:
        before, now = getattr(begun.options, name), getattr(made.options, name)
        if before != now:
            before, now = ("left out" if value is None else value for value in (before, now))
            return f"with --{name} {before}, not {now}"
    if begun.channels != made.channels:
        return f"with data.channels {begun.channels}, not {made.channels}"
    same = begun.sources == made.sources
    return "from the same source when it held other images" if same else "from another source"


def _open(folder: str, made: Made) -> None:
    """Makes the folder ready for shards; it has no manifest until all of them are there."""
    try:
        os.makedirs(os.path.join(folder, WORK), exist_ok=True)
        write_whole(folder, _MADE, made.model_dump_json().encode())
        Path(folder, MANIFEST).unlink(missing_ok=True)
    except OSError as error:
        raise JobError("DIR", f"{folder} cannot be made: {error.strerror or error}") from None


# ---- the shards -------------------------------------------------------------------------------------------------


def _num_rows(shard: Written) -> int:
    return shard.rows + len(shard.skipped)


def _entries(folder: str, shards: Iterable[Shard]) -> list[Written]:
    """The entries of the shards that were written before."""
    found = []
    for shard in shards:
        try:
            found.append(Written.model_validate_json(Path(folder, entry_name(shard.file)).read_bytes()))
        except (FileNotFoundError, ValidationError):
            continue
    return found


def _sound(written: Sequence[Written], folder: str, sink: ConsoleSink, text: str) -> list[Written]:
    """Those of them that are there, to the last bit."""
    if not written:
        return []
    checked = map_threads(partial(_checked, folder=folder), written)
    with closing(told(checked, sink, text, len(written), lambda _: 1)) as found:
        return [shard for shard, sound in found if sound]


def _checked(written: Written, folder: str) -> tuple[Written, bool]:
    return written, is_sound(written, folder)


def _check_back(written: Sequence[Written], folder: str, sink: ConsoleSink) -> None:
    """Reads back what was written.

    Raises:
        JobError: a shard is not what was written.
    """
    sound = {shard.file for shard in _sound(written, folder, sink, "reading back")}
    for shard in written:
        if shard.file in sound:
            continue
        path = os.path.join(folder, shard.file)
        if not os.path.exists(path):
            raise JobError("DIR", f"{path} was written on another node", "name a folder that all nodes share")
        raise JobError("DIR", f"{path} does not hold what was written to it", "check the disk, then start it again")


def _check_bad(written: Sequence[Written], data: Data, num_rows: int, folder: str) -> None:
    """Stops where too many images are unreadable; what was written so far stays, and so does the list.

    Raises:
        JobError: they are more than data.max_bad_fraction of all.
    """
    num_bad = sum(len(shard.skipped) for shard in written)
    if not num_bad or (num_bad <= data.max_bad_fraction * num_rows and num_bad < num_rows):
        return
    _write_skipped(folder, written)
    problem = f"{num_bad:,} of {num_rows:,} images so far are unreadable, see {os.path.join(folder, SKIPPED)}"
    raise JobError("--max-bad", f"above {data.max_bad_fraction:g}: {problem}", "repair or remove them, or raise it")


def _write_skipped(folder: str, written: Sequence[Written]) -> None:
    images = [image for shard in sorted(written, key=lambda shard: shard.file) for image in shard.skipped]
    if images:
        write_whole(folder, SKIPPED, skipped_table(images).encode())


def _finish(folder: str, made: Made, rows: Rows, written: Sequence[Written]) -> Manifest:
    """The manifest last, so that where there is one, all is well."""
    _write_skipped(folder, written)
    manifest = manifest_of(made, rows.class_names, sorted(written, key=lambda shard: shard.file))
    write_whole(folder, MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
    shutil.rmtree(os.path.join(folder, WORK))
    return manifest
