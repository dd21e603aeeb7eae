"""Images that look alike: a perceptual hash of each, and which hashes of one part are near to one of another.

The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010): signs of the
8 x 8 lowest frequencies of the grey image about their median, without the mean. Scaled, recompressed or a little
brighter copies differ in few of its 63 bits, other images in about half of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.blocks import encodable, map_threads
from raymix.data.frame import Pixels
from raymix.data.images import Images
from raymix.data.rows import Ids, Rows
from raymix.data.splits import Splits
from raymix.report.check import NearDuplicates, NearImage
from raymix.spec import Tile

SIDE = 64  # pixels a side that images are decoded to where only their hashes are wanted
_LOWEST = 8
_MIDDLE = (_LOWEST**2 - 1) // 2
_LEAST_CONTRAST = {1: 1.0, 2: 16.0}  # root mean square of the low frequencies in levels, by bytes of a pixel
_GREY = {1: (1.0,), 3: (0.299, 0.587, 0.114)}
_CHUNK_BYTES = 4 * 2**20  # of pixels that are looked at together
_PAIRS = 2**20  # compared at once
_FIRST, _MORE = 32, 8  # candidates of each hash that are compared first; so many times more after that

Bits = NDArray[np.uint64]


class Hashes(NamedTuple):
    """Over ALL rows: `bits` uint64 (N,), and `known` bool (N,), False of a row that was not read or has no contrast."""

    bits: Bits
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Images, tile: Tile | None = None) -> Hashes:
        """Of images that are kept, by a thread for each core; of those in tiles as a whole, put together again."""
        slots, pixels = np.flatnonzero(images.slots >= 0), images.pixels
        bits, known = np.zeros(len(images.slots), np.uint64), np.zeros(len(images.slots), np.bool_)
        step = max(1, _CHUNK_BYTES // max(1, pixels[:1].nbytes))
        firsts = range(0, len(pixels), step)

        def part(first: int) -> tuple[int, Bits, NDArray[np.bool_]]:
            some = pixels[first : first + step]
            return (first, *hashed(some if tile is None else _together(some, tile)))

        with closing(map_threads(part, firsts)) as found:
            row_of = slots[np.argsort(images.slots[slots])]
            for first, part_bits, part_known in found:
                rows = row_of[first : first + step]
                bits[rows], known[rows] = part_bits, part_known
        return cls(bits, known)


class Pair(NamedTuple):
    """A row, one of another part that looks like it, and in how many bits their hashes differ."""

    row: int
    like: int
    distance: int


def hashed(pixels: Pixels) -> tuple[Bits, NDArray[np.bool_]]:
    """The hashes (n,) of images (n, H, W, C), H and W at least 8, and which have the contrast to be told apart."""
    num, height, width, channels = pixels.shape
    across = (_cosines(width)[:, None, :] * np.array(_GREY[channels], np.float32)[None, :, None]).reshape(-1, _LOWEST)
    lines = pixels.reshape(num * height, width * channels).astype(np.float32) @ across
    waves = np.matmul(_cosines(height).T, lines.reshape(num, height, _LOWEST)).reshape(num, _LOWEST**2)[:, 1:]
    least = _LEAST_CONTRAST[pixels.dtype.itemsize] * np.sqrt(height * width)
    known = np.sqrt(np.square(waves).sum(axis=1)) >= least
    signs = np.zeros((num, _LOWEST**2), np.bool_)
    signs[:, 1:] = waves > np.partition(waves, _MIDDLE, axis=1)[:, _MIDDLE, None]
    return np.packbits(signs, axis=1).view(np.uint64)[:, 0], known


def _together(pixels: Pixels, tile: Tile) -> Pixels:
    """Tiles (n, T, S, S, C) side by side as they lie in their images, (n, rows * S, columns * S, C)."""
    num, _, side, _, channels = pixels.shape
    rows, columns = tile.grid
    grid = pixels.reshape(num, rows, columns, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(num, rows * side, columns * side, channels)


@lru_cache(maxsize=8)
def _cosines(side: int) -> NDArray[np.float32]:
    """The lowest basis functions of the orthonormal DCT-II over `side` places, (side, 8)."""
    places = (2 * np.arange(side)[:, None] + 1) * np.arange(_LOWEST)[None, :]
    scale = np.where(np.arange(_LOWEST) == 0, np.sqrt(1 / side), np.sqrt(2 / side))
    return (np.cos(np.pi * places / (2 * side)) * scale).astype(np.float32)


def near_duplicates(rows: Rows, splits: Splits, hashes: Hashes, distance: int) -> NearDuplicates:
    """The rows of val and select that look like a training row, labelled or not."""
    parts: tuple[tuple[Literal["val", "select"], Ids], ...] = (("val", splits.val), ("select", splits.select))
    found = [(part, pair) for part, ids in parts for pair in pairs(hashes, ids, splits.train, distance)]
    counts = Counter(part for part, _ in found)
    used = np.concatenate([splits.train, splits.select, splits.val])
    return NearDuplicates(
        distance=distance,
        val=counts["val"],
        select=counts["select"],
        without=int(np.count_nonzero(~hashes.known[used])),
        images=tuple(
            NearImage(
                part=part,
                distance=pair.distance,
                path=encodable(rows.uris[pair.row]),
                train_path=encodable(rows.uris[pair.like]),
            )
            for part, pair in found
        ),
    )


def pairs(hashes: Hashes, ids: Ids, among: Ids, distance: int) -> list[Pair]:
    """For each row of `ids` that looks like a row of `among` one such row: hashes differ in at most `distance` bits."""
    asked, others = ids[hashes.known[ids]], among[hashes.known[among]]
    places, distances = near(hashes.bits[asked], hashes.bits[others], distance)
    return [Pair(int(asked[i]), int(others[places[i]]), int(distances[i])) for i in np.flatnonzero(places >= 0)]


def near(asked: Bits, among: Bits, distance: int) -> tuple[Ids, Ids]:
    """For each of `asked` (Q,) the place of one of `among` (N,) at most `distance` bits away, -1 for none; and how far.

    An equal one where there is one, else not always the nearest. Of distance + 1 bands of bits two hashes so near have
    one in common (multi-index hashing, Norouzi et al., arXiv 1307.2982), so only those that share a band are compared.
    """
    values, first = np.unique(among, return_index=True)
    wanted, back = np.unique(asked, return_inverse=True)
    places, distances = np.full(len(wanted), -1, np.int64), np.zeros(len(wanted), np.int64)
    if len(values):
        at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
        places = np.where(values[at] == wanted, at, places)
        edges = np.linspace(0, 64, distance + 2).astype(int).tolist() if distance else []
        for low, high in pairwise(edges):
            left = np.flatnonzero(places < 0)
            for found, place, far in _sharing(wanted[left], values, low, high, distance):
                places[left[found]], distances[left[found]] = place, far
        places = np.where(places >= 0, first[places], -1)
    return places[back], distances[back]


def _sharing(asked: Bits, among: Bits, low: int, high: int, distance: int) -> Iterator[tuple[Ids, Ids, Ids]]:
    """Of those that share the bits [low, high): places in `asked`, in `among`, and how far apart they are.

    Few candidates of each are compared first: where most images look alike, that is enough for most.
    """
    small = np.uint16 if high - low <= 16 else np.uint32 if high - low <= 32 else np.uint64  # small ones sort faster
    mask = np.uint64(2 ** (high - low) - 1)
    keys, wanted = (((bits >> np.uint64(low)) & mask).astype(small) for bits in (among, asked))
    order = np.argsort(keys, kind="stable")
    start, end = (np.searchsorted(keys[order], wanted, side) for side in ("left", "right"))
    left, most = np.flatnonzero(start < end), _FIRST
    while len(left):
        count = np.minimum(end[left] - start[left], most)
        ahead = np.cumsum(count)
        found = np.zeros(len(left), np.bool_)
        done = 0
        while done < len(left):  # as many as fit, at least one
            until = max(done + 1, int(np.searchsorted(ahead, (ahead[done - 1] if done else 0) + _PAIRS, "right")))
            part = left[done:until]
            best = _best(asked[part], among, order, start[part], count[done:until])
            far, place = best >> 40, best & (2**40 - 1)
            hit = far <= distance
            found[done:until] = hit
            yield part[hit], place[hit], far[hit]
            done = until
        start[left] += count
        left = left[~found & (start[left] < end[left])]
        most *= _MORE


def _best(asked: Bits, among: Bits, order: Ids, start: Ids, count: Ids) -> Ids:
    """For each hash the nearest of its candidates order[start : start + count]: bits apart << 40 | place."""
    begins = np.cumsum(count) - count
    candidates = order[np.arange(int(count.sum())) + np.repeat(start - begins, count)]
    apart = _num_bits(among[candidates] ^ np.repeat(asked, count))
    return np.minimum.reduceat((apart << 40) | candidates, begins)


def _num_bits(bits: Bits) -> Ids:
    """How many are set in each; NumPy before 2.0 cannot say."""
    one, two, four = (np.uint64(mask) for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
    bits = bits - ((bits >> np.uint64(1)) & one)
    bits = (bits & two) + ((bits >> np.uint64(2)) & two)
    bits = (bits + (bits >> np.uint64(4))) & four
    return ((bits * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
