"""Stochastic depth: which rows skip what, that it is drawn from their keys alone, and what a step computes then."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from models import batch_of, model_of, spec_of
from table import built
from torch import Tensor

from raymix.method import draw, steps
from raymix.method.backbones import Layered
from raymix.method.backbones.vit import Block, Vit
from raymix.plan import Kind

VITS = pytest.mark.parametrize("row", ["vit", "timm vit", "timm deit, distilled", "torchvision vit"])


def skipping(row: str, rate: float = 0.6) -> Layered:
    f = copy.deepcopy(built(row))
    assert isinstance(f, Layered)
    f.drop_path = rate
    return f


def keys(num: int, epoch: int = 0) -> Tensor:
    return draw.keys(3, torch.full((num,), epoch), torch.arange(num))


def images(f: Layered, num: int) -> Tensor:
    side = int(f.num_patches**0.5) * f.patch
    return torch.randn(num, 3, side, side, generator=torch.Generator().manual_seed(0))


@VITS
def test_a_row_skips_by_its_key_alone(row: str) -> None:
    """In whatever batch it stands, and not at all without a key."""
    f, num = skipping(row), 6
    x, key = images(f, num), keys(num)
    whole, plain = f(x, key_B=key), built(row)(x)
    torch.testing.assert_close(f(x), plain, rtol=0, atol=0)
    torch.testing.assert_close(f(x[2:], key_B=key[2:]), whole[2:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, plain, atol=1e-2)
    assert not torch.allclose(f(x, key_B=keys(num, epoch=1)), whole, atol=1e-2)


@VITS
def test_tokens_from_within_skip_the_same(row: str) -> None:
    f, num = skipping(row), 4
    x, key = images(f, num), keys(num)
    for keep_BK in (None, torch.tensor([[3, 0]]).expand(num, -1)):
        tap, last = f.tapped(1, True, x, keep_BK, key_B=key)
        assert last is not None
        torch.testing.assert_close(last, f(x, keep_BK, key_B=key))
        torch.testing.assert_close(tap, f.tapped(1, False, x, keep_BK, key_B=key)[0])


def test_skipping_grows_linearly_over_the_blocks_and_keeps_the_mean() -> None:
    f = skipping("vit")
    paths_NB = f.paths(keys(20_000), 20_000, branches=2)
    assert paths_NB is not None
    asked = torch.linspace(0, 0.6, f.num_blocks).repeat_interleave(2)
    torch.testing.assert_close((paths_NB == 0).float().mean(1), asked, rtol=0, atol=0.02)
    torch.testing.assert_close(paths_NB.mean(1), torch.ones(2 * f.num_blocks), rtol=0, atol=0.04)
    assert len(torch.unique(paths_NB[-2:], dim=1).T) == 4, "the branches of a block are skipped by themselves"


@VITS
def test_depths_count_the_blocks(row: str) -> None:
    f = built(row)
    assert isinstance(f, Layered)
    depths = f.depths()
    assert len(depths) == len(list(f.parameters()))
    for number, block in enumerate(f.regions(), 1):
        assert {depths[p] for p in block.parameters()} == {number}
    inside = {id(p) for block in f.regions() for p in block.parameters()}
    assert {depth for p, depth in depths.items() if id(p) not in inside} == {0, f.num_blocks + 1}


def test_two_views_of_an_image_skip_apart() -> None:
    f, key = skipping("vit"), keys(500)
    twice_NB, once_NB = f.paths(key, 1000, branches=1), f.paths(key, 500, branches=1)
    assert twice_NB is not None
    assert once_NB is not None
    assert torch.equal(twice_NB[:, :500], once_NB)
    assert 0.3 < (twice_NB[-1, 500:] == once_NB[-1]).float().mean() < 0.7


def by_hand(f: Vit, x_CHW: Tensor, factors: list[float]) -> Tensor:
    """z + s * attention, z + s' * perceptron, block by block, of one image."""
    position_1LD, z_1LD = f.enter(x_CHW[None], None, None, None)
    z_1LD = z_1LD + position_1LD
    for number, block in enumerate(f.blocks):
        assert isinstance(block, Block)
        q, k, v = block.qkv(block.norm1(z_1LD)).view(1, f.num_patches, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z_1LD = z_1LD + factors[2 * number] * block.out(attended)
        z_1LD = z_1LD + factors[2 * number + 1] * block.down(F.gelu(block.up(block.norm2(z_1LD))))
    return f.norm(z_1LD)


def test_the_vit_computes_the_formula() -> None:
    f, key = skipping("vit"), keys(5)
    assert isinstance(f, Vit)
    x, paths_NB = images(f, 5), f.paths(key, 5, branches=2)
    assert paths_NB is not None
    expected = torch.cat([by_hand(f, x_CHW, paths_NB[:, b].tolist()) for b, x_CHW in enumerate(x)])
    torch.testing.assert_close(f(x, key_B=key), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["mae", "simclr"])
@pytest.mark.parametrize("kind", ["ssl", "mix", "sl"])
def test_steps_skip_and_evaluation_does_not(objective: str, kind: Kind) -> None:
    backbone = {"size": "nano", "patch": 2}
    plain, asked = (spec_of(objective, backbone={**backbone, "drop_path": rate}) for rate in (0.0, 0.6))
    batch, losses = batch_of([0, -1, 3, 1, -1, 4]), []
    for spec in (plain, asked, asked):
        loss, _ = steps.build(spec, model_of(spec), kind)(batch, torch.tensor(0.3))
        losses.append(loss)
    assert torch.equal(losses[1], losses[2])
    assert not torch.allclose(losses[0], losses[1])
    assert torch.equal(model_of(plain).classify(batch.x_BSSC), model_of(asked).classify(batch.x_BSSC))
