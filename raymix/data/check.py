"""`raymix data check`: reads and decodes every image once and keeps what is worth knowing of it, never its pixels.

A block of rows gives its `BlockFacts`; those of all blocks give the `CheckReport`. About 24 bytes an image are held.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymix.data.alike import Hashes, hashed
from raymix.data.blocks import Block, encodable, fetched, num_bytes, part_of
from raymix.data.decode import decode_many
from raymix.data.frame import Frame
from raymix.data.picture import Kind, header
from raymix.data.rows import Ids, RawImage, Rows
from raymix.report.check import (
    CheckReport,
    ClassCount,
    Duplicates,
    KindCount,
    Located,
    NearDuplicates,
    RowCounts,
    Sizes,
    Span,
    Unreadable,
    UnreadableImage,
)
from raymix.spec import Channels, Data, boxes_of

_SIDE = 8  # pixels that an image is decoded to: all its bytes are read, and a large JPEG takes a fraction of the time


@dataclass(frozen=True, eq=False)
class BlockFacts:
    """What is kept of some rows.

    Attributes:
        ids: int64 (n,), rows of the whole.
        sizes: int32 (n, 2), width and height as stored; 0 where the image is unreadable.
        digests: uint64 (n, 2), a hash of the content; 0 where the image is unreadable.
        kinds: how many there are of each kind.
        num_bytes: of the images as their format holds them.
        hashes: of the images by their looks, in the order of `ids`; None: not asked for.
        skipped: row -> cause, of the unreadable ones.
    """

    ids: Ids
    sizes: NDArray[np.int32]
    digests: NDArray[np.uint64]
    kinds: Counter[Kind]
    num_bytes: int
    skipped: dict[int, str]
    hashes: Hashes | None = None


def check_block(block: Block, channels: Channels, looks: Frame | None = None) -> BlockFacts:
    """Reads and decodes the images of a block; `looks`: how near-duplicates are looked for, None: not at all."""
    frame = looks or Frame(_SIDE, channels)
    hashes = Hashes(np.zeros(len(block), np.uint64), np.zeros(len(block), np.bool_)) if looks else None
    sizes = np.zeros((len(block), 2), np.int32)
    digests = np.zeros((len(block), 2), np.uint64)
    kinds, skipped, total = Counter[Kind](), dict[int, str](), 0
    for places, raws in fetched(block.rows):
        pixels, good, bad = decode_many(raws, frame)
        if hashes is not None:
            hashes.bits[places[good]], hashes.known[places[good]] = hashed(pixels)
        skipped |= {int(block.ids[places[position]]): cause for position, cause in bad}
        unreadable = {position for position, _ in bad}
        for position, raw in enumerate(raws):
            total += num_bytes(raw)
            if position not in unreadable and not isinstance(raw, OSError):
                kind, sizes[places[position]] = header(raw)
                kinds[kind] += 1
                digests[places[position]] = digest(raw)
    return BlockFacts(block.ids, sizes, digests, kinds, total, skipped, hashes)


def digest(raw: RawImage) -> NDArray[np.uint64]:
    """128 bits that are the same for the same encoded bytes, and for the same pixels without an encoding: (2,)."""
    hashed = hashlib.blake2b(digest_size=16)
    if isinstance(raw, bytes):
        hashed.update(raw)
    else:
        hashed.update(f"{raw.dtype.str}{raw.shape}".encode())  # the same bytes can be pictures of two shapes
        hashed.update(np.ascontiguousarray(raw).data)
    return np.frombuffer(hashed.digest(), np.uint64)


def gathered(num_rows: int, parts: Iterable[BlockFacts]) -> BlockFacts:
    """The facts of all blocks as those of one, by row id; they come in any order and each is dropped once copied."""
    sizes, digests = np.zeros((num_rows, 2), np.int32), np.zeros((num_rows, 2), np.uint64)
    kinds, skipped, total = Counter[Kind](), dict[int, str](), 0
    hashes: Hashes | None = None
    for part in parts:
        if part.hashes is not None:
            hashes = hashes or Hashes(np.zeros(num_rows, np.uint64), np.zeros(num_rows, np.bool_))
            hashes.bits[part.ids], hashes.known[part.ids] = part.hashes
        sizes[part.ids], digests[part.ids] = part.sizes, part.digests
        kinds.update(part.kinds)
        skipped |= part.skipped
        total += part.num_bytes
    return BlockFacts(np.arange(num_rows), sizes, digests, kinds, total, dict(sorted(skipped.items())), hashes)


def summary(
    rows: Rows, facts: BlockFacts, data: Data, seconds: float, near: NearDuplicates | None = None
) -> CheckReport:
    """What a user wants to know of the rows, from facts of all of them.

    Args:
        data: The section that the rows are of. Its image_size counts only where it was set.
        seconds: That reading took.
        near: Rows of val and select that look like training rows; None: not looked for.
    """
    good = facts.sizes[:, 0] > 0
    return CheckReport(
        sources=tuple(rows.sources),
        rows=RowCounts(
            train=int((~rows.is_val & (rows.labels >= 0)).sum()),
            unlabelled=int((~rows.is_val & (rows.labels < 0)).sum()),
            val=int(rows.is_val.sum()),
            shared=rows.num_shared,
            groups=None if rows.groups is None else len(rows.group_names),
        ),
        classes=_classes(rows),
        sizes=_sizes(facts.sizes[good], data) if good.any() else None,
        kinds=tuple(
            KindCount(format=kind.format, mode=kind.mode, bits=kind.bits, images=number)
            for kind, number in sorted(facts.kinds.items(), key=lambda item: (-item[1], item[0]))
        ),
        num_bytes=facts.num_bytes,
        unreadable=_unreadable(rows, facts.skipped, data.max_bad_fraction),
        duplicates=duplicates(rows, np.flatnonzero(good), facts.digests[good]),
        near_duplicates=near,
        seconds=seconds,
        images_per_second=len(rows) / seconds if seconds else 0.0,
    )


def _classes(rows: Rows) -> tuple[ClassCount, ...]:
    num = len(rows.class_names)
    train, val = (
        np.bincount(rows.labels[(rows.labels >= 0) & (rows.is_val == part)], minlength=num) for part in (0, 1)
    )
    return tuple(
        ClassCount(name=name, train=int(train[label]), val=int(val[label]))
        for label, name in enumerate(rows.class_names)
    )


def _sizes(sizes: NDArray[np.int32], data: Data) -> Sizes:
    """The spans of (n, 2) widths and heights."""
    width, height = (
        Span(min=int(side.min()), median=int(np.median(side)), max=int(side.max()))
        for side in (sizes[:, 0], sizes[:, 1])
    )
    asked = data.image_size if "image_size" in data.model_fields_set else None
    left, top, right, bottom = boxes_of(data.region, data.tile)[0] or (0, 0, 1, 1)  # all tiles are as large
    used = (sizes * (right - left, bottom - top)).min(axis=1)
    below = float((used < asked).mean()) if asked else None
    return Sizes(width=width, height=height, image_size=asked, below_image_size=below, unseen=_unseen(sizes, data))


def _unseen(sizes: NDArray[np.int32], data: Data) -> float | None:
    """The share of the region of images (n, 2) that no tile's middle square shows, their mean; None: no tiles."""
    if data.tile is None:
        return None
    left, top, right, bottom = data.tile.boxes(data.region)[0]
    tiles = sizes * (right - left, bottom - top)
    seen = np.ones(len(sizes))
    for side, num in ((0, data.tile.grid[1]), (1, data.tile.grid[0])):
        square, step = tiles.min(axis=1), tiles[:, side] * (1 - data.tile.overlap)
        seen *= ((num - 1) * np.minimum(square, step) + square) / ((num - 1) * step + tiles[:, side])
    return float(1 - seen.mean())


def _unreadable(rows: Rows, skipped: dict[int, str], limit: float) -> Unreadable:
    num = len(skipped)
    return Unreadable(
        images=tuple(
            UnreadableImage(cause=cause, part=part_of(rows, row), path=encodable(rows.uris[row]))
            for row, cause in skipped.items()
        ),
        causes=dict(Counter(skipped.values()).most_common()),
        share=num / max(1, len(rows)),
        max_bad_fraction=limit,
        stops=num > limit * len(rows) or num == len(rows),
    )


def duplicates(rows: Rows, ids: Ids, digests: NDArray[np.uint64]) -> Duplicates:
    """Rows of the same content: `digests` (n, 2) are those of the rows `ids` (n,)."""
    order = np.lexsort((ids, digests[:, 1], digests[:, 0]))
    same = (digests[order[1:]] == digests[order[:-1]]).all(axis=1)
    # a group begins where a row differs from the one before and not from the one after
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    groups = [ids[order[start : end + 1]] for start, end in edges.reshape(-1, 2)]
    groups.sort(key=lambda group: int(group[0]))
    in_val = [rows.is_val[group] for group in groups]
    both = [bool(val.any() and not val.all()) for val in in_val]
    conflicting = [_conflicting(rows.labels[group]) for group in groups]
    return Duplicates(
        within_train=sum(max(0, int((~val).sum()) - 1) for val in in_val),
        within_val=sum(max(0, int(val.sum()) - 1) for val in in_val),
        val_in_train=sum(int(val.sum()) for val, is_both in zip(in_val, both, strict=True) if is_both),
        conflicting_groups=sum(conflicting),
        groups=tuple(_located(rows, group) for group in _worst_first(groups, both, conflicting)),
    )


def _conflicting(labels: Ids) -> bool:
    """Two of the labels differ; -1 says nothing."""
    return len(np.unique(labels[labels >= 0])) > 1


def _worst_first(groups: Sequence[Ids], both: Sequence[bool], conflicting: Sequence[bool]) -> list[Ids]:
    """Those between train and val first, then those whose labels differ, then the others."""
    places = sorted(range(len(groups)), key=lambda place: (not both[place], not conflicting[place]))
    return [groups[place] for place in places]


def _located(rows: Rows, ids: Ids) -> tuple[Located, ...]:
    return tuple(
        Located(
            part=part_of(rows, int(row)),
            label=rows.class_names[rows.labels[row]] if rows.labels[row] >= 0 else None,
            path=encodable(rows.uris[row]),
        )
        for row in ids
    )
