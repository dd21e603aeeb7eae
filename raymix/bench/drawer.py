"""Images that readers stumble over, each drawn from a seed: KINDS, the sixteen usual ones, and ODD, more of them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GOOD = (16, 12)  # width and height of a good neighbour


@dataclass(frozen=True)
class Kind:
    """One kind of odd file.

    Attributes:
        draw: its bytes by seed; None: it is not a file at all, see `put`.
        cause: the word that it must be refused with; None: it is readable, and shown as a viewer would.
        put: makes what cannot be read at a path.
    """

    draw: Callable[[int], bytes] | None
    cause: str | None = None
    put: Callable[[Path], None] | None = None

    def place(self, path: Path, seed: int) -> None:
        """Put one of them at `path`."""
        if self.draw is not None:
            path.write_bytes(self.draw(seed))
        else:
            assert self.put is not None
            self.put(path)


def noise(seed: int, width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    """A picture of noise, another one for each seed."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "CMYK": 4, "LA": 2}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), values.tobytes())


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of a kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def good_file(seed: int) -> bytes:
    """A good neighbour, as a PNG."""
    return encoded(noise(seed, *GOOD))


def good_pixels(seed: int) -> NDArray[np.uint8]:
    """Its centre square, (12, 12, 3)."""
    left = (GOOD[0] - GOOD[1]) // 2
    return np.asarray(noise(seed, *GOOD))[:, left : left + GOOD[1]]


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of the given chunks."""
    body = b"".join(struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b)) for t, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def header(width: int, height: int, depth: int = 8, colours: int = 2) -> tuple[bytes, bytes]:
    """The first chunk of a PNG."""
    return b"IHDR", struct.pack(">2I5B", width, height, depth, colours, 0, 0, 0)


def claims(seed: int) -> bytes:
    """A small file whose header claims far more pixels than it has."""
    picture = noise(seed)
    kind = ("PNG", "GIF", "BMP", "TIFF", "JPEG", "WEBP", "APNG")[seed % 7]
    if kind in ("PNG", "APNG"):
        control = struct.pack(">5I2H2B", 0, 60_000, 60_000, 0, 0, 1, 1, 1, 0)
        moving = [(b"acTL", struct.pack(">2I", 2, 0)), (b"fcTL", control)] if kind == "APNG" else []
        pixels = (b"IDAT", zlib.compress(picture.tobytes()))
        return png([header(60_000, 60_000, colours=6), *moving, pixels, (b"IEND", b"")])
    raw = bytearray(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    if kind == "GIF":
        raw[6:10] = struct.pack("<2H", 60_000, 50_000)
    elif kind == "BMP":
        raw[18:26] = struct.pack("<2i", 30_000, 30_000)
    elif kind == "TIFF":
        _claim_tiff(raw, 60_000)
    elif kind == "JPEG":
        at = raw.index(b"\xff\xc0")
        raw[at + 5 : at + 9] = struct.pack(">2H", 65_000, 65_000)
    else:
        raw[21:25] = struct.pack("<I", 16_383 | 16_383 << 14)
    return bytes(raw)


def _claim_tiff(raw: bytearray, side: int) -> None:
    """Set width and height in the first directory of a little-endian TIFF."""
    (at,) = struct.unpack_from("<L", raw, 4)
    (num,) = struct.unpack_from("<H", raw, at)
    for entry in range(at + 2, at + 2 + 12 * num, 12):
        if struct.unpack_from("<H", raw, entry)[0] in (256, 257):
            struct.pack_into("<HLL", raw, entry + 2, 4, 1, side)


# ---- the sixteen kinds ------------------------------------------------------------------------------------------


def _in_turn(seed: int, *kinds: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    return kinds[seed % len(kinds)]


def _cut_off(seed: int) -> bytes:
    kind, options = _in_turn(
        seed,
        ("JPEG", {}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("JPEG", {"progressive": True}),
    )
    raw = encoded(noise(seed), kind, **options)
    return raw[: int(len(raw) * (0.05 + 0.9 * np.random.default_rng(seed).random()))]


def _wrong_type(seed: int) -> bytes:
    """Text, a page, a picture of vectors, a document, sound: what is called .jpg by mistake."""
    starts = (b"label,path\n", b"<!doctype html><title>404</title>", b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    others = (b"%PDF-1.7\n", b"RIFF\x24\0\0\0WAVEfmt ", b"BM is not a header, it is a note", b"\0\0\0\x18ftypheic")
    return (starts + others)[seed % 7] + f" {seed}\n".encode() * 20


def _sixteen_bit(seed: int) -> bytes:
    values = np.random.default_rng(seed).integers(0, 65536, (30, 40), dtype=np.uint16)
    if seed % 3 < 2:
        return encoded(Image.fromarray(values), ("PNG", "TIFF")[seed % 3])
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in np.repeat(values, 3, axis=1))
    return png([header(40, 30, depth=16), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


def _palette(seed: int) -> bytes:
    kind, options = _in_turn(seed, ("PNG", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("PNG", {"transparency": 3}))
    return encoded(noise(seed).quantize(16), kind, **options)


def _alpha(seed: int) -> bytes:
    kind, options = _in_turn(seed, ("PNG", {}), ("WEBP", {}), ("TIFF", {}), ("WEBP", {"lossless": True}))
    return encoded(noise(seed, mode="RGBA" if kind != "PNG" or seed % 8 else "LA"), kind, **options)


def _greyscale(seed: int) -> bytes:
    kind = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")[seed % 6]
    return encoded(noise(seed, mode="L"), kind)


def _exif_turned(seed: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1 + seed % 8
    return encoded(noise(seed), ("JPEG", "PNG", "TIFF", "WEBP")[seed // 8 % 4], exif=exif)


def _cmyk(seed: int) -> bytes:
    """As PIL writes it with Adobe's mark, inverted; or as a TIFF."""
    return encoded(noise(seed, mode="CMYK"), ("JPEG", "TIFF")[seed % 2])


def _of_size(width: int, height: int) -> Callable[[int], bytes]:
    def draw(seed: int) -> bytes:
        kind = ("PNG", "JPEG", "BMP", "GIF", "TIFF")[seed % 5]
        return encoded(noise(seed, *((width, height) if seed % 2 else (height, width))), kind)

    return draw


def _animated(seed: int) -> bytes:
    frames = [noise(seed + i) for i in range(3)]
    return encoded(frames[0], ("GIF", "WEBP", "PNG", "TIFF")[seed % 4], save_all=True, append_images=frames[1:])


def _zip(seed: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{seed}.png", encoded(noise(seed)))
    return buffer.getvalue()


KINDS: dict[str, Kind] = {
    "cut off": Kind(_cut_off, "truncated"),
    "empty": Kind(lambda _: b"", "empty"),
    "wrong type": Kind(_wrong_type, "not an image"),
    "cmyk": Kind(_cmyk),
    "16-bit": Kind(_sixteen_bit),
    "palette": Kind(_palette),
    "alpha": Kind(_alpha),
    "greyscale": Kind(_greyscale),
    "exif-turned": Kind(_exif_turned),
    "1x1": Kind(_of_size(1, 1)),
    "30000x1": Kind(_of_size(30_000, 1)),
    "animated": Kind(_animated),
    "decompression bomb": Kind(claims, "too large"),
    "a zip": Kind(_zip, "not an image"),
    # a folder and not a file without permission, which some users may read all the same
    "unreadable": Kind(None, "unreadable", Path.mkdir),
    "dead link": Kind(None, "missing", lambda path: path.symlink_to(path.with_name("nowhere"))),
}


# ---- and more ---------------------------------------------------------------------------------------------------


def _broken_checksum(seed: int) -> bytes:
    raw = bytearray(encoded(noise(seed)))
    # in the checksum of the header, or of the pixels
    raw[31 if seed % 2 else raw.rindex(b"IEND") - 6] ^= 0xFF
    return bytes(raw)


def _broken_strips(seed: int) -> bytes:
    """A TIFF of many strips, damaged in the midst of them."""
    raw = bytearray(encoded(noise(seed, 90, 80), "TIFF", compression="tiff_adobe_deflate", strip_size=2000))
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    return bytes(raw)


def _upside_down(seed: int) -> bytes:
    """A BMP whose lines run from top to bottom, which its negative height says."""
    raw = bytearray(encoded(noise(seed), "BMP"))
    raw[22:26] = struct.pack("<i", -30)
    return bytes(raw)


def _several(seed: int) -> bytes:
    """Two JPEGs in one file, as cameras with two lenses write them."""
    return encoded(noise(seed), "MPO", save_all=True, append_images=[noise(seed + 1)])


ODD: dict[str, Kind] = {
    "wrong checksum": Kind(_broken_checksum, "broken"),
    "broken strips": Kind(_broken_strips, "broken"),
    "upside down": Kind(_upside_down),
    "two in one": Kind(_several),
    "icon": Kind(lambda seed: encoded(noise(seed), "ICO"), "not an image"),
    "jpeg 2000": Kind(lambda seed: encoded(noise(seed), "JPEG2000"), "not an image"),
    "many pages": Kind(
        lambda seed: encoded(noise(seed), "TIFF", save_all=True, append_images=[noise(i) for i in range(20)])
    ),
}
