"""Mixup and CutMix: lambda is of its Beta, images and labels are mixed by one share, and only labelled ones are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from models import batch_of, model_of, spec_of
from torch import Tensor

from raymix.method import draw, steps
from raymix.method.mixing import Mixing, Pair
from raymix.plan import Kind
from raymix.spec import Augment as AugmentSpec

NUM, SIZE = 400, 16
MIXES = [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}]


def keys(num: int = NUM, epoch: int = 0) -> Tensor:
    rows_B = torch.arange(num)
    return draw.keys(0, torch.full_like(rows_B, epoch), rows_B)


def images(num: int = NUM) -> Tensor:
    """Image b is b everywhere, so that a pixel tells where it comes from."""
    return torch.arange(num, dtype=torch.float32).view(-1, 1, 1, 1).expand(num, 3, SIZE, SIZE).contiguous()


def shares(found: Tensor) -> Tensor:
    """The partner's share of each pixel of what became of `images` (B, H, W)."""
    own = torch.arange(len(found)).view(-1, 1, 1)
    return (found[:, 0] - own) / (len(found) - 1 - 2 * own)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 3.0, 20.0])
def test_lambda_follows_its_beta_distribution(alpha: float) -> None:
    key_B = keys(20_000)
    y_B = torch.zeros(20_000, dtype=torch.int64)
    x_BCHW, pair = Mixing(AugmentSpec(mixup=alpha))(torch.zeros(20_000, 1, 1, 1), y_B, key_B)
    # not at the very ends: below 1e-7 a lambda is 0 in single precision
    at = np.linspace(1e-3, 1 - 1e-3, 999)
    found = (pair.own_B.numpy()[:, None] <= at).mean(0)
    worst = np.abs(found - scipy.stats.beta(alpha, alpha).cdf(at)).max()
    assert worst < 1.95 / 20_000**0.5 + 1e-3, "one in a thousand lies outside"
    assert pair.own_B.min() >= 0
    assert pair.own_B.max() <= 1
    assert not x_BCHW.any()


@pytest.mark.parametrize("options", MIXES)
def test_pixels_and_labels_are_mixed_by_the_same_share(options: dict[str, Any]) -> None:
    y_B = torch.arange(NUM)
    found, pair = Mixing(AugmentSpec(**options))(images(), y_B, keys())
    assert torch.equal(pair.label_B, y_B.flip(0))
    share_BHW = shares(found)
    torch.testing.assert_close(1 - share_BHW.mean((1, 2)), pair.own_B, rtol=0, atol=1e-3)
    is_cut_B = ((share_BHW < 1e-4) | (share_BHW > 1 - 1e-4)).flatten(1).all(1)
    is_plain_B = (share_BHW.flatten(1).amax(1) - share_BHW.flatten(1).amin(1)) < 1e-3
    assert (is_cut_B | is_plain_B).all()
    if "cutmix" not in options:
        assert is_plain_B.all()
    elif "mixup" not in options:
        assert is_cut_B.all()
    else:
        assert 0.35 < float((~is_plain_B).float().mean()) < 0.55, "half of them, less those whose box is empty"


def test_boxes_are_those_of_the_paper() -> None:
    """A box of 1 - lambda of the area around a point anywhere, cut off at the edges."""
    y_B, key_B = torch.arange(NUM), keys()
    found, _ = Mixing(AugmentSpec(cutmix=1.0))(images(), y_B, key_B)
    u_B4 = draw.uniform(key_B, draw.MIX, 4).double()
    share_BHW = shares(found).round()
    for b in range(NUM):
        lam = u_B4[b, 0].item()  # Beta(1, 1) is uniform
        half = int(0.5 * np.sqrt(1 - lam) * SIZE + 1e-4)
        row, column = int(u_B4[b, 2] * SIZE), int(u_B4[b, 3] * SIZE)
        expected = torch.zeros(SIZE, SIZE)
        expected[max(0, row - half) : row + half, max(0, column - half) : column + half] = 1
        assert torch.equal(share_BHW[b], expected)


@pytest.mark.parametrize("options", MIXES)
def test_rows_without_a_label_stay_as_they_are(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    y_B = torch.randint(-1, 4, (NUM,), generator=generator)
    x_BCHW = torch.rand(NUM, 3, SIZE, SIZE, generator=generator)
    found, pair = Mixing(AugmentSpec(**options))(x_BCHW, y_B, keys())
    alone_B = (y_B < 0) | (y_B.flip(0) < 0)
    assert torch.equal(found[alone_B], x_BCHW[alone_B])
    assert (pair.own_B[alone_B] == 1).all()
    assert (pair.own_B[~alone_B] < 1).float().mean() > 0.8


@pytest.mark.parametrize("options", MIXES)
def test_lambda_is_a_function_of_the_key_alone(options: dict[str, Any]) -> None:
    mixing, y_B = Mixing(AugmentSpec(**options)), torch.zeros(NUM, dtype=torch.int64)
    own_B = mixing(images(), y_B, keys())[1].own_B
    order = torch.randperm(NUM, generator=torch.Generator().manual_seed(0))[:99]
    assert torch.equal(mixing(images(99), y_B[:99], keys()[order])[1].own_B, own_B[order])
    assert not torch.equal(mixing(images(), y_B, keys(epoch=1))[1].own_B, own_B)


# ---- in the steps -----------------------------------------------------------------------------------------------


def ce(logits: Tensor, label: int, smoothing: float) -> Tensor:
    logs = logits - torch.log(torch.exp(logits).sum())
    return -(1 - smoothing) * logs[label] - smoothing * logs.mean()


@pytest.mark.parametrize("labels", [[0, 2, 3, 1, 0, 4], [0, -1, 3, 1, 2, 4, 1], [-1, -1, 3, -1, 0, -1]])
@pytest.mark.parametrize("kind", ["sl", "sl_drop", "mix"])
def test_the_loss_is_that_of_both_labels(kind: Kind, labels: list[int]) -> None:
    """lambda CE(y) + (1 - lambda) CE(y'), smoothed, its mean over the labelled rows."""
    spec = spec_of("mae", "separate", augment={"crop": [0.6, 1], "mixup": 0.5, "cutmix": 1.0})
    model, batch = model_of(spec), batch_of(labels)
    assert model.mixing is not None
    keep = None
    x_BCHW = model.a(batch.x_BSSC, batch.key_B)
    if kind == "sl_drop":
        view = model.g.view(batch.x_BSSC, batch.key_B, "mix")
        x_BCHW, keep = view.x_BCHW, view.keep_BK
    x_BCHW, pair = model.mixing(x_BCHW, batch.y_B, batch.key_B)
    logits = model.h(model.f(x_BCHW, keep))
    smoothing, losses = spec.optim.label_smoothing, []
    for row, y, other, own in zip(logits, labels, labels[::-1], pair.own_B, strict=True):
        if y >= 0:
            losses.append(ce(row, y, smoothing))
            if other >= 0:
                losses[-1] = own * losses[-1] + (1 - own) * ce(row, other, smoothing)
    L, (_, sl, hits) = steps.build(spec, model, kind)(batch, torch.tensor(0.0))
    torch.testing.assert_close(sl, torch.stack(losses).mean())
    torch.testing.assert_close(L, sl)
    assert hits == (logits.argmax(1) == batch.y_B).sum(), "against the image's own label"


def test_a_batch_without_labels_gives_zero_gradients() -> None:
    spec = spec_of("mae", augment={"mixup": 0.5, "cutmix": 1.0})
    model = model_of(spec)
    L, _ = steps.build(spec, model, "sl")(batch_of([-1] * 6), torch.tensor(0.5))
    L.backward()
    for parameter in model.h.parameters():
        assert parameter.grad is not None, "DDP waits for it"
        assert not parameter.grad.any()


@pytest.mark.parametrize(("objective", "shared_pass"), [("mae", "masked"), ("mae", "full"), ("simclr", "full")])
def test_a_shared_pass_is_not_mixed(objective: str, shared_pass: str) -> None:
    found = []
    for options in ({}, {"mixup": 0.5, "cutmix": 1.0}):
        spec = spec_of(objective, shared_pass, augment={"crop": [0.6, 1], **options})
        found.append(steps.build(spec, model_of(spec), "mix")(batch_of([0, 1, 2, 3]), torch.tensor(0.5))[0])
    assert torch.equal(*found)


@pytest.mark.parametrize("shared_pass", ["masked", "full"])
def test_a_shared_pass_is_mixed_for_both_losses_where_the_job_says_so(shared_pass: str) -> None:
    augment = {"crop": [0.6, 1], "mixup": 0.5, "cutmix": 1.0, "mix_shared": True}
    spec = spec_of("mae", shared_pass, augment=augment)
    model, labels = model_of(spec), [0, -1, 3, 1, 2, 4]
    batch, w = batch_of(labels), torch.tensor(0.3)
    assert model.mixing is not None
    plain = model.g.view(batch.x_BSSC, batch.key_B, "mix")
    x_BCHW, pair = model.mixing(plain.x_BCHW, batch.y_B, batch.key_B)
    assert not torch.equal(x_BCHW, plain.x_BCHW)
    view = plain._replace(x_BCHW=x_BCHW)
    z, _ = steps.look(model.f, view, model.m)
    sl = steps.CrossEntropy(spec.optim.label_smoothing)(model.h(z), batch.y_B, batch.scale, pair)
    L, (ssl, found, _) = steps.build(spec, model, "mix")(batch, w)
    torch.testing.assert_close(found, sl.detach())
    torch.testing.assert_close(ssl, model.g(z, view).detach())
    torch.testing.assert_close(L, w * ssl + (1 - w) * found)


@pytest.mark.parametrize("schedule", [{"shared_pass": "separate"}, {"whole_rows": 0.5}])
def test_the_ssl_side_of_two_passes_is_not_mixed(schedule: dict[str, Any]) -> None:
    found = []
    for options in ({}, {"mixup": 0.5}):
        spec = spec_of("mae", augment={"crop": [0.6, 1], **options}, schedule=schedule)
        found.append(steps.build(spec, model_of(spec), "mix")(batch_of([0, 1, 2, 3]), torch.tensor(0.5))[1])
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_nothing_of_it_is_trained_or_saved() -> None:
    spec, plain = spec_of(augment={"mixup": 0.5}), spec_of()
    assert model_of(spec).state_dict().keys() == model_of(plain).state_dict().keys()


@pytest.mark.parametrize("options", [*MIXES, {"mixup": 0.01}, {"cutmix": 0.01}])
def test_shares_at_the_ends_of_their_range_are_shares(options: dict[str, Any]) -> None:
    """A root of what rounding had left below 0 would be NaN, and so would be every weight after one step."""
    mixing = Mixing(AugmentSpec(**options))
    ends = torch.tensor([0.0, 2**-24, 0.5, 1 - 2**-23, 1 - 2**-24])
    u_B4 = torch.cartesian_prod(ends, ends, ends, ends)
    other = mixing._other(u_B4, SIZE, SIZE)
    assert other.min() >= 0
    assert other.max() <= 1
    logits = (torch.randn(len(u_B4), 7) * 1e4).requires_grad_()
    y_B, own_B = torch.arange(len(u_B4)) % 8 - 1, 1 - other.mean((1, 2, 3))
    loss = steps.CrossEntropy(0.1)(logits, y_B, torch.tensor(0.01), Pair(y_B.flip(0), own_B))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
