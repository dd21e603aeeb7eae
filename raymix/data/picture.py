"""What kind of image a row holds, and an image written anew: smaller, or by another codec."""

from __future__ import annotations

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from raymix.data.decode import BadImage, decode
from raymix.data.encoded import bytes_to_decode, cause_of, opened
from raymix.data.frame import Frame
from raymix.data.rows import RawImage
from raymix.data.shown import whole
from raymix.spec import Channels

Codec = Literal["jpeg", "png", "webp"]
QUALITY = 90

_BITS = {"1": 1, "I": 32, "F": 32}  # of PIL's modes; those that hold 16 name it, all others have 8
_PNG_DEPTH_AT = 24
_SIDE = 8  # pixels that an image is decoded to where only its soundness is in question
_CODECS: dict[str, Codec] = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp"}
_GREY = ("L", "1", "LA", "La")


class Kind(NamedTuple):
    """Format, PIL's mode (RGB, L, CMYK, ...) and bits a channel as stored; of pixels without an encoding, `array`."""

    format: str
    mode: str
    bits: int


def header(raw: RawImage) -> tuple[Kind, tuple[int, int]]:
    """The kind of an image that can be read, and its width and height as stored; no pixel is decoded."""
    if not isinstance(raw, bytes):
        mode = "L" if raw.ndim == 2 or raw.shape[2] == 1 else {3: "RGB", 4: "RGBA"}.get(raw.shape[2], "?")
        return Kind("array", mode, 8 * raw.dtype.itemsize), (raw.shape[1], raw.shape[0])
    image = opened(raw)
    kind, mode = image.format or "?", image.mode
    # PIL shows a PNG of 16 bits a colour as one of 8
    bits = raw[_PNG_DEPTH_AT] if kind == "PNG" else 16 if "16" in mode else _BITS.get(mode, 8)
    return Kind(kind, mode, bits), image.size


def rewritten(raw: RawImage, size: int | None, codec: Codec | None, quality: int | None, channels: Channels) -> bytes:
    """An image as `codec` writes it, its shorter side reduced to `size`; never enlarged, its shape kept.

    Bytes that are as asked already are returned as they are, without a second loss. What is written anew is as a viewer
    shows it: upright, on white, the first frame; grey stays grey, and as PNG of 16 bits where it had more than 8.

    Args:
        codec: None keeps the image's own where it is one of the three, and takes PNG for all others.
        quality: 1 to 100, of JPEG and WebP, which then are always written anew; None: 90, where there is need.

    Raises:
        BadImage: it is unreadable, or longer than the codec can write.
    """
    if not isinstance(raw, bytes):
        image = Image.fromarray(_for_pil(raw))
        return _encoded(image, size, codec or "png", quality)
    decode(raw, Frame(_SIDE, channels))  # as a run would read it; with the bound that it sets on memory
    image = opened(raw)
    own = _CODECS.get(image.format or "")
    wanted: Codec = codec or own or "png"
    small = size is None or min(image.size) <= size
    if small and wanted == own and (quality is None or wanted == "png"):
        return raw
    if not small and size is not None:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG at 1/2, 1/4 or 1/8: several times faster
    try:
        bytes_to_decode(image, raw, image.size)
        image.load()
    except BadImage:
        raise
    except Exception as error:  # PIL's decoders raise a dozen types on broken files
        raise BadImage(cause_of(raw, error)) from error
    return _encoded(image, size, wanted, quality)


def _for_pil(pixels: Any) -> Any:
    """Pixels without an axis of one channel; deep ones as int32, since PIL has no arithmetic on 16 bits."""
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return flat.astype(np.int32) if flat.dtype == np.uint16 else flat


def _encoded(image: Image.Image, size: int | None, codec: Codec, quality: int | None) -> bytes:
    deep = image.mode.startswith(("I", "F"))
    image = whole(image, ("gray16" if codec == "png" else "gray") if deep else "gray" if image.mode in _GREY else "rgb")
    shorter = min(image.size)
    if size is not None and shorter > size:
        width, height = (max(1, round(side * size / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image).clip(0, 65535)).astype(np.uint16))
    buffer = io.BytesIO()
    try:
        image.save(buffer, codec, **({} if codec == "png" else {"quality": quality or QUALITY}))
    except (OSError, ValueError) as error:  # a WebP has at most 16,383 pixels a side, a JPEG 65,500
        raise BadImage(f"too long for {codec}") from error
    return buffer.getvalue()
