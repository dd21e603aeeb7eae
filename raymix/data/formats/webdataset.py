"""`webdataset`: tar shards whose members share a name up to the first dot where they are one sample.

The index walks the tar headers and reads the labels; images are read as ranges of the shard. A uri is
`<shard>#<offset>:<size>`.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, cast

from raymix.data.files import PATH, SUFFIXES, expand, open_file
from raymix.data.labels import Part, of_texts, rows_of
from raymix.data.remote import in_threads, problem
from raymix.data.rows import Rows
from raymix.data.shards import train_and_val
from raymix.spec import JobError, WebDatasetSource

_LABEL = "data.train.label"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_SAMPLE = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # key, then extension, of a member's name
_TELLING = (b"path=", b"size=", b"charset=", b"GNU.")  # keys of an extended header that change what follows
_RUN = 256  # rows: from a store a range costs a request, and neighbours share one
_BUFFER_BYTES = 1 << 20  # headers of small members lie close together
_GAP_BYTES = 64 << 10  # between two images that are still read at once
_READ_BYTES = 8 << 20


def index(source: WebDatasetSource) -> Rows:
    """Samples in the order of the sorted shards; of shards named train-* and val-*, the latter are the validation set.

    Raises:
        JobError: the path, a shard, a sample without an image or a label is wrong.
    """
    files = expand(source.path, ("tar", *_COMPRESSED))
    for file in files:
        if file.lower().endswith(_COMPRESSED):
            hint = "unpack it once: gunzip, bunzip2, unxz or unzstd leave the .tar"
            raise JobError(PATH, f"{file} is compressed, so no image in it can be read alone", hint)
    train, val = train_and_val(source.path, files)
    return rows_of(source, PATH, _part(train, source.label), _part(val, source.label) if val else None, _RUN)


def fetch(source: WebDatasetSource, uris: Sequence[str]) -> list[bytes]:
    """The encoded images. OSError where a shard cannot be read or has become shorter."""
    wanted: dict[str, list[tuple[int, int, int]]] = {}  # shard -> (offset, size, position in `uris`)
    for position, uri in enumerate(uris):
        path, _, place = uri.rpartition("#")
        offset, _, size = place.partition(":")
        wanted.setdefault(path, []).append((int(offset), int(size), position))
    images = [b""] * len(uris)
    for path, places in wanted.items():
        places.sort()
        with open_file(path) as file:
            for near in _together(places):
                start = near[0][0]
                held = _exactly(file, path, start, max(begin + length for begin, length, _ in near) - start)
                for begin, length, position in near:
                    images[position] = held[begin - start : begin - start + length]
    return images


def column(source: WebDatasetSource, name: str, uris: Sequence[str]) -> list[str]:
    """What the key `name` of each sample's .json member says, empty for nothing.

    Raises:
        JobError: a member is not JSON, or what it says is no name.
    """
    paths = list(dict.fromkeys(uri.rpartition("#")[0] for uri in uris))
    shards = in_threads(lambda path: _shard(path, f"json:{name}", "data.train.group"), paths)
    found = {uri: text or "" for shard_uris, texts in shards for uri, text in zip(shard_uris, texts, strict=True)}
    return [found[uri] for uri in uris]


# ---- index ------------------------------------------------------------------------------------------------------


class _Member(NamedTuple):
    """A file in a shard, less its name."""

    offset: int
    size: int


def _part(paths: Sequence[str], label: str) -> Part:
    found = in_threads(lambda path: _shard(path, label), paths)
    uris = [uri for shard_uris, _ in found for uri in shard_uris]
    if not uris:
        raise JobError(PATH, f"{paths[0]} holds no sample", "members are <key>.jpg, <key>.cls and the like")
    return Part(uris, of_texts([text for _, texts in found for text in texts]), paths[0].rpartition("/")[0])


def _shard(path: str, label: str, blamed: str = _LABEL) -> tuple[list[str], list[str | None]]:
    """The uri and the label's text of each sample in a shard; `blamed` is the field that asks for the latter."""
    uris: list[str] = []
    texts: list[str | None] = []
    try:
        with open_file(path) as raw, io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER_BYTES) as file:
            for key, members in _samples(file):
                image = next((members[suffix] for suffix in SUFFIXES if suffix in members), None)
                if image is None:
                    problem_text = f"{path}: sample {key!r} has no image, only {', '.join(sorted(members))}"
                    raise JobError(PATH, problem_text, f"images are {', '.join(SUFFIXES)}")
                uris.append(f"{path}#{image.offset}:{image.size}")
                texts.append(_label(file, path, key, members, label, blamed))
    except tarfile.TarError as error:
        raise JobError(PATH, f"{path} is not a whole tar file: {error}", "write or copy it again") from None
    except OSError as error:
        raise problem(path, error) from None
    return uris, texts


def _samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, _Member]]]:
    """Key and members by extension, of neighbouring members that share their key."""
    key: str | None = None
    members: dict[str, _Member] = {}
    for name, member in _members(file):
        match = _SAMPLE.fullmatch(name)
        if match is None or name.startswith("__"):  # webdataset's own notes on a shard
            continue
        if match[1] != key:
            if key is not None:
                yield key, members
            key, members = match[1], {}
        members[match[2].lower()] = member
    if key is not None:
        yield key, members


def _members(file: BinaryIO) -> Iterator[tuple[str, _Member]]:
    """Name and place of each file in a shard.

    Raises:
        TarError: it is no tar file, or ends early.
    """
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else a kilobyte a member stays
            # a sparse one has not the size that it says, which may be any, nor has one that only claims to be sparse
            sparse = member.issparse() or any(key.startswith("GNU.sparse.") for key in member.pax_headers)
            if member.isreg() and not sparse:
                yield member.name, _Member(member.offset_data, member.size)
            while not archive.pax_headers and (plain := _plain(file, archive.offset)) is not None:
                yield plain
                archive.offset = plain[1].offset + _padded(plain[1].size)
        # a broken header ends the loop too, and so does the end of a file whose writer was stopped between two members
        file.seek(archive.offset)
        block = file.read(tarfile.BLOCKSIZE)
        if block != bytes(tarfile.BLOCKSIZE):
            what = "no header" if len(block) == tarfile.BLOCKSIZE else "the end of the file, not of the archive,"
            raise tarfile.ReadError(f"{what} at byte {archive.offset:,}")


def _plain(file: BinaryIO, offset: int) -> tuple[str, _Member] | None:
    """The plain file whose header is at `offset`; None where tarfile must look, which takes ten times as long."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    size = _size(block)
    if size is not None and block[156:157] == b"x":  # webdataset's writer notes a time in front of every member
        records = file.read(_padded(size))
        if any(key in records for key in _TELLING):
            return None
        offset += tarfile.BLOCKSIZE + len(records)
        block = file.read(tarfile.BLOCKSIZE)
        size = _size(block)
    name = block[:100].partition(b"\0")[0]
    if size is None or block[156:157] not in (b"0", b"\0") or block[345] or name.endswith(b"/"):
        return None  # a folder, a link, a name in two parts
    return name.decode("utf-8", "surrogateescape"), _Member(offset + tarfile.BLOCKSIZE, size)


def _size(block: bytes) -> int | None:
    """The size in a header; None where this is none, as after the last member."""
    try:
        size, checksum = (int(block[start:end].strip(b" \0"), 8) for start, end in ((124, 136), (148, 156)))
    except ValueError:
        return None
    whole = len(block) == tarfile.BLOCKSIZE and checksum == 256 + sum(block) - sum(block[148:156])
    return size if whole and block[257:262] == b"ustar" else None


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _label(file: BinaryIO, path: str, key: str, members: dict[str, _Member], label: str, blamed: str) -> str | None:
    """The text of a sample's label, None where it has none."""
    name, _, field = label.partition(":")
    member = members.get(name)
    if member is None:
        return None
    raw = _exactly(file, path, *member)
    try:
        value = json.loads(raw) if field else raw.decode().strip()
    except ValueError:
        raise JobError(blamed, f"{path}: {key}.{name} is not {'JSON' if field else 'UTF-8 text'}") from None
    if field:
        value = value.get(field) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise JobError(
            blamed,
            f"{path}: {key}.{name} has {value!r} as {field}",
            f"a {blamed.rpartition('.')[2]} is an integer or a text",
        )
    return None if value is None or value == -1 else str(value)


# ---- fetch ------------------------------------------------------------------------------------------------------


def _together(places: Sequence[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Sorted (offset, size, position) in groups that one read gets."""
    near: list[tuple[int, int, int]] = []
    for offset, size, position in places:
        if near and (offset > near[-1][0] + near[-1][1] + _GAP_BYTES or offset + size > near[0][0] + _READ_BYTES):
            yield near
            near = []
        near.append((offset, size, position))
    if near:
        yield near


def _exactly(file: BinaryIO, path: str, offset: int, size: int) -> bytes:
    file.seek(offset)
    held = file.read(size)
    if len(held) < size:
        raise OSError(f"{path} ends at byte {offset + len(held):,}, within a member")
    return held
