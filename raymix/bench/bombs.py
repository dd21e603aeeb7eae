"""Decompression bombs: small files that unfold to much memory or long work, below the bounds and above them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial

from PIL import Image

from raymix.bench.drawer import claims, encoded, header, png

_CHUNK = 2**20


def _zeros(num: int) -> bytes:
    """`num` zeros, compressed a thousandfold, and never held."""
    packer = zlib.compressobj(9)
    whole = b"".join(packer.compress(bytes(min(_CHUNK, num - done))) for done in range(0, num, _CHUNK))
    return whole + packer.flush()


def _flat(width: int, height: int, depth: int, colours: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A black PNG."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    pixels = _zeros(height * (1 + (width * bits + 7) // 8))
    return png([header(width, height, depth, colours), *chunks, (b"IDAT", pixels), (b"IEND", b"")])


def _canvases() -> bytes:
    """An animation whose first frame is disposed to the background: three canvases instead of one."""
    control = struct.pack(">5I2H2B", 0, 2200, 2200, 0, 0, 1, 1, 1, 0)
    return _flat(2200, 2200, 8, 6, (b"acTL", struct.pack(">2I", 2, 0)), (b"fcTL", control))


def _scans(num: int) -> bytes:
    """A progressive JPEG that passes over its 25 megapixels again and again, some hundred bytes a time."""
    raw = encoded(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
    last = raw.rindex(b"\xff\xda")
    return raw[:-2] + raw[last:-2] * num + raw[-2:]


def _texts() -> bytes:
    """Notes of a mebibyte, each from a kilobyte."""
    notes = ((b"zTXt", b"note %d\0\0" % i + _zeros(_CHUNK - 9)) for i in range(150))
    return _flat(64, 64, 8, 2, *notes)


def _big_tile() -> bytes:
    """A TIFF of 64 x 64 pixels in one tile of 20,000 x 20,000."""
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, 20_000), (323, 20_000)]
    pixels = _zeros(20_000 * 20_000)
    tags += [(324, 8 + 2 + 12 * 10 + 4), (325, len(pixels))]
    directory = b"".join(struct.pack("<HHLL", number, 4, 1, value) for number, value in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4) + pixels


def _many_strips() -> bytes:
    """A TIFF that lists a million strips."""
    num = 1_000_000
    tags = [(256, 1, 1), (257, 1, num), (258, 1, 8), (259, 1, 1), (262, 1, 1), (277, 1, 1), (278, 1, 1)]
    tags += [(273, num, 8 + 2 + 12 * 9 + 4), (279, num, 8 + 2 + 12 * 9 + 4)]
    directory = b"".join(struct.pack("<HHLL", number, 4, count, value) for number, count, value in sorted(tags))
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + directory + bytes(4) + struct.pack("<L", 8) * num


def _runs(side: int) -> bytes:
    """A BMP of runs, which PIL reads pixel by pixel."""
    start = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 4, 2, 0, 0, 0, 16, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 64) + start + bytes(64) + (b"\x01\0\0\0" * side)


# below the bounds by a little: read, at the price of the bound
READABLE: dict[str, Callable[[], bytes]] = {
    "png colour": lambda: _flat(7400, 7400, 8, 2),
    "png alpha": lambda: _flat(2000, 27_400, 8, 6),
    "png palette": lambda: _flat(9400, 9400, 8, 3, (b"PLTE", bytes(768))),
    "png 16 bit": lambda: _flat(9400, 9400, 16, 0),
    "png animation": _canvases,
    "gif": lambda: encoded(Image.new("P", (9400, 9400)), "GIF"),
    "tiff one strip": lambda: encoded(Image.new("RGB", (5200, 5200)), "TIFF", compression="tiff_adobe_deflate"),
    "webp": lambda: encoded(Image.new("RGB", (3700, 3700)), "WEBP", method=0),
    "webp lossless": lambda: encoded(Image.new("RGB", (3300, 3300)), "WEBP", lossless=True, method=0),
    "jpeg": lambda: encoded(Image.new("RGB", (9400, 9400)), "JPEG"),
    "jpeg progressive": lambda: encoded(Image.new("RGB", (6700, 6700)), "JPEG", progressive=True),
    "bmp short runs": lambda: _runs(1400),
}
BOMBS: dict[str, Callable[[], bytes]] = {
    **READABLE,
    "png huge": lambda: _flat(9400, 9400, 8, 6),
    "png deep": lambda: _flat(8000, 8000, 16, 6),
    "png texts": _texts,
    "png profile": lambda: _flat(64, 64, 8, 2, (b"iCCP", b"a\0\0" + _zeros(2**28))),
    "jpeg scans": lambda: _scans(5000),
    "tiff big tile": _big_tile,
    "tiff strips": _many_strips,
    "bmp runs": lambda: _runs(9400),
    **{f"claim {i}": partial(claims, i) for i in range(7)},
}
