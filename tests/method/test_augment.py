"""Every augmentation: drawn from the row's key alone, on the share of images asked for, and as torchvision does it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from models import batch_of
from torch import Tensor

from raymix.method import color, draw, filters
from raymix.method.mixing import Mixing
from raymix.method.views import Augment, pixels
from raymix.spec import Augment as AugmentSpec

NUM, SIZE = 1000, 24
# name -> options, and the share of images that they change
TABLE: dict[str, tuple[dict[str, Any], float]] = {
    "color": ({"color": 0.5}, 1.0),
    "color_share": ({"color": 0.5, "color_share": 0.3}, 0.3),
    "hue": ({"hue": 0.3}, 1.0),
    "hue_share": ({"hue": 0.3, "color_share": 0.6}, 0.6),
    "grayscale": ({"grayscale": 0.2}, 0.2),
    "blur": ({"blur": 0.4}, 0.4 * 0.93),  # below a sigma of 0.23 nothing is seen of it
    "blur_all": ({"blur": 1.0}, 0.93),
    "solarize": ({"solarize": 0.3}, 0.3),
    "erase": ({"erase": 0.25}, 0.25),
    "erase_all": ({"erase": 1.0}, 1.0),
}
EVERYTHING: dict[str, Any] = {
    "color": 0.4,
    "hue": 0.1,
    "color_share": 0.8,
    "grayscale": 0.2,
    "blur": 0.5,
    "solarize": 0.3,
    "erase": 0.5,
}


def keys(num: int = NUM, epoch: int = 0) -> Tensor:
    rows_B = torch.arange(num)
    return draw.keys(0, torch.full_like(rows_B, epoch), rows_B)


def augment_of(size: int = SIZE, **options: Any) -> Augment:
    return Augment(AugmentSpec(**{"crop": (1, 1), "flip": False, **options}), size)


def noise(num: int = NUM, size: int = SIZE) -> Tensor:
    return batch_of([0] * num, size=size).x_BSSC


def change(augment: Augment, x_BSSC: Tensor, key_B: Tensor) -> Tensor:
    """The largest change of a pixel of each image, on the scale of 0..255."""
    plain = augment_of()(x_BSSC, key_B)
    return ((augment(x_BSSC, key_B) - plain) * augment.std_C11).abs().flatten(1).amax(1)


# ---- the contract -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_the_share_asked_for_is_changed_and_the_rest_is_not(name: str) -> None:
    options, share = TABLE[name]
    found_B = change(augment_of(**options), noise(), keys())
    tolerance = 5 * math.sqrt(share * (1 - share) / NUM) + 0.03
    assert float((found_B > 0.1).float().mean()) == pytest.approx(share, abs=tolerance)
    if not options.keys() & {"hue", "color", "grayscale"}:
        assert ((found_B > 0.1) | (found_B < 0.1)).all()
        unseen = 0.08 if "blur" in options else 0.0
        assert float(((found_B > 0) & (found_B < 0.1)).float().mean()) <= unseen, "to the bit"
    else:
        assert float(((found_B > 2e-3) & (found_B < 0.1)).float().mean()) < 0.01


@pytest.mark.parametrize("options", [*(options for options, _ in TABLE.values()), EVERYTHING], ids=[*TABLE, "all"])
def test_a_view_is_a_function_of_the_key_alone(options: dict[str, Any]) -> None:
    """The same again, to the bit; and in any other batch and place, but for the last bits of a sum."""
    augment, x_BSSC, key_B = augment_of(crop=(0.3, 1), flip=True, **options), noise(60), keys(60)
    whole = augment(x_BSSC, key_B)
    assert torch.equal(whole, augment(x_BSSC, key_B))
    for order in ([7], [59, 0, 31], list(range(59, -1, -1))):
        torch.testing.assert_close(augment(x_BSSC[order], key_B[order]), whole[order], rtol=0, atol=1e-4)
    steps = draw.Keys(torch.stack((keys(60, epoch=1), key_B)))
    assert torch.equal(augment(x_BSSC, list(steps)[1]), whole), "and however the numbers are drawn"
    for other in (augment(x_BSSC, keys(60, epoch=1)), augment(x_BSSC, key_B, draw.SECOND_VIEW)):
        assert not any(torch.equal(a, b) for a, b in zip(whole, other, strict=True))


def test_options_do_not_move_each_others_draws() -> None:
    """With blur switched on, the crop and the colours of every image stay what they were."""
    few, more = {"crop": (0.3, 1), "color": 0.4}, {"blur": 0.5, "solarize": 0.3, "erase": 0.5, "hue": 1e-9}
    x_BSSC, key_B = noise(200), keys(200)
    difference = augment_of(**few)(x_BSSC, key_B) - augment_of(**few, **more)(x_BSSC, key_B)
    is_same_B = (difference.abs() < 1e-4).flatten(1).all(1)
    assert float(is_same_B.float().mean()) == pytest.approx(0.5 * 0.7 * 0.5, abs=0.12)


def test_all_at_once_compiles_whole() -> None:
    """Neither a branch on data nor a wait for the device: the graph has no break."""
    augment = augment_of(crop=(0.3, 1), flip=True, **EVERYTHING)
    mixing = Mixing(AugmentSpec(mixup=0.2, cutmix=1.0))
    labels = torch.arange(8) - 2

    def both(x_BSSC: Tensor, key_B: Tensor) -> tuple[Tensor, Tensor]:
        x_BCHW, pair = mixing(augment(x_BSSC, key_B), labels, key_B)
        return x_BCHW, pair.own_B

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(noise(8), keys(8)), both(noise(8), keys(8)), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.bench
def test_all_at_once_compiles_to_kernels() -> None:
    augment = augment_of(crop=(0.3, 1), flip=True, **EVERYTHING)
    compiled = torch.compile(augment, fullgraph=True)
    torch.testing.assert_close(compiled(noise(8), keys(8)), augment(noise(8), keys(8)), rtol=0, atol=1e-3)


@pytest.mark.gpu
def test_all_at_once_replays_in_a_cuda_graph() -> None:
    """A captured step sees the keys of each replay, and a replay gives what the step alone would."""
    device = torch.device("cuda")
    augment = augment_of(crop=(0.3, 1), flip=True, **EVERYTHING).to(device)
    mixing = Mixing(AugmentSpec(mixup=0.2, cutmix=1.0)).to(device)
    x_BSSC, key_B, labels = noise(64).to(device), keys(64).to(device), torch.arange(64, device=device) - 9

    def both() -> tuple[Tensor, Tensor]:
        x_BCHW, pair = mixing(augment(x_BSSC, key_B), labels, key_B)
        return x_BCHW, pair.own_B

    with torch.cuda.stream(torch.cuda.Stream()), torch.autocast("cuda", torch.bfloat16):
        for _ in range(3):
            both()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = both()
        for epoch in (1, 2):
            key_B.copy_(keys(64, epoch))
            graph.replay()
            for replayed, expected in zip(found, both(), strict=True):
                assert torch.equal(replayed, expected)


@pytest.mark.parametrize("size", [4, 24, 48])
def test_nothing_is_rounded_under_autocast(size: int) -> None:
    """bf16 holds pixels to 1/256 only, and places a crop as coarsely."""
    augment, x_BSSC = augment_of(size, **{**EVERYTHING, "crop": (0.3, 1)}), noise(16, size)
    plain = augment(x_BSSC, keys(16))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(x_BSSC, keys(16)), plain)
    assert plain.isfinite().all()


# ---- against torchvision, with the same parameters --------------------------------------------------------------


def images(num: int = 24, size: int = 32) -> Tensor:
    """Noise, ramps and plain grey, pixels of 0..255 (B, C, H, W)."""
    x_BCHW = pixels(noise(num, size)).contiguous()
    x_BCHW[: num // 3] = (torch.linspace(0, 255, size) * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)).round()
    x_BCHW[-1] = 100
    return x_BCHW


def per_image(function: Any, x_BCHW: Tensor, values: Tensor) -> Tensor:
    """torchvision's function on images of 0..1, a value for each."""
    return torch.stack([function(x / 255, float(value)) * 255 for x, value in zip(x_BCHW, values, strict=True)])


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_jitter_is_that_of_torchvision(kind: str) -> None:
    x_BCHW, factor_B = images(), torch.linspace(0, 2, 24)
    one_B = torch.ones(24)
    factors = [factor_B if kind == k else one_B for k in ("brightness", "contrast", "saturation")]
    expected = per_image(getattr(tv, f"adjust_{kind}"), x_BCHW, factor_B)
    torch.testing.assert_close(color.jitter(x_BCHW, *factors), expected, rtol=0, atol=0.06)  # luma's third digit


def test_hue_is_that_of_torchvision() -> None:
    x_BCHW, turns_B = images(), torch.linspace(-0.5, 0.5, 24)
    found = color.turn_hue(x_BCHW, turns_B)
    torch.testing.assert_close(found, per_image(tv.adjust_hue, x_BCHW, turns_B), rtol=0, atol=0.02)
    torch.testing.assert_close(color.turn_hue(found, -turns_B), x_BCHW, rtol=0, atol=0.01)
    assert torch.equal(found[-1], x_BCHW[-1]), "grey has no hue"


def test_solarize_is_that_of_torchvision() -> None:
    x_BCHW, is_B = images(), torch.arange(24) % 2 == 0
    found = color.solarize(x_BCHW, is_B)
    assert torch.equal(found[is_B], tv.solarize(x_BCHW.to(torch.uint8), 128).float()[is_B])
    assert torch.equal(found[~is_B], x_BCHW[~is_B])


@pytest.mark.parametrize(("size", "reach"), [(8, 1), (32, 1), (64, 3), (100, 5)])
def test_blur_is_that_of_torchvision(size: int, reach: int) -> None:
    x_BCHW, sigma_B = images(12, size), torch.linspace(0.1, 2, 12)
    assert filters.radius(size) == reach
    found = filters.blur(x_BCHW, sigma_B, reach)
    expected = [tv.gaussian_blur(x, [2 * reach + 1] * 2, [float(s)] * 2) for x, s in zip(x_BCHW, sigma_B, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=0.01)
    assert torch.equal(filters.blur(x_BCHW, torch.zeros(12), reach), x_BCHW)


def test_sigma_grows_with_images_above_224_pixels() -> None:
    u_B = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(filters.sigma(64, u_B), torch.tensor([0.1, 1.05, 2.0]))
    torch.testing.assert_close(filters.sigma(448, u_B), torch.tensor([0.2, 2.1, 4.0]))
    assert filters.radius(224) == 6
    assert filters.radius(448) == 12, "three deviations"


def test_erase_is_that_of_torchvision() -> None:
    """Which pixels are erased: those of torchvision's erase with the box that was drawn."""
    x_BSSC, key_B = noise(40), keys(40)
    box = filters.erased(draw.uniform(key_B, draw.ERASE, 5)[:, 1:], SIZE)
    plain, found = augment_of()(x_BSSC, key_B), augment_of(erase=1.0)(x_BSSC, key_B)
    for x, seen, top, left, bottom, right in zip(plain, found, *(edge.int().tolist() for edge in box), strict=True):
        expected = tv.erase(x, top, left, bottom - top, right - left, torch.zeros(1, 1, 1))
        assert torch.equal(seen, expected)


@pytest.mark.parametrize("size", [4, 64, 224])
def test_erased_rectangles_have_the_areas_and_shapes_of_the_paper(size: int) -> None:
    top, left, bottom, right = filters.erased(torch.rand(4000, 4, generator=torch.Generator().manual_seed(0)), size)
    assert min(top.min(), left.min()) == 0
    assert max(bottom.max(), right.max()) == size
    height, width = (bottom - top) / size, (right - left) / size
    assert min(height.min(), width.min()) > 0
    if size == 4:
        return  # too few pixels for more
    area, ratio = height * width, (height / width).log()
    assert area.min() > 0.02 - 2 / size
    assert area.max() < 0.33 + 2 / size
    assert float(area.mean()) == pytest.approx(0.175, abs=0.01), "uniform"
    assert ratio.min() > math.log(0.3) - 0.3
    assert ratio.max() < math.log(3.3) + 0.3
    assert float((left + right).mean() / 2) == pytest.approx(size / 2, abs=size / 40), "anywhere"


# ---- one channel, and 16 bits -----------------------------------------------------------------------------------


def test_16_bits_keep_what_they_hold() -> None:
    values = torch.tensor([0, 1, 257, 32767, 32768, 65534, 65535])
    bits = values.to(torch.uint16).view(torch.int16).view(1, 7, 1, 1).expand(1, 7, 7, 1)
    found = pixels(bits)
    assert found.shape == (1, 1, 7, 7)
    torch.testing.assert_close(found[0, 0, :, 0], values / 257, rtol=1e-7, atol=0)
    assert found.max() == 255
    grey = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    same = (grey.to(torch.int32) * 257).to(torch.uint16).view(torch.int16)
    assert torch.equal(pixels(same), pixels(grey)), "8 bits in 16 are the same picture"


@pytest.mark.parametrize("channels", ["gray", "gray16"])
def test_grey_images_are_augmented_in_brightness_and_contrast(channels: str) -> None:
    options = {"color": 0.5, "blur": 0.5, "solarize": 0.3, "erase": 0.5}
    augment = Augment(AugmentSpec(**options), SIZE, num_channels=1)
    batch = batch_of([0] * 50, size=SIZE + 4, channels=channels)
    found = augment(batch.x_BSSC, batch.key_B)
    assert found.shape == (50, 1, SIZE, SIZE)
    torch.testing.assert_close(augment.mean_C11.flatten(), torch.tensor([(123.675 + 116.28 + 103.53) / 3]))
    torch.testing.assert_close(augment.std_C11.flatten(), torch.tensor([(58.395 + 57.12 + 57.375) / 3]))
    seen = found * augment.std_C11 + augment.mean_C11
    assert seen.min() > -0.01
    assert seen.max() < 255.01
    centre = pixels(batch.x_BSSC)[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(augment.clean(batch.x_BSSC), augment.normalise(centre))


def test_a_grey_image_is_jittered_as_the_same_image_in_three_channels() -> None:
    x_BCHW = images()[:, :1]
    factor_B = torch.linspace(0.2, 1.8, 24)
    three = color.jitter(x_BCHW.expand(-1, 3, -1, -1), factor_B, factor_B.flip(0), factor_B)
    torch.testing.assert_close(color.jitter(x_BCHW, factor_B, factor_B.flip(0), factor_B), three[:, :1])
