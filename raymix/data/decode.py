"""From an image as its format holds it to pixels as a viewer shows it, resized and cropped to a square; or why not."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from raymix.data.encoded import MAX_BYTES, bytes_to_decode, bytes_to_open, cause_of, opened
from raymix.data.encoded import BadImage as BadImage
from raymix.data.frame import Frame, Pixels
from raymix.data.rows import RawImage
from raymix.data.shown import shorter_side, shown
from raymix.spec import Data, boxes_of

_SMALL = 4_000_000  # bytes; what takes less is decoded without asking for room
_TRIMMED = 32_000_000  # bytes from which on memory is given back at once


def decode(raw: RawImage, frame: Frame) -> Pixels:
    """The centre square of an image's `frame.region` at `frame.size` pixels a side: (S, S, C) of `frame.dtype`.

    With tiles that of each, (T, S, S, C); the image is decoded once for all of them.

    EXIF orientation is applied, transparency shown on white, of an animation the first frame taken. The shorter side
    is resized to S (bicubic, antialiased); where it is S already, pixels stay untouched. 16-bit grey keeps its values
    where channels are gray16, to which 8-bit values are multiplied by 257; PIL has other 16-bit images as 8 bits.
    Arrays are uint8 (H, W), (H, W, 1), (H, W, 3), (H, W, 4), the last one alpha, or uint16 (H, W), (H, W, 1).

    Decoding never takes much more than MAX_BYTES, in all threads together.

    Raises:
        BadImage: the bytes are not a whole image of a known kind, or too large to be decoded.
    """
    return np.array(_decoded(raw, frame))


def decode_many(
    raws: Sequence[RawImage | OSError], frame: Frame
) -> tuple[Pixels, NDArray[np.bool_], list[tuple[int, str]]]:
    """Decode a batch and go on past bad images.

    Returns:
        Pixels of the good images (num_good, *frame.shape), a mask of them (len(raws),), and (position, cause) of
        the bad ones.
    """
    pixels = frame.empty(len(raws))
    good = np.zeros(len(raws), dtype=np.bool_)
    bad: list[tuple[int, str]] = []
    num_good = 0
    for position, raw in enumerate(raws):
        try:
            if isinstance(raw, OSError):
                raise BadImage(unreadable(raw))
            pixels[num_good] = _decoded(raw, frame)
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
    sides, boxes = [], boxes_of(data.region, data.tile)
    for raw in sample:
        try:
            if isinstance(raw, bytes):
                image = opened(raw)
                sides.append(shorter_side(image.size, boxes, image))
            elif not isinstance(raw, OSError):
                sides.append(shorter_side((raw.shape[1], raw.shape[0]), boxes))
        except BadImage:  # it is counted when it is read, here it only has no size
            continue
    wanted = data.largest_stored
    return wanted if sides and median_low(sides) >= wanted else data.image_size


def _decoded(raw: RawImage, frame: Frame) -> Pixels:
    """As decode, perhaps not writeable."""
    if not isinstance(raw, bytes):
        return _of_array(raw, frame)
    num_bytes = bytes_to_open(raw)
    if num_bytes <= _SMALL:
        image = opened(raw)
        num_bytes = _prepared(image, raw, frame)
        if num_bytes <= _SMALL:
            return _pixels(image, raw, frame)
        del image
    with _room(num_bytes):
        try:
            return _of_large(raw, frame)
        except BadImage as error:
            cause = error.cause
    raise BadImage(cause)  # out here, as the frames of the first one's traceback hold the image


def _of_large(raw: bytes, frame: Frame) -> Pixels:
    """Opened anew, so that no reference to the image outlives its room."""
    image = opened(raw)
    _prepared(image, raw, frame)
    return _pixels(image, raw, frame)


def _pixels(image: ImageFile.ImageFile, raw: bytes, frame: Frame) -> Pixels:
    try:
        image.load()
    except Exception as error:  # PIL's decoders raise a dozen types on broken files
        raise BadImage(cause_of(raw, error)) from error
    return shown(image, frame)


def _prepared(image: ImageFile.ImageFile, raw: bytes, frame: Frame) -> int:
    """Bytes that decoding will take, once PIL is told to decode a large JPEG no larger than needed."""
    size, boxes = image.size, frame.boxes
    try:
        side = shorter_side(size, boxes, image)
        if side >= 4 * frame.size:
            # JPEGs are decoded at 1/2, 1/4 or 1/8, never below twice the size wanted: up to several times faster
            wanted = (2 * frame.size, 2 * frame.size)
            if None not in boxes:
                factor = side // (2 * frame.size)
                wanted = (-(-size[0] // factor), -(-size[1] // factor))
            image.draft(None, wanted)
        return bytes_to_decode(image, raw, size)
    except BadImage:
        raise
    except Exception as error:  # a header whose values make no sense
        raise BadImage(cause_of(raw, error)) from error


def _of_array(pixels: NDArray[Any], frame: Frame) -> Pixels:
    """Of pixels that have no encoding."""
    if not pixels.size:
        raise BadImage("empty")
    deep = pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in ((1,) if deep else (1, 3, 4)) or not (deep or pixels.dtype == "u1"):
        raise BadImage("unknown colours")
    flat = pixels[..., 0] if channels == 1 and pixels.ndim == 3 else pixels
    if None in frame.boxes and flat.shape[:2] == (frame.size, frame.size) and deep == (frame.channels == "gray16"):
        if channels == 1:
            return np.broadcast_to(flat[..., None], frame.shape)
        if channels == frame.num_channels:
            return pixels
    # as int32 for the deep ones: PIL has no arithmetic on 16 bits
    return shown(Image.fromarray(flat.astype(np.int32) if deep else flat), frame)


def unreadable(error: OSError) -> str:
    """The cause of an image that could not be fetched."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    return "no permission" if isinstance(error, PermissionError) else "unreadable"


_used = 0  # bytes of the images that are being decoded, the small ones left out
_freed = threading.Condition()


@contextmanager
def _room(num_bytes: int) -> Iterator[None]:
    """Wait until an image that takes so much can be decoded: all threads together may take MAX_BYTES, not each."""
    global _used
    with _freed:
        _freed.wait_for(lambda: _used + num_bytes <= MAX_BYTES)
        _used += num_bytes
    try:
        yield
    finally:
        if num_bytes > _TRIMMED:
            _trim()
        with _freed:
            _used -= num_bytes
            _freed.notify_all()


def _trim() -> None:
    """Give freed memory back: glibc keeps what a thread has freed for this thread, up to an image for each of them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
