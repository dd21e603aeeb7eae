"""From an image as its format holds it to pixels as a viewer shows it, resized and cropped to a square; or why not.

The only module of raymix.data that imports PIL.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from raymix.data.frame import Frame, Pixels
from raymix.data.rows import RawImage
from raymix.spec import Data

MAX_PIXELS = 89_478_485  # where PIL begins to warn, 270 MB as RGB; a small file can claim far more
_STORE_MARGIN = 1.15  # kept beyond image_size, so that random crops have detail to lose
# what the suffixes of the formats stand for; PIL would also try EPS (which runs Ghostscript) and fifty others
_KINDS = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "BMP": BmpImagePlugin,
    "GIF": GifImagePlugin,
    "TIFF": TiffImagePlugin,
}
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


class BadImage(ValueError):  # noqa: N818 (part of the interface)
    """An image that cannot be used. `cause` is a word or two: empty, not an image, truncated, broken, too large, ..."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)


def decode(raw: RawImage, frame: Frame) -> Pixels:
    """The centre square of an image at `frame.size` pixels a side: (S, S, C).

    EXIF orientation is applied, transparency shown on white, of an animation the first frame taken. The shorter side
    is resized to S (bicubic, antialiased); where it is S already, pixels stay untouched.

    Raises:
        BadImage: the bytes are not a whole image of a known kind.
    """
    try:
        image = _open(raw) if isinstance(raw, bytes) else _of_array(raw)
        # large JPEGs are decoded at 1/2, 1/4 or 1/8, never below twice the size wanted: up to several times faster
        image.draft(None, (2 * frame.size, 2 * frame.size))
        image.load()
    except BadImage:
        raise
    except Exception as error:  # PIL's decoders raise a dozen types on broken files
        raise BadImage(_cause(raw, error) if isinstance(raw, bytes) else "unknown colours") from error
    return np.array(_square(_rgb(_upright(image)), frame.size))


def decode_many(
    raws: Sequence[RawImage | OSError], frame: Frame
) -> tuple[Pixels, NDArray[np.bool_], list[tuple[int, str]]]:
    """Decode a batch and go on past bad images.

    Returns:
        Pixels of the good images (num_good, S, S, C), a mask of them (len(raws),), and (position, cause) of
        the bad ones.
    """
    pixels = frame.empty(len(raws))
    good = np.zeros(len(raws), dtype=np.bool_)
    bad: list[tuple[int, str]] = []
    num_good = 0
    for position, raw in enumerate(raws):
        try:
            if isinstance(raw, OSError):
                raise BadImage(_unreadable(raw))
            pixels[num_good] = decode(raw, frame)
        except BadImage as error:
            bad.append((position, error.cause))
        else:
            good[position] = True
            num_good += 1
    return pixels[:num_good], good, bad


def store_size(data: Data, sample: Sequence[RawImage | OSError]) -> int:
    """Pixels a side to keep: data.store_size, or (auto) 1.15 x image_size where most images of the sample have it."""
    if data.store_size != "auto":
        return data.store_size
    sides = []
    for raw in sample:
        try:
            if isinstance(raw, bytes):
                sides.append(min(_open(raw).size))
            elif not isinstance(raw, OSError):
                sides.append(min(raw.shape[:2]))
        except Exception:  # a bad image is counted when it is read, here it only has no size
            continue
    wanted = round(_STORE_MARGIN * data.image_size)
    return wanted if sides and median_low(sides) >= wanted else data.image_size


# ---- steps of decode --------------------------------------------------------------------------------------------


def _of_array(pixels: NDArray[Any]) -> Image.Image:
    """Pixels (H, W) or (H, W, C) that have no encoding."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _open(raw: bytes) -> Image.Image:
    """The image with its header read, its size checked, and no pixel decoded."""
    if not raw:
        raise BadImage("empty")
    try:
        image = Image.open(io.BytesIO(raw), formats=tuple(_KINDS))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage("too large") from None
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("too large")
    return image


def _cause(raw: bytes, error: Exception) -> str:
    """A word for what PIL raised: what it says differs by kind of image and by release."""
    if isinstance(error, MemoryError):
        return "too large"
    if isinstance(error, UnidentifiedImageError):
        return "truncated" if raw.startswith(_MAGIC) else "not an image"
    ended = isinstance(error, EOFError) or "truncated" in str(error).lower() or _ends_early(raw)
    return "truncated" if ended else "broken"


def _ends_early(raw: bytes) -> bool:
    """The header of a WebP or TIFF points beyond the end; of these PIL does not say that they are truncated."""
    if raw.startswith(b"RIFF"):
        return int.from_bytes(raw[4:8], "little") + 8 > len(raw)
    if raw.startswith((b"II*\0", b"MM\0*")):
        return int.from_bytes(raw[4:8], "little" if raw.startswith(b"II") else "big") + 2 > len(raw)
    return False


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "no permission" if isinstance(error, PermissionError) else "unreadable"


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; a broken EXIF block turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever the EXIF parser stumbles over, viewers show the image all the same
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """RGB as a viewer shows it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _eight_bits(image)
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    try:
        return image.convert("RGB")
    except ValueError:
        raise BadImage("unknown colours") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """A deep grey image as 8 bits: 16-bit integers by their full range, floats as 0 to 1 or 0 to 255."""
    values: NDArray[Any] = np.asarray(image)
    low, high = values.min(), values.max()
    full = 65535.0 if image.mode != "F" else 1.0 if high <= 1 else 255.0
    if not (low >= 0 and high <= full):  # NaN comes here too
        raise BadImage("unknown grey range")
    return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


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
