"""Augmentation: what stays, what changes and by how much; evaluation without any."""

from __future__ import annotations

import pytest
import torch
from models import batch_of, model_of, spec_of
from torch import Tensor

from raymix.method import draw
from raymix.method.views import Augment, Drawn
from raymix.spec import Augment as AugmentSpec

NUM = 2000


def keys(num: int = NUM) -> Tensor:
    rows_B = torch.arange(num)
    return draw.keys(0, torch.zeros_like(rows_B), rows_B)


def seen(augment: Augment, x_BSSC: Tensor, key_B: Tensor, view: int = 0) -> Tensor:
    """The augmented images on the scale of pixels again."""
    return augment(x_BSSC, key_B, view) * augment.std_C11 + augment.mean_C11


def ramp(axis: int, size: int = 32) -> Tensor:
    """Images whose pixels say where they stand: 4 a pixel along one axis."""
    values = torch.arange(size, dtype=torch.uint8) * 4
    shape = [1, size, 1, 1] if axis == 0 else [1, 1, size, 1]
    return values.view(shape).expand(NUM, size, size, 3).contiguous()


def test_the_whole_image_without_flip_is_the_image() -> None:
    x_BSSC = batch_of([0] * 50).x_BSSC
    augment = Augment(AugmentSpec(crop=(1, 1), flip=False), 8)
    torch.testing.assert_close(seen(augment, x_BSSC, keys(50)), x_BSSC.permute(0, 3, 1, 2).float(), rtol=0, atol=0.01)


def test_flip_mirrors_half_of_the_images() -> None:
    x_BSSC = batch_of([0] * 400).x_BSSC
    found = seen(Augment(AugmentSpec(crop=(1, 1)), 8), x_BSSC, keys(400))
    plain = x_BSSC.permute(0, 3, 1, 2).float()
    is_same = ((found - plain).abs() < 0.01).flatten(1).all(1)
    is_mirrored = ((found - plain.flip(3)).abs() < 0.01).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    assert 150 < int(is_mirrored.sum()) < 250


def extents(crop: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left and right, top and bottom of each crop as shares of the image, from what is seen at its edges."""
    size, augment = 32, Augment(AugmentSpec(crop=crop, flip=False), 32)
    found = []
    for axis in (1, 0):
        x_BHW = seen(augment, ramp(axis), keys())[:, 0]
        line_BS = x_BHW.mean(1 if axis else 2) / 4  # in pixels
        a, b = line_BS[:, 8], line_BS[:, 23]  # the edges themselves are clamped by the border
        width = (b - a) / 15
        middle = (a + b) / 2 + 0.5
        found += [(middle - 16 * width) / size, (middle + 16 * width) / size]
    return found[0], found[1], found[2], found[3]


@pytest.mark.parametrize("crop", [(0.25, 1.0), (0.08, 0.5), (0.9, 1.0), (0.5, 0.5)])
def test_crops_keep_the_area_asked_for(crop: tuple[float, float]) -> None:
    left, right, top, bottom = extents(crop)
    width, height = right - left, bottom - top
    area = width * height
    assert area.min() > crop[0] - 0.01
    assert area.max() < crop[1] + 0.01
    assert float(area.mean()) == pytest.approx(sum(crop) / 2, abs=0.02), "uniform"
    assert float(area.std()) == pytest.approx((crop[1] - crop[0]) / 12**0.5, abs=0.02)
    ratio = (width / height).log()
    assert ratio.abs().max() < 0.2877 + 0.03, "3/4 to 4/3"
    if crop[1] < 0.75:
        assert ratio.std() > 0.15, "and where there is room for it, all of these"


def test_crops_stay_inside_and_reach_every_edge() -> None:
    for low, high in (extents((0.25, 1.0))[:2], extents((0.25, 1.0))[2:]):
        assert low.min() > -0.01
        assert high.max() < 1.01
        assert low.min() < 0.02
        assert high.max() > 0.98
        assert abs(float((low + high).mean()) - 1) < 0.02, "no side is preferred"


def test_a_crop_is_scaled_to_the_size_that_the_backbone_sees() -> None:
    x_BSSC = torch.full((5, 74, 74, 3), 90, dtype=torch.uint8)
    found = Augment(AugmentSpec(), 64)(x_BSSC, keys(5))
    assert found.shape == (5, 3, 64, 64)
    torch.testing.assert_close(
        found, ((90 - Augment(AugmentSpec(), 64).mean_C11) / Augment(AugmentSpec(), 64).std_C11).expand_as(found)
    )


def test_color_jitter_stays_within_its_strength() -> None:
    plain = torch.full((NUM, 4, 4, 3), 100, dtype=torch.uint8)
    augment = Augment(AugmentSpec(crop=(1, 1), flip=False, color=0.4), 4)
    found = seen(augment, plain, keys())[:, 0, 0, 0]
    assert found.min() > 59.9
    assert found.max() < 140.1
    assert float(found.mean()) == pytest.approx(100, abs=2)
    assert found.std() > 15


def test_color_jitter_keeps_pixels_in_their_range() -> None:
    augment = Augment(AugmentSpec(color=1.0, grayscale=0.5), 8)
    found = seen(augment, batch_of([0] * 500).x_BSSC, keys(500))
    assert found.min() > -0.01
    assert found.max() < 255.01


def test_no_color_means_no_change_of_color() -> None:
    x_BSSC = batch_of([0] * 20).x_BSSC
    without, almost = (Augment(AugmentSpec(crop=(1, 1), flip=False, color=c), 8) for c in (0.0, 1e-9))
    torch.testing.assert_close(almost(x_BSSC, keys(20)), without(x_BSSC, keys(20)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_share_asked_for_turns_gray(share: float) -> None:
    augment = Augment(AugmentSpec(crop=(1, 1), grayscale=share), 8)
    found = seen(augment, batch_of([0] * 1000).x_BSSC, keys(1000))
    is_gray = ((found - found.mean(1, keepdim=True)).abs() < 0.01).flatten(1).all(1)
    assert float(is_gray.float().mean()) == pytest.approx(share, abs=0.04)


def test_views_of_one_row_are_drawn_apart() -> None:
    augment, x_BSSC = Augment(AugmentSpec(color=0.4), 8), batch_of([0] * 50).x_BSSC
    first, second = augment(x_BSSC, keys(50)), augment(x_BSSC, keys(50), draw.SECOND_VIEW)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- evaluation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 9, 10])
def test_classify_takes_the_centre_and_draws_nothing(size: int) -> None:
    model, batch = (
        model_of(spec_of(augment={"crop": [0.2, 0.4], "color": 1.0, "grayscale": 1.0})),
        batch_of([0] * 7, size=size),
    )
    before = torch.get_rng_state()
    logits = model.classify(batch.x_BSSC)
    assert torch.equal(torch.get_rng_state(), before)
    assert not logits.requires_grad
    edge = (size - 8) // 2
    centre = batch.x_BSSC[:, edge : edge + 8, edge : edge + 8].permute(0, 3, 1, 2).float()
    torch.testing.assert_close(logits, model.h(model.f(model.a.normalise(centre))))
    torch.testing.assert_close(model.classify(batch.x_BSSC[3:4]), logits[3:4], rtol=1e-4, atol=1e-5)


# ---- the backbone -----------------------------------------------------------------------------------------------


def test_the_backbone_computes_the_kept_patches_alone_and_in_any_order() -> None:
    model, batch = model_of(spec_of()), batch_of([0] * 3)
    x_BCHW = model.a.clean(batch.x_BSSC)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    torch.testing.assert_close(model.f(x_BCHW, order), model.f(x_BCHW)[:, order[0]], rtol=1e-4, atol=1e-4)
    few, changed = order[:, :5], x_BCHW.clone()
    for place in order[0, 5:].tolist():
        row, column = divmod(place, 4)
        changed[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 9.0
    assert torch.equal(model.f(x_BCHW, few), model.f(changed, few))


def test_no_draw_and_no_image_gives_what_is_not_finite() -> None:
    """Each number at 0, just below 1 or between; images of one colour, of grey and of noise."""
    spec = AugmentSpec(crop=(0.25, 1), color=0.4, hue=0.5, grayscale=0.2, blur=0.5, solarize=0.5, erase=0.5)
    augment, generator = Augment(spec, 32), torch.Generator().manual_seed(0)

    def drawn(num: int) -> Tensor:
        edge_BN = torch.rand(NUM, num, generator=generator)
        u_BN = torch.rand(NUM, num, generator=generator)
        return u_BN.masked_fill(edge_BN < 0.3, 0.0).masked_fill(edge_BN > 0.7, 1 - 2**-24)

    x_BSSC = torch.randint(0, 256, (NUM, 37, 37, 3), dtype=torch.uint8, generator=generator)
    x_BSSC[:400], x_BSSC[400:800], x_BSSC[800:1200] = 0, 255, x_BSSC[800:1200, :1, :1]
    x_BSSC[1200:1400, ..., 1:] = 0
    seen_BCHW = augment.change(x_BSSC, Drawn(drawn(5), drawn(6), drawn(3), drawn(5)))
    pixels_BCHW = seen_BCHW * augment.std_C11 + augment.mean_C11
    assert pixels_BCHW.min() > -0.01  # a comparison that NaN does not pass
    assert pixels_BCHW.max() < 255.01
