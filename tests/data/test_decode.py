"""Every odd image is shown as a viewer would, every broken one is refused with a cause."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from pictures import data, drawn, encoded
from PIL import Image, ImageFile

from raymix.bench import bombs
from raymix.bench.drawer import KINDS, ODD, Kind, header, noise, png
from raymix.data import shown
from raymix.data.decode import BadImage, decode, decode_many, store_size
from raymix.data.frame import Frame
from raymix.data.rows import RawImage
from raymix.spec import Region, Tile

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def flat(colour: Any, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def cause_of(raw: RawImage, size: int = 8) -> str:
    with pytest.raises(BadImage) as caught:
        decode(raw, Frame(size))
    assert str(caught.value) == caught.value.cause
    return caught.value.cause


# ---- geometry ---------------------------------------------------------------------------------------------------


def test_equal_size_is_untouched() -> None:
    image = drawn(width=16, height=16)
    pixels = decode(encoded(image), Frame(16))
    assert (pixels.dtype, pixels.shape, pixels.flags.writeable) == (np.uint8, (16, 16, 3), True)
    assert (pixels == np.asarray(image)).all()


def test_equal_shorter_side_is_cropped_and_not_resampled() -> None:
    wide, tall = drawn(width=20, height=16), drawn(width=16, height=21)
    assert (decode(encoded(wide), Frame(16)) == np.asarray(wide)[:, 2:18]).all()
    assert (decode(encoded(tall), Frame(16)) == np.asarray(tall)[2:18]).all()


@pytest.mark.parametrize(("width", "height"), [(100, 100), (100, 75), (75, 100), (40, 300), (10, 10)])
def test_resized_and_cropped_like_torchvision(width: int, height: int) -> None:
    from torchvision.transforms import v2

    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 130, width)).astype(np.uint8)
    image = Image.fromarray(ramp).convert("RGB")
    resize = v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC)
    known = np.asarray(v2.CenterCrop(32)(resize(image))).astype(int)
    assert (
        np.abs(decode(encoded(image), Frame(32)) - known).max() <= 3
    )  # a rounded side of theirs moves it by half a pixel


def test_large_jpegs_keep_their_look() -> None:
    ramp = np.add.outer(np.linspace(0, 120, 900), np.linspace(0, 130, 1200)).astype(np.uint8)
    image = Image.fromarray(ramp).convert("RGB")
    whole = decode(encoded(image), Frame(32)).astype(int)
    assert np.abs(decode(encoded(image, "JPEG", quality=95), Frame(32)) - whole).max() <= 4


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 20_000), (20_000, 1), (3, 2)])
def test_extreme_shapes(width: int, height: int) -> None:
    assert decode(encoded(flat((1, 2, 3), size=(width, height))), Frame(64)).tolist() == [[[1, 2, 3]] * 64] * 64


# ---- as a viewer shows it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    turned = Image.new("RGB", (64, 64))
    turned.paste((255, 0, 0), (0, 0, 32, 32))  # where it must be seen: red above left, blue below left
    turned.paste((0, 0, 255), (0, 32, 32, 64))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = turned.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else turned
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode(encoded(image, kind, exif=exif), Frame(64))
    for (y, x), colour in {(8, 8): (255, 0, 0), (56, 8): (0, 0, 255), (8, 56): (0, 0, 0), (56, 56): (0, 0, 0)}.items():
        assert np.abs(pixels[y, x].astype(int) - colour).max() < 40


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_no_reason_to_refuse() -> None:
    raw = encoded(flat((10, 200, 30), size=(16, 16)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffgarbage")
    assert np.abs(decode(raw, Frame(16)).astype(int) - (10, 200, 30)).max() < 5


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF"])
def test_grey_has_three_equal_channels(kind: str) -> None:
    pixels = decode(encoded(Image.fromarray(GREY), kind), Frame(8)).astype(int)
    assert (np.abs(pixels - GREY[..., None]) <= (4 if kind == "JPEG" else 0)).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_bits_and_palettes() -> None:
    assert decode(encoded(flat(1, "1")), Frame(8)).tolist() == [[[255] * 3] * 8] * 8
    palette = drawn(width=8, height=8).quantize(256)
    assert (decode(encoded(palette), Frame(8)) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (flat((255, 0, 0, 0), "RGBA"), (255, 255, 255)),
        (flat((255, 0, 0, 255), "RGBA"), (255, 0, 0)),
        (flat((0, 0, 0, 51), "RGBA"), (204, 204, 204)),
        (flat((0, 0), "LA"), (255, 255, 255)),
        (flat((7, 255), "LA"), (7, 7, 7)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_on_white(image: Image.Image, seen: tuple[int, int, int], kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (decode(encoded(image, kind, **options), Frame(8)) == seen).all()


def test_transparent_colours() -> None:
    assert (decode(encoded(flat((9, 9, 9)).quantize(2), transparency=0), Frame(8)) == 255).all()
    assert (decode(encoded(flat((9, 9, 9)), transparency=(9, 9, 9)), Frame(8)) == 255).all()
    assert (decode(encoded(flat(9, "L"), transparency=9), Frame(8)) == 255).all()
    assert (decode(encoded(flat((9, 9, 9)).quantize(2), "GIF", transparency=0), Frame(8)) == 255).all()


def test_cmyk() -> None:
    pixels = decode(encoded(flat((0, 255, 255, 0), "CMYK", (16, 16)), "JPEG", quality=95), Frame(16))
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 8
    assert (decode(encoded(flat((0, 0, 0, 255), "CMYK"), "TIFF"), Frame(8)) == 0).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey(kind: str) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert (decode(encoded(deep, kind), Frame(8)) == GREY[..., None]).all()


def test_sixteen_bit_colour() -> None:
    line = b"\0" + struct.pack(">3H", 65535, 0x8000, 0) * 8  # PIL cannot write this kind of PNG
    chunks = [(b"IHDR", struct.pack(">2I5B", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(line * 8)), (b"IEND", b"")]
    assert (decode(png(chunks), Frame(8)) == (255, 128, 0)).all()


def test_floating_grey() -> None:
    for values in (GREY / np.float32(255), GREY.astype(np.float32)):
        assert (decode(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"), Frame(8)) == GREY[..., None]).all()
    for value in (np.nan, -5.0, 4000.0):
        strange = np.full((8, 8), value, dtype=np.float32)
        assert cause_of(encoded(Image.fromarray(strange), "TIFF")) == "unknown grey range"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_animations(kind: str) -> None:
    frames = [flat(colour) for colour in ((255, 0, 0), (0, 255, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode(raw, Frame(8)) == (255, 0, 0)).all()


# ---- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.5, 0.95])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated(kind: str, options: dict[str, Any], share: float) -> None:
    raw = encoded(drawn(width=90, height=80), kind, **options)
    decode(raw, Frame(32))
    assert cause_of(raw[: max(4, int(share * len(raw)))]) == "truncated"


def test_not_images() -> None:
    assert cause_of(b"") == "empty"
    for raw in (b"<html>404</html>", bytes(5000), b"x", "Grüße".encode() * 100):
        assert cause_of(raw) == "not an image"


def test_no_program_is_run_for_eps() -> None:
    buffer = io.BytesIO()
    drawn().save(buffer, "EPS")
    assert cause_of(buffer.getvalue()) == "not an image"


def test_garbage_inside() -> None:
    raw = bytearray(encoded(drawn(width=90, height=80)))
    raw[len(raw) // 2 : len(raw) // 2 + 400] = bytes(400)
    assert cause_of(bytes(raw)) == "broken"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_600, 13_000, 60_000])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    header = struct.pack(">2I5B", side, side, 8, 2, 0, 0, 0)
    assert cause_of(png([(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")])) == "too large"


# ---- many, sizes ------------------------------------------------------------------------------------------------


def test_decode_many() -> None:
    images = [drawn(seed, 8, 8) for seed in range(3)]
    raws = [
        encoded(images[0]),
        b"",
        encoded(images[1]),
        FileNotFoundError(),
        PermissionError(),
        OSError(),
        encoded(images[2]),
    ]
    pixels, good, bad = decode_many(raws, Frame(8))
    assert good.tolist() == [True, False, True, False, False, False, True]
    assert bad == [(1, "empty"), (3, "missing"), (4, "no permission"), (5, "unreadable")]
    assert (pixels == np.stack([np.asarray(image) for image in images])).all()
    pixels, good, bad = decode_many([], Frame(8))
    assert (pixels.shape, good.tolist(), bad) == ((0, 8, 8, 3), [], [])


def test_store_size() -> None:
    def sample(*sides: int) -> list[bytes]:
        return [encoded(flat(0, size=(side, side + 9))) for side in sides]

    auto, given = data({"format": "digits"}, image_size=64), data({"format": "digits"}, image_size=64, store_size=70)
    assert store_size(auto, sample(64, 64, 64)) == 64
    assert store_size(auto, sample(73, 73, 73)) == 64
    assert store_size(auto, sample(74, 74, 74)) == 74
    assert store_size(auto, sample(20, 500, 500)) == 74
    assert store_size(auto, [*sample(500), b"", b"broken", OSError()]) == 74
    assert store_size(auto, []) == 64
    assert store_size(given, sample(500)) == 70


# ---- grey and deep frames, pixels without an encoding -----------------------------------------------------------

DEEP = np.random.default_rng(0).integers(0, 65536, (20, 24), dtype=np.uint16)


def deep_png(values: np.ndarray) -> bytes:
    return encoded(Image.fromarray(values))


@pytest.mark.parametrize("image", [drawn(), noise(1, mode="LA"), noise(2, mode="RGBA"), drawn(3).quantize(9), drawn(4)])
def test_gray_is_the_luma_of_what_a_viewer_shows(image: Image.Image) -> None:
    raw = encoded(image)
    seen = Image.fromarray(decode(raw, Frame(min(image.size))))
    grey = decode(raw, Frame(min(image.size), "gray"))
    assert (grey.dtype, grey.shape) == (np.uint8, (*seen.size, 1))
    assert (grey[..., 0] == np.asarray(seen.convert("L"))).all()
    deep = decode(raw, Frame(min(image.size), "gray16"))
    assert deep.dtype == np.uint16
    assert (deep == grey.astype(np.uint16) * 257).all()


def test_gray_of_sixteen_bits_is_scaled() -> None:
    known = np.rint(DEEP[:, 2:22] / 257)
    for raw in (deep_png(DEEP), encoded(Image.fromarray(DEEP), "TIFF")):
        assert (decode(raw, Frame(20, "gray"))[..., 0] == known).all()
        assert (decode(raw, Frame(20)) == known[..., None]).all()


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_gray16_keeps_sixteen_bits(order: str) -> None:
    for raw in (
        deep_png(DEEP),
        encoded(Image.fromarray(DEEP), "TIFF"),
        DEEP.astype(order),
        DEEP.astype(order)[..., None],
    ):
        assert (decode(raw, Frame(20, "gray16"))[..., 0] == DEEP[:, 2:22]).all()


def test_gray16_is_resampled_in_sixteen_bits() -> None:
    ramp = np.linspace(1000, 1400, 64 * 64).reshape(64, 64).astype(np.uint16)  # less than two steps of 8 bits
    small = decode(deep_png(ramp), Frame(16, "gray16"))[..., 0]
    assert np.abs(small.astype(int) - ramp.reshape(16, 4, 16, 4).mean((1, 3))).max() <= 3
    white = np.full((30, 30), 65535, np.uint16)
    white[:15] = 0
    assert set(np.unique(decode(deep_png(white), Frame(10, "gray16")))) >= {0, 65535}  # no overflow at edges
    floats = encoded(Image.fromarray((ramp / 65535).astype(np.float32)), "TIFF")
    assert np.abs(decode(floats, Frame(64, "gray16"))[..., 0].astype(int) - ramp).max() <= 1


def test_transparent_grey_of_sixteen_bits() -> None:
    values = np.full((8, 8), 7, np.uint16)
    values[0] = 60_000
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    chunks = [header(8, 8, 16, 0), (b"tRNS", struct.pack(">H", 7)), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    assert decode(png(chunks), Frame(8, "gray16"))[:2, 0, 0].tolist() == [60_000, 65_535]


def test_pixels_without_an_encoding() -> None:
    for grey in (GREY, GREY[..., None], np.asfortranarray(GREY)):
        assert (decode(grey, Frame(8)) == GREY[..., None]).all()
        assert (decode(grey, Frame(8, "gray")) == GREY[..., None]).all()
        assert (decode(grey, Frame(8, "gray16")) == GREY[..., None].astype(np.uint16) * 257).all()
        assert decode(grey, Frame(4)).shape == (4, 4, 3)
    colours = np.asarray(drawn(width=8, height=8))
    assert (decode(colours, Frame(8)) == colours).all()
    assert (decode(colours[::-1], Frame(8)) == colours[::-1]).all()
    assert (decode(colours, Frame(8, "gray"))[..., 0] == np.asarray(Image.fromarray(colours).convert("L"))).all()
    assert (decode(np.dstack([colours, np.zeros((8, 8), np.uint8)]), Frame(8)) == 255).all()
    assert (decode(GREY.astype(np.uint16) * 257, Frame(8)) == GREY[..., None]).all()
    assert decode(colours, Frame(8)).flags.writeable


@pytest.mark.parametrize(
    ("pixels", "cause"),
    [
        (GREY / 255, "unknown colours"),
        (GREY.astype(np.int64), "unknown colours"),
        (GREY > 3, "unknown colours"),
        (np.zeros((8, 8, 2), np.uint8), "unknown colours"),
        (np.zeros((8, 8, 3), np.uint16), "unknown colours"),
        (np.zeros((2, 8, 8, 3), np.uint8), "unknown colours"),
        (np.zeros(8, np.uint8), "unknown colours"),
        (np.zeros((0, 8), np.uint8), "empty"),
    ],
)
def test_pixels_of_unknown_meaning(pixels: np.ndarray, cause: str) -> None:
    assert cause_of(pixels) == cause


# ---- large images go piece by piece -----------------------------------------------------------------------------


def large(mode: str, width: int = 700, height: int = 450) -> Image.Image:
    """Smooth, so that there is one right way to make it small."""
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    waves = np.stack([np.sin(5 * x + 3 * y), np.cos(4 * x * y), np.sin(9 * y) + 0 * x], axis=-1)
    image = Image.fromarray((127 + 120 * waves).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((32_000 + 30_000 * waves[..., 0]).astype(np.uint16))
    if mode == "RGBA":
        image.putalpha(Image.fromarray((200 * x * np.ones_like(y)).astype(np.uint8)))
    return image.quantize(256) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
@pytest.mark.parametrize("channels", ["rgb", "gray", "gray16"])
def test_piece_by_piece_is_the_same(mode: str, channels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    raws = [encoded(large(mode, *size), "TIFF") for size in ((700, 450), (450, 801))]
    whole = [decode(raw, Frame(32, channels)).astype(float) for raw in raws]
    exact = [decode(raw, Frame(450, channels)) for raw in raws]
    monkeypatch.setattr(shown, "_LARGE", 1000)
    monkeypatch.setattr(shown, "_PIECE", 30_000)
    most, mean = (40, 6) if mode in ("1", "P") else (4, 0.8)  # dithered ones have no one right way
    for raw, small, same in zip(raws, whole, exact, strict=True):
        error = np.abs(decode(raw, Frame(32, channels)) - small) / (257 if channels == "gray16" else 1)
        assert (error.max() <= most, error.mean() <= mean) == (True, True)
        assert (decode(raw, Frame(450, channels)) == same).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(101, 64), (64, 101), (100, 64), (102, 65)])
def test_piece_by_piece_when_turned(size: tuple[int, int], orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(noise(0, *size), exif=exif)
    known = decode(raw, Frame(min(size)))
    monkeypatch.setattr(shown, "_LARGE", 1000)
    monkeypatch.setattr(shown, "_PIECE", 700)
    assert (decode(raw, Frame(min(size))) == known).all()


def test_a_large_camera_jpeg_is_read() -> None:
    image = Image.new("RGB", (8256, 5504), (200, 100, 50))  # 45 megapixels
    pixels = decode(encoded(image, "JPEG"), Frame(64))
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 4


# ---- the drawer of hostile images -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("channels", ["rgb", "gray", "gray16"])
@pytest.mark.parametrize("name", [*KINDS, *ODD])
def test_hostile_images(name: str, channels: Any) -> None:
    kind: Kind = {**KINDS, **ODD}[name]
    for seed in range(12) if kind.draw else ():
        raw = kind.draw(seed)  # type: ignore[misc]
        try:
            got = None
            assert decode(raw, Frame(12, channels)).shape == Frame(12, channels).shape
        except BadImage as error:
            got = error.cause
        assert got == kind.cause, seed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in bombs.BOMBS if name not in bombs.READABLE])
def test_bombs_are_refused(name: str) -> None:
    assert cause_of(bombs.BOMBS[name]()) == "too large"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "TIFF lzw"])
def test_whatever_is_damaged_no_other_error_comes(kind: str) -> None:
    name, _, lzw = kind.partition(" ")
    whole = encoded(noise(0, 40, 30), name, **({"compression": "tiff_lzw"} if lzw else {}))
    random = np.random.default_rng(0)
    causes = set()
    for _ in range(300):
        raw = bytearray(whole)
        for place in random.integers(
            0, len(raw) if random.random() < 0.3 else min(200, len(raw)), 1 + random.integers(4)
        ):
            raw[place] = random.integers(256)
        try:
            decode(bytes(raw), Frame(16))
        except BadImage as error:
            causes.add(error.cause)
    assert causes <= {"truncated", "broken", "too large", "not an image", "unknown colours", "unknown grey range"}


def test_room_for_one_large_image_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from raymix.data import decode as module

    raw = encoded(Image.new("RGB", (1100, 1000), (1, 2, 3)))  # 4.4 MB
    monkeypatch.setattr(module, "MAX_BYTES", 5_000_000)
    most: list[int] = []
    real = module.shown
    monkeypatch.setattr(module, "shown", lambda image, frame: (most.append(module._used), real(image, frame))[1])
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: decode(raw, Frame(8))[0, 0].tolist(), range(12)))
    assert done == [[1, 2, 3]] * 12
    assert set(most) == {4_400_000}
    assert module._used == 0


@pytest.mark.parametrize("kind", ["ICO", "JPEG2000", "PDF", "ICNS", "PPM"])
def test_other_kinds_of_images(kind: str) -> None:
    assert cause_of(encoded(drawn(width=64, height=64), kind)) == "not an image"


# ---- a region of it ---------------------------------------------------------------------------------------------


def quarters(width: int, height: int) -> Image.Image:
    """Four quarters of one colour each."""
    colours = np.array([[(200, 0, 0), (0, 200, 0)], [(0, 0, 200), (200, 200, 0)]], np.uint8)
    return Image.fromarray(colours.repeat(height // 2, 0).repeat(width // 2, 1))


def as_stored(upright: Image.Image, orientation: int) -> Image.Image:
    """What an image with this EXIF orientation looks like before it is turned."""
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    return upright if back is None else upright.transpose(Image.Transpose(back))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("large", [True, False])
def test_a_region_is_of_the_upright_image(
    kind: str, orientation: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small images are cut in memory, large ones piece by piece, and JPEGs are decoded smaller before."""
    monkeypatch.setattr(shown, "_LARGE", 1000 if large else 10**9)
    upright = quarters(360, 240)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(as_stored(upright, orientation), kind, exif=exif)
    for region, colour in (
        ((0.1, 0.1, 0.4, 0.4), (200, 0, 0)),
        ((0.6, 0.1, 0.9, 0.4), (0, 200, 0)),
        ((0.1, 0.6, 0.4, 0.9), (0, 0, 200)),
        ((0.6, 0.6, 0.9, 0.9), (200, 200, 0)),
    ):
        seen = decode(raw, Frame(12, region=region))
        assert np.abs(seen.astype(int) - colour).max() <= 12, (region, colour)


def test_a_region_is_that_part_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn(3, 40, 30)
    part = decode(encoded(image), Frame(15, region=(0.25, 0.1, 0.625, 0.6)))
    assert (part == np.asarray(image)[3:18, 10:25]).all()
    array = np.asarray(image)
    assert (decode(array, Frame(15, region=(0.25, 0.1, 0.625, 0.6))) == part).all()
    square = np.asarray(drawn(3, 16, 16))
    assert (decode(square, Frame(16)) == square).all()
    assert (decode(square, Frame(8, region=(0.5, 0.5, 1, 1))) == square[8:, 8:]).all()
    assert decode(encoded(drawn(0, 3, 3)), Frame(8, region=(0.99, 0.99, 1, 1))).shape == (8, 8, 3)
    monkeypatch.setattr(shown, "_LARGE", 1000)
    large = drawn(5, 240, 180)
    cut = decode(encoded(large.crop((24, 18, 228, 171))), Frame(16))
    assert (decode(encoded(large), Frame(16, region=(0.1, 0.1, 0.95, 0.95))) == cut).all()


def test_a_small_region_keeps_the_detail_of_a_large_jpeg() -> None:
    """A JPEG is decoded smaller only as far as the region, not the image, has pixels to spare."""
    fine = Image.fromarray((np.indices((1600, 1600)).sum(0) // 8 % 2 * 255).astype(np.uint8))
    seen = decode(encoded(fine, "JPEG", quality=95), Frame(64, "gray", (0.5, 0.5, 0.54, 0.54)))
    assert seen.std() > 100


def test_store_size_is_that_of_the_region() -> None:
    sample = [encoded(drawn(seed, 200, 100)) for seed in range(3)]
    asked = data({"format": "digits"}, image_size=64)
    assert store_size(asked, sample) == 74
    assert store_size(asked.model_copy(update={"region": (0.0, 0.0, 0.3, 1.0)}), sample) == 64
    turned = encoded(drawn(0, 200, 100), "JPEG", exif=bytes_of_orientation(6))
    assert store_size(asked.model_copy(update={"region": (0.0, 0.0, 1.0, 0.5)}), [turned]) == 74
    assert store_size(asked.model_copy(update={"region": (0.0, 0.0, 1.0, 0.5)}), sample) == 64


def bytes_of_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


# ---- tiles of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "array", "gray16"])
@pytest.mark.parametrize("region", [None, (0.125, 0.0, 1.0, 0.75)])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
@pytest.mark.parametrize("large", [True, False])
def test_each_tile_is_that_region_of_the_image(
    kind: str, region: Region | None, overlap: float, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "_LARGE", 1000 if large else 10**9)
    image, channels = drawn(1, 640, 416), "gray16" if kind == "gray16" else "rgb"
    raw = np.asarray(image) if kind == "array" else encoded(image, "JPEG" if kind == "JPEG" else "PNG")
    frame = Frame(20, channels, region, Tile(grid=(2, 4), overlap=overlap))
    tiles = decode(raw, frame)
    assert (tiles.shape, tiles.dtype) == (frame.shape, frame.dtype)
    assert frame.nbytes == tiles.nbytes
    assert len(frame.boxes) == len(tiles) == 8
    for tile, box in zip(tiles, frame.boxes, strict=True):
        assert (tile == decode(raw, Frame(20, channels, box))).all(), box


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiles_are_of_the_upright_image_row_by_row(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(as_stored(quarters(360, 240), orientation), exif=exif)
    tiles = decode(raw, Frame(12, tile=Tile(grid=(2, 2))))
    for tile, colour in zip(tiles, [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)], strict=True):
        assert (tile == colour).all(), colour


def test_tiles_meet_or_overlap_and_cover_the_region() -> None:
    boxes = Tile(grid=(1, 3)).boxes((0.25, 0.5, 1.0, 1.0))
    assert np.allclose(boxes, [[0.25, 0.5, 0.5, 1], [0.5, 0.5, 0.75, 1], [0.75, 0.5, 1, 1]])
    assert boxes[0][2] == boxes[1][0], "not a pixel between them"
    overlapping = np.array(Tile(grid=(1, 3), overlap=0.25).boxes(None))
    width = overlapping[:, 2] - overlapping[:, 0]
    assert np.allclose(width, 0.4)
    assert np.allclose(overlapping[:-1, 2] - overlapping[1:, 0], 0.25 * width[0])
    assert overlapping[0, 0] == 0
    assert overlapping[-1, 2] == pytest.approx(1)


def test_an_image_is_decoded_once_for_all_of_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large JPEG no larger than its tiles need."""
    sizes: list[tuple[int, int]] = []
    load = ImageFile.ImageFile.load

    def counted(image: ImageFile.ImageFile) -> Any:
        if not sizes or sizes[-1] != image.size:
            sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    raw = encoded(drawn(0, 1600, 1200), "JPEG")
    for size, decoded in ((16, (200, 150)), (32, (400, 300)), (100, (800, 600)), (200, (1600, 1200))):
        sizes.clear()
        decode(raw, Frame(size, tile=Tile(grid=(3, 4))))
        assert sizes == [decoded], "a tile has 400 pixels, and twice what is kept is enough"


def test_what_is_kept_of_a_tile_goes_by_the_tiles_side() -> None:
    large = [encoded(drawn(0, 400, 300))] * 3
    section = {"format": "digits"}
    assert store_size(data(section, image_size=80), large) == 92
    assert store_size(data(section, image_size=80, tile={"grid": [3, 4]}), large) == 92
    assert store_size(data(section, image_size=90, tile={"grid": [3, 4]}), large) == 90


def test_a_broken_image_counts_once_for_all_of_its_tiles() -> None:
    raws: list[RawImage | OSError] = [encoded(drawn(0)), b"no image", encoded(drawn(1))]
    pixels, good, bad = decode_many(raws, Frame(4, tile=Tile(grid=(2, 3))))
    assert pixels.shape == (2, 6, 4, 4, 3)
    assert good.tolist() == [True, False, True]
    assert bad == [(1, "not an image")]
