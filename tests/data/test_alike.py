"""Copies of an image have near hashes and other images have not; what is near is found, and nothing else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from raymix.data.alike import Bits, Hashes, hashed, near, pairs
from raymix.data.decode import decode
from raymix.data.frame import Frame
from raymix.data.images import Images
from raymix.spec import Tile


def scene(seed: int, size: int = 160) -> Image.Image:
    """A picture with shapes at several scales, as photographs have them."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bits_of(raws: list[bytes], frame: Frame) -> Bits:
    bits, known = hashed(np.stack([decode(raw, frame) for raw in raws]))
    assert known.all()
    return bits


def apart(a: Bits, b: Bits) -> NDArray[np.int64]:
    return np.array([[(int(x) ^ int(y)).bit_count() for y in b] for x in a])


@pytest.mark.parametrize("frame", [Frame(64), Frame(32, "gray"), Frame(40, "gray16")])
def test_copies_are_near_and_other_images_far(frame: Frame) -> None:
    originals = [scene(seed) for seed in range(20)]
    bits = bits_of([saved(image) for image in originals], frame)
    for copies in (
        [saved(image, "JPEG", quality=60) for image in originals],
        [saved(image.resize((100, 100), Image.Resampling.BILINEAR)) for image in originals],
        [saved(ImageEnhance.Brightness(image).enhance(0.9)) for image in originals],
        [saved(image.filter(ImageFilter.GaussianBlur(1))) for image in originals],
    ):
        distances = apart(bits_of(copies, frame), bits)
        assert np.diagonal(distances).max() <= 4
        assert distances[~np.eye(20, dtype=bool)].min() > 8


def test_images_of_one_colour_have_no_hash() -> None:
    flat = np.full((1, 64, 64, 3), 200, np.uint8)
    noisy = np.clip(flat + np.random.default_rng(0).normal(0, 3, flat.shape), 0, 255).astype(np.uint8)
    faint = np.full((1, 64, 64, 1), 1000, np.uint16) + np.arange(64, dtype=np.uint16)[None, None, :, None]
    assert not hashed(flat)[1][0]
    assert not hashed(noisy)[1][0]
    assert hashed(faint)[1][0], "16-bit cameras use a small part of their range"
    assert hashed(flat[:0])[0].shape == (0,)


def test_hashes_lie_at_their_rows() -> None:
    pixels = np.stack([decode(saved(scene(seed)), Frame(16)) for seed in range(5)])
    slots = np.array([3, -1, 0, 1, -1, 4, 2])
    hashes = Hashes.of(Images(pixels=pixels, slots=slots, skipped={}))
    assert hashes.known.tolist() == (slots >= 0).tolist()
    assert (hashes.bits[slots >= 0] == hashed(pixels)[0][slots[slots >= 0]]).all()


@pytest.mark.parametrize("tile", [Tile(grid=(3, 4)), Tile(grid=(2, 2), overlap=0.2), Tile(grid=(1, 2))])
def test_images_in_tiles_are_held_against_each_other_as_a_whole(tile: Tile) -> None:
    """Copies stay near, whatever the tiles leave out, and one half in common is not enough."""

    def bits_of_tiled(images: list[Image.Image]) -> Bits:
        pixels = np.stack([decode(saved(image), Frame(16, tile=tile)) for image in images])
        return Hashes.of(Images(pixels=pixels, slots=np.arange(len(images)), skipped={}), tile).bits

    originals = [scene(seed) for seed in range(12)]
    halves = [image.copy() for image in originals]
    for image, other in zip(halves, originals[1:] + originals[:1], strict=True):
        image.paste(other.crop((0, 80, 160, 160)), (0, 80))
    bits = bits_of_tiled(originals)
    copies = apart(bits_of_tiled([image.filter(ImageFilter.GaussianBlur(1)) for image in originals]), bits)
    assert np.diagonal(copies).max() <= 4
    assert copies[~np.eye(12, dtype=bool)].min() > 8
    assert apart(bits_of_tiled(halves), bits).min() > 4


@pytest.mark.parametrize("distance", range(9))
@pytest.mark.parametrize("spread", [1, 2**50])
def test_all_that_is_near_is_found_and_nothing_else(distance: int, spread: int) -> None:
    """With a small spread most bits are alike, as of parts before one camera."""
    generator = np.random.default_rng(distance)
    among, asked = (generator.integers(0, 2**12, n).astype(np.uint64) * np.uint64(spread) for n in (3000, 300))
    among ^= generator.integers(0, 2**63, len(among), dtype=np.uint64) & np.uint64(0x0101_0000_0001)
    places, distances = near(asked, among, distance)
    known = apart(asked, among)
    assert ((places >= 0) == (known.min(axis=1) <= distance)).all()
    found = np.flatnonzero(places >= 0)
    assert (known[found, places[found]] == distances[found]).all()
    assert (distances <= distance).all()


def test_nothing_is_near_to_nothing() -> None:
    none, some = np.zeros(0, np.uint64), np.arange(3, dtype=np.uint64)
    assert near(some, none, 4)[0].tolist() == [-1, -1, -1]
    assert near(none, some, 4)[0].shape == (0,)


def test_a_pair_names_its_rows_and_flat_images_make_none() -> None:
    hashes = Hashes(np.array([7, 0, 7, 6, 0], np.uint64), np.array([True, False, True, True, False]))
    assert pairs(hashes, np.array([2, 3, 4]), np.array([0, 1]), 1) == [(2, 0, 0), (3, 0, 1)]
    assert pairs(hashes, np.array([3]), np.array([0]), 0) == []
