"""Encoded images before a pixel is decoded: which kind, how much memory decoding will take, why one is no use.

A small file can claim, or unfold to, far more than a machine has. What PIL and the libraries below it would allocate
is computed from the header, and what passes the bound is refused before anything is allocated.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

MAX_PIXELS = 89_478_485  # where PIL begins to warn; bounds the time, as MAX_BYTES bounds the memory
MAX_BYTES = 220_000_000  # that decoding one image may take, before it is made small
_MAX_ANIMATED = 5_000_000  # pixels of an animated PNG, which fills two canvases when it is opened
_MAX_TEXTS = 16  # packed notes in a PNG, each of which unfolds to up to a mebibyte
_MAX_SCAN_PIXELS = 600_000_000  # pixels times scans: a scan of nothing is a few bytes and a pass over the image
_MAX_RLE_PIXELS = 2_000_000  # PIL reads run-length BMPs in Python
_MAX_STRIPS = 100_000  # of a TIFF; PIL keeps some 300 bytes for each
_SMALL = 1_000_000  # bytes as RGBA, below which only the kinds that can hide more are looked into

# what the suffixes of the formats stand for; PIL would also try EPS (which runs Ghostscript) and fifty others
_KINDS = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "BMP": BmpImagePlugin,
    "GIF": GifImagePlugin,
    "TIFF": TiffImagePlugin,
}
_JPEG, _PNG, _GIF, _BMP, _RIFF = b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # all others take 4
# of TIFF, by number: those whose data lie elsewhere and show whether the file is whole, and bytes by type of value
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 324, 325
_VALUE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)


class BadImage(ValueError):  # noqa: N818 (part of the interface)
    """An image that cannot be used. `cause` is a word or two: empty, not an image, truncated, broken, too large, ..."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


def opened(raw: bytes) -> ImageFile.ImageFile:
    """The image with its header read and no pixel decoded.

    Raises:
        BadImage: the header is not one of a known kind, or claims more pixels than MAX_PIXELS.
    """
    if not raw:
        raise BadImage("empty")
    bytes_to_open(raw)
    try:
        if raw.startswith(_PNG):
            _check_png(raw)
        elif raw.startswith(_TIFF):
            _check_tiff(raw)
        image = Image.open(io.BytesIO(raw), formats=tuple(_KINDS))
    except BadImage:
        raise
    except Exception as error:  # PIL raises a dozen types on broken headers
        raise BadImage(cause_of(raw, error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("too large")
    return image


def bytes_to_open(raw: bytes) -> int:
    """An upper bound of what a WebP takes, for which PIL allocates when it merely opens it; 0 for the other kinds.

    Raises:
        BadImage: it is more than MAX_BYTES.
    """
    if not raw.startswith(_RIFF) or raw[8:12] != b"WEBP" or len(raw) < 30:
        return 0
    kind = raw[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(raw[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (size & 0x3FFF for size in struct.unpack_from("<2H", raw, 26))
    # two canvases, a copy as bytes and the image, 4 bytes a pixel each; the lossless decoder holds one more
    num_bytes = (16 if kind == b"VP8 " else 20) * width * height
    if num_bytes > MAX_BYTES:
        raise BadImage("too large")
    return num_bytes


def cause_of(raw: bytes, error: Exception) -> str:
    """A word for what PIL raised: what it says differs by kind of image and by release."""
    text = str(error).lower()
    bomb = isinstance(error, (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning))
    if bomb or "too large" in text or "too much" in text:
        return "too large"
    if not _is_known(raw):
        return "not an image"
    return "truncated" if isinstance(error, EOFError) or "truncated" in text or _ends_early(raw) else "broken"


def bytes_to_decode(image: ImageFile.ImageFile, raw: bytes, size: tuple[int, int]) -> int:
    """An upper bound of what PIL allocates to decode an opened image, after `image.draft`; `size` is that before it.

    Raises:
        BadImage: it is more than MAX_BYTES, or would take too long.
    """
    num_pixels = size[0] * size[1]
    # a palette with transparency takes the time of the RGBA that it becomes
    each = 4 if "transparency" in image.info else _PIXEL_BYTES.get(image.mode, 4)
    held = image.width * image.height * each
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        held += _coefficients(image, raw, num_pixels) if 4 * num_pixels > _SMALL else 0
    elif isinstance(image, PngImagePlugin.PngImageFile):
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[raw[25]]
        # 16-bit colours are held as 8 bits, but take the time of what they unfold to
        held = max(held * (3 if image.is_animated else 1), num_pixels * channels * raw[24] // 8)
    elif image.format == "WEBP":
        held = bytes_to_open(raw)
    elif image.format == "GIF":
        held *= 2  # what the frame is disposed to
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        held = _tiff_bytes(image, held)
    elif image.tile and image.tile[0][0] == "bmp_rle":
        held = held * 4 if num_pixels <= _MAX_RLE_PIXELS else MAX_BYTES + 1
    if held > MAX_BYTES:
        raise BadImage("too large")
    return held


# ---- by kind: what can hide more than the size says -------------------------------------------------------------


def _coefficients(image: JpegImagePlugin.JpegImageFile, raw: bytes, num_pixels: int) -> int:
    """Bytes that libjpeg keeps of a JPEG in several scans: all coefficients, at full size whatever the draft."""
    assert image.fp is not None
    start = image.fp.tell()  # PIL has read up to the first scan, so thumbnails lie before it
    end = raw.find(b"\xff\xd9", start)
    num_scans = 1 + raw.count(b"\xff\xda", start, end if end >= 0 else len(raw))
    if num_scans == 1 and "progressive" not in image.info:
        return 0
    if num_scans * num_pixels > _MAX_SCAN_PIXELS:
        raise BadImage("too large")
    layers = [(across, down) for _, across, down, _ in image.layer]
    widest = max(across for across, _ in layers) * max(down for _, down in layers)
    return 2 * num_pixels * sum(across * down for across, down in layers) // max(1, widest)


def _check_png(raw: bytes) -> None:
    """Refuse a PNG with a wrong checksum, which PIL looks at in the header only, or with what PIL unfolds at once.

    Raises:
        BadImage: broken; or too large.
    """
    if len(raw) >= 24:
        width, height = struct.unpack_from(">II", raw, 16)
        if width * height > (_MAX_ANIMATED if b"acTL" in raw[: raw.find(b"IDAT")] else MAX_PIXELS):
            raise BadImage("too large")
    view = memoryview(raw)
    num_texts = 0
    at = 8
    while at + 12 <= len(raw):
        length, kind = struct.unpack_from(">I4s", raw, at)
        end = at + 8 + length
        if end + 4 > len(raw):
            return  # truncated, as the decoder will say
        # ancillary chunks, which have a small first letter, may be damaged: viewers pass over them
        if kind[0] < 97 and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", raw, end)[0]:
            raise BadImage("broken")
        num_texts += kind in (b"zTXt", b"iTXt")
        if num_texts > _MAX_TEXTS:
            raise BadImage("too large")
        if kind == b"IEND":
            return
        at = end + 4


class _Tag(NamedTuple):
    number: int
    num: int
    end: int  # of its data in the file


def _tags(raw: bytes) -> Iterator[_Tag]:
    """Entries of the first directory of a TIFF. Raises struct.error where it ends early."""
    order = "<" if raw[:1] == b"I" else ">"
    big = raw[2:4] in (b"+\0", b"\0+")
    (at,) = struct.unpack_from(order + ("Q" if big else "L"), raw, 8 if big else 4)
    (num,) = struct.unpack_from(order + ("Q" if big else "H"), raw, at)
    at += 8 if big else 2
    form, word, step = ("HHQ", "Q", 20) if big else ("HHL", "L", 12)
    for entry in range(at, at + num * step, step):
        number, kind, count = struct.unpack_from(order + form, raw, entry)
        num_bytes = count * (_VALUE_BYTES[kind] if kind < len(_VALUE_BYTES) else 0)
        place = entry + step - struct.calcsize(order + word)
        (offset,) = struct.unpack_from(order + word, raw, place)
        yield _Tag(number, count, offset + num_bytes if num_bytes > struct.calcsize(order + word) else place)


def _check_tiff(raw: bytes) -> None:
    """Refuse a TIFF of so many strips that their list alone would fill the memory.

    Raises:
        BadImage: too large; or truncated within its directory.
    """
    try:
        strips = (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES)
        if any(tag.num > _MAX_STRIPS for tag in _tags(raw) if tag.number in strips):
            raise BadImage("too large")
    except struct.error:
        raise BadImage("truncated") from None


def _tiff_bytes(image: TiffImagePlugin.TiffImageFile, held: int) -> int:
    """Bytes for a TIFF: the image, a strip or tile beside it (which may be larger), and a copy to turn it."""
    tags = image.tag_v2
    if tags.get(0x0112, 1) != 1:
        held *= 2  # PIL turns it at once
    if image.info.get("compression", "raw") == "raw":
        return held
    width, height = int(tags.get(322, 0)), int(tags.get(323, 0))
    if not width or not height:
        width, height = image.width, min(image.height, int(tags.get(278, image.height)))
    bits = tags.get(258, (1,))
    deepest, channels = max(bits), max(len(bits), int(tags.get(277, 1)))
    strip: int = width * height * max(4, (deepest * channels + 7) // 8)
    num_strips = 3 if image.info["compression"] in ("jpeg", "webp") else 1  # both hold a strip of their own
    return held + strip * num_strips


# ---- why one is no use ------------------------------------------------------------------------------------------


def _is_known(raw: bytes) -> bool:
    """It begins as one of the kinds does, so that it is a damaged one and not something else."""
    if raw.startswith(_BMP):
        return len(raw) < 18 or int.from_bytes(raw[14:18], "little") in _BMP_HEADERS
    if raw.startswith(_RIFF):
        return raw[8:12] in b"WEBP"
    return raw.startswith((_JPEG, _PNG, _GIF, *_TIFF))


def _ends_early(raw: bytes) -> bool:
    """The file is shorter than it says, or lacks the mark at its end; PIL does not tell this from other damage."""
    if raw.startswith(_RIFF):
        return int.from_bytes(raw[4:8], "little") + 8 > len(raw)
    if raw.startswith(_BMP):
        return len(raw) < 18 or int.from_bytes(raw[2:6], "little") > len(raw)
    if raw.startswith(_TIFF):
        try:
            return any(tag.end > len(raw) for tag in _tags(raw))
        except struct.error:
            return True
    if raw.startswith(_GIF):
        return not raw.rstrip(b"\0").endswith(b";")
    return (b"IEND" if raw.startswith(_PNG) else b"\xff\xd9") not in raw
