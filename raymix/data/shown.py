"""From a decoded PIL image to the pixels that are kept: as a viewer shows it, upright, a centre square, resized.

A large image is cut and made small piece by piece before its colours are converted, so that copies stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raymix.data.encoded import BadImage
from raymix.data.frame import Frame, Pixels
from raymix.spec import Channels, Region

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the image as stored
_LARGE = 4_000_000  # pixels from which on an image goes piece by piece
_PIECE = 1_000_000  # pixels of a piece
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # one grey channel of more than 8 bits
_CLEAR = ("RGBA", "LA", "PA", "RGBa", "La")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# where a point of the upright image, in shares, lies in the one that has to be turned
_STORED: dict[Image.Transpose | None, Callable[[float, float], tuple[float, float]]] = {
    None: lambda x, y: (x, y),
    Image.Transpose.FLIP_LEFT_RIGHT: lambda x, y: (1 - x, y),
    Image.Transpose.ROTATE_180: lambda x, y: (1 - x, 1 - y),
    Image.Transpose.FLIP_TOP_BOTTOM: lambda x, y: (x, 1 - y),
    Image.Transpose.TRANSPOSE: lambda x, y: (y, x),
    Image.Transpose.ROTATE_270: lambda x, y: (y, 1 - x),
    Image.Transpose.TRANSVERSE: lambda x, y: (1 - y, 1 - x),
    Image.Transpose.ROTATE_90: lambda x, y: (1 - y, x),
}
_ORIENTED = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})


def shown(image: Image.Image, frame: Frame) -> Pixels:
    """The centre square of `frame.region`, or of each of its tiles, at `frame.size`: of `frame.shape`.

    Perhaps not writeable.

    The shorter side is resized to S (bicubic, antialiased); where it is S already, pixels stay untouched.

    Raises:
        BadImage: its colours or its range of grey have no known meaning.
    """
    turn = _turn(image)
    full = _full(image) if image.mode == "F" else 65535.0
    squares = [_shown(image, frame, region, turn, full) for region in frame.boxes]
    return squares[0] if frame.tile is None else np.stack(squares)


def _shown(
    image: Image.Image, frame: Frame, region: Region | None, turn: Image.Transpose | None, full: float
) -> Pixels:
    """The centre square of one region, (S, S, C)."""
    box = _box(image.size, region, turn)
    if (box[2] - box[0]) * (box[3] - box[1]) > _LARGE:
        image = _piecewise(image, frame, full, box)
    else:
        image = _converted(image if region is None else image.crop(box), frame, full)
    if turn is not None:
        image = image.transpose(turn)
    values: NDArray[Any] = np.asarray(_square(image, frame.size))
    if image.mode == "F":
        values = np.rint(values.clip(0, 65535)).astype(np.uint16)
    elif frame.channels == "gray16":
        values = values.astype(np.uint16) * np.uint16(257)
    return values if values.ndim == 3 else values[..., None]


def whole(image: Image.Image, channels: Channels) -> Image.Image:
    """All of an image at its own size, upright: RGB, L, or of gray16 F from 0 to 65,535.

    Raises:
        BadImage: its colours or its range of grey have no known meaning.
    """
    turn = _turn(image)
    image = _converted(image, Frame(1, channels), _full(image) if image.mode == "F" else 65535.0)
    return image if turn is None else image.transpose(turn)


def shorter_side(size: tuple[int, int], regions: Sequence[Region | None], image: Image.Image | None = None) -> int:
    """Pixels of the shortest side of some regions of an image of that width and height; `image`: its header, if any.

    Only a JPEG's orientation is asked for: others may have to be decoded to say.
    """
    turned = image is not None and None not in regions and image.format in ("JPEG", "MPO")
    turn = _turn(image) if image is not None and turned else None
    boxes = [_box(size, region, turn) for region in regions]
    return min(min(right - left, bottom - top) for left, top, right, bottom in boxes)


def _box(size: tuple[int, int], region: Region | None, turn: Image.Transpose | None) -> Box:
    """Where a region of the upright image lies in the image as stored, in pixels, at least one each way."""
    width, height = size
    if region is None:
        return 0, 0, width, height
    stored = _STORED[turn]
    (x0, y0), (x1, y1) = stored(*region[:2]), stored(*region[2:])
    left, top = (min(round(min(ends) * length), length - 1) for ends, length in (((x0, x1), width), ((y0, y1), height)))
    right, bottom = round(max(x0, x1) * width), round(max(y0, y1) * height)
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What sets the image upright, by its EXIF or XMP orientation; a broken block turns nothing."""
    if _ORIENTED.isdisjoint(image.info) and not hasattr(image, "tag_v2"):
        return None
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # whatever the EXIF parser stumbles over, viewers show the image all the same
        return None


def _piecewise(image: Image.Image, frame: Frame, full: float, within: Box) -> Image.Image:
    """The middle of a box of a large image in its final colours, at a whole fraction of its size, from 2 S a side."""
    size = within[2] - within[0], within[3] - within[1]
    side = min(size)
    factor = max(1, side // (2 * frame.size))
    # a middle that is symmetric, so that it stays the middle however the image is turned
    width, height = (((length - side) % 2 + side) // factor for length in size)
    left, top = within[0] + (size[0] - width * factor) // 2, within[1] + (size[1] - height * factor) // 2
    small: Image.Image | None = None
    num_lines = max(1, _PIECE // (width * factor * factor))
    for line in range(0, height, num_lines):
        until = min(height, line + num_lines)
        box = (left, top + line * factor, left + width * factor, top + until * factor)
        piece = _reduced(image.crop(box), factor, frame, full)
        small = small or Image.new(piece.mode, (width, height))
        small.paste(piece, (0, line))
    assert small is not None
    return small


def _reduced(piece: Image.Image, factor: int, frame: Frame, full: float) -> Image.Image:
    """Averaged over squares of `factor`, then in its final colours: what cannot be averaged as it is comes first."""
    if piece.mode in _DEEP:
        return _converted(piece, frame, full).reduce(factor)
    if "transparency" in piece.info or piece.mode == "PA":
        piece = piece.convert("RGBA")
    elif piece.mode in ("1", "P"):
        piece = piece.convert("RGB")
    return _converted(piece.reduce(factor), frame, full)


def _converted(image: Image.Image, frame: Frame, full: float) -> Image.Image:
    """RGB or L as a viewer shows it; of deep grey, where it is to be kept, F from 0 to 65,535."""
    if image.mode in _DEEP:
        image = _grey(image, frame.channels == "gray16", full)
        if image.mode == "F":
            return image
    if frame.channels == "rgb":
        return _rgb(image)
    plain = image.mode == "L" and "transparency" not in image.info
    return image if plain else _rgb(image).convert("L")


def _full(image: Image.Image) -> float:
    """White in an image of floats: 1 or 255."""
    _, high = image.getextrema()
    return 1.0 if high <= 1 else 255.0  # type: ignore[operator]  # one channel has one maximum


def _grey(image: Image.Image, deep: bool, full: float) -> Image.Image:
    """A deep grey image as 8 bits, or as F from 0 to 65,535; integers by their full 16-bit range."""
    values: NDArray[Any] = np.asarray(image)
    if values.dtype.kind != "u" and not (values.min() >= 0 and values.max() <= full):  # NaN comes here too
        raise BadImage("unknown grey range")
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        values = np.where(values == clear, np.asarray(full, values.dtype), values)
    # float32 holds 16 bits, and 255 / 65535 never gives a tie that it could round otherwise
    scaled = values.astype(np.float32)
    scaled *= np.float32((65535 if deep else 255) / full)
    return Image.fromarray(scaled if deep else np.rint(scaled, out=scaled).astype(np.uint8))


def _rgb(image: Image.Image) -> Image.Image:
    """RGB as a viewer shows it, on white."""
    if image.mode in _CLEAR or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode == "RGB":
        return image
    try:
        return image.convert("RGB")
    except ValueError:
        raise BadImage("unknown colours") from None


def _square(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resampled in one go: a 1 x 100,000 strip is never blown up to its full length."""
    width, height = image.size
    side = min(width, height)
    if width == height == size:
        return image
    if side == size:
        x, y = (width - side) // 2, (height - side) // 2
        return image.crop((x, y, x + side, y + side))
    left, top = (width - side) / 2, (height - side) / 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
