"""Every backbone of the table keeps the contract of `Backbone`."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from table import DROP, NO_GRID, TABLE, allowed, built, job
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raymix.method import backbones
from raymix.method.backbones import Backbone, How
from raymix.spec import JobError

pytestmark = pytest.mark.usefixtures("plugin")
ROWS = pytest.mark.parametrize("row", TABLE)
ROWS_THAT_DROP = pytest.mark.parametrize("row", DROP)
GRIDS = pytest.mark.parametrize("row", [row for row in TABLE if row not in NO_GRID])


def images(row: str, num: int = 3, seed: int = 0) -> Tensor:
    size = TABLE[row][0]
    return torch.randn(num, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pixels(f: Backbone, hidden_BL: Tensor, size: int) -> Tensor:
    """Which pixels lie in hidden patches, (B, 1, H, W)."""
    side = math.isqrt(f.num_patches)
    grid = hidden_BL.view(-1, 1, side, side).float()
    return nn.functional.interpolate(grid, size=(size, size), mode="nearest") > 0


@ROWS
def test_it_gives_tokens_of_the_shape_that_it_says(row: str) -> None:
    f, size = built(row), TABLE[row][0]
    assert f(images(row)).shape == (3, f.num_patches, f.width)
    assert f.drops == (row in DROP)
    assert f.num_patches * f.patch**2 == (0 if row in NO_GRID else size**2)


@ROWS
def test_its_outline_has_the_same_shapes(row: str) -> None:
    spec, f = job(row), built(row)
    state = torch.random.get_rng_state()
    outline = backbones.outline(spec, allowed(spec))
    assert torch.equal(torch.random.get_rng_state(), state), "what follows draws the same numbers"
    for name in ("width", "num_patches", "patch", "drops", "token_shape"):
        assert getattr(outline, name) == getattr(f, name)
    assert {n: p.shape for n, p in outline.named_parameters()} == {n: p.shape for n, p in f.named_parameters()}
    assert row == "import, stubborn" or all(p.is_meta for p in outline.parameters())


@ROWS
def test_the_seed_alone_decides_the_weights(row: str) -> None:
    spec = job(row)
    torch.manual_seed(0)
    again = backbones.build(spec, How(allowed(spec)))
    first = dict(built(row).named_parameters())
    assert all(torch.equal(value, first[name]) for name, value in again.named_parameters())


@ROWS
def test_a_pass_reaches_every_parameter_that_trains(row: str) -> None:
    """DDP waits for a gradient of each."""
    f = copy.deepcopy(built(row))
    f(images(row)).square().sum().backward()
    assert [name for name, p in f.named_parameters() if p.requires_grad and p.grad is None] == []
    idle = [name for name, p in f.named_parameters() if not p.requires_grad]
    assert idle == (["net.head.norm.weight", "net.head.norm.bias"] if row == "timm convnext" else [])


@ROWS_THAT_DROP
def test_kept_patches_are_those_of_the_whole_in_any_order(row: str) -> None:
    f, x = built(row), images(row)
    order_BL = torch.rand(3, f.num_patches).argsort(1)
    whole = f(x).gather(1, order_BL[:, :, None].expand(-1, -1, f.width))
    torch.testing.assert_close(f(x, order_BL), whole, rtol=1e-4, atol=1e-4)


@ROWS_THAT_DROP
def test_patches_that_are_not_kept_are_not_seen(row: str) -> None:
    f, x, size = copy.deepcopy(built(row)), images(row), TABLE[row][0]
    order_BL = torch.rand(3, f.num_patches).argsort(1)
    keep_BK, hide_BM = order_BL[:, : f.num_patches // 2], order_BL[:, f.num_patches // 2 :]
    hidden_BL = torch.zeros(3, f.num_patches, dtype=torch.bool).scatter(1, hide_BM, True)
    other = torch.where(pixels(f, hidden_BL, size), images(row, seed=1), x)
    z_BKD = f(x, keep_BK)
    assert z_BKD.shape == (3, keep_BK.shape[1], f.width)
    assert torch.equal(z_BKD, f(other, keep_BK))
    z_BKD.square().sum().backward()
    assert [name for name, p in f.named_parameters() if p.requires_grad and p.grad is None] == []


@GRIDS
def test_a_token_stands_for_hidden_patches(row: str) -> None:
    f, x, size = copy.deepcopy(built(row)).eval(), images(row), TABLE[row][0]
    hidden_BL = torch.arange(f.num_patches).expand(3, -1) % 2 == 0
    token = torch.full(f.token_shape, 0.5, requires_grad=True)
    z_BLD = f(x, hidden_BL=hidden_BL, token=token)
    assert z_BLD.shape == (3, f.num_patches, f.width)
    other = torch.where(pixels(f, hidden_BL, size), images(row, seed=1), x)
    torch.testing.assert_close(f(other, hidden_BL=hidden_BL, token=token), z_BLD)
    seen = torch.where(pixels(f, ~hidden_BL, size), images(row, seed=1), x)
    assert not torch.allclose(f(seen, hidden_BL=hidden_BL, token=token), z_BLD)
    none = torch.zeros_like(hidden_BL)
    torch.testing.assert_close(f(x, hidden_BL=none, token=token), f(x))
    z_BLD.square().sum().backward()
    assert token.grad is not None
    assert token.grad.any()
    assert [name for name, p in f.named_parameters() if p.requires_grad and p.grad is None] == []


@GRIDS
def test_tokens_stand_row_by_row_where_their_patches_are(row: str) -> None:
    """The token of a patch changes more than the mean of the others does, when the patch does."""
    f, x, size = copy.deepcopy(built(row)).eval(), images(row, 2), TABLE[row][0]
    for place in (1, f.num_patches - 2):
        hidden_BL = torch.arange(f.num_patches).expand(2, -1) == place
        other = torch.where(pixels(f, hidden_BL, size), x + 3, x)
        moved_L = (f(other) - f(x)).square().sum((0, 2))
        assert moved_L[place] > moved_L.mean(), f"{place}: {moved_L}"


@ROWS
def test_weights_travel_through_a_state_dict(row: str) -> None:
    f, other = built(row), copy.deepcopy(built(row, seed=1))
    x = images(row)
    assert row == "vit" or not torch.equal(other.eval()(x), copy.deepcopy(f).eval()(x))
    other.load_state_dict(f.state_dict())
    if row == "import, stubborn":
        return  # its scale is no part of its state
    assert torch.equal(other.eval()(x), copy.deepcopy(f).eval()(x))


@ROWS
def test_a_copy_is_a_model_of_its_own(row: str) -> None:
    """Averaged weights are such a copy."""
    f = built(row)
    other, x = copy.deepcopy(f), images(row)
    before = f(x)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.1)
    assert torch.equal(f(x), before)
    assert not torch.allclose(other(x), before)


@ROWS
def test_its_regions_are_called_one_by_one(row: str) -> None:
    f, called = copy.deepcopy(built(row)), []
    regions = f.regions()
    for number, region in enumerate(regions):
        region.register_forward_hook(lambda *_, number=number: called.append(number))
    f(images(row))
    assert called == list(range(len(regions)))
    assert row.startswith(("import", "plugin")) or len(regions) > 1
    parts = [id(part) for region in regions for part in region.modules()]
    assert len(set(parts)) == len(parts), "no region holds another"


@ROWS
def test_training_leaves_running_statistics_alone(row: str) -> None:
    f = copy.deepcopy(built(row)).train()
    layers = [layer for layer in f.modules() if isinstance(layer, _BatchNorm)]
    assert bool(layers) == (row in ("timm resnet18", "torchvision resnet18", "import, map"))
    f(images(row) + 5)
    for layer in layers:
        assert layer.running_mean is not None
        assert not layer.running_mean.any()


@pytest.mark.parametrize("row", ["timm resnet18", "timm vit", "torchvision resnet18", "torchvision vit", "plugin"])
def test_grey_images(row: str) -> None:
    size = TABLE[row][0]
    spec = job(row, data={"train": {"format": "digits"}, "image_size": size, "channels": "gray"})
    f = backbones.build(spec, How())
    assert f(torch.randn(2, 1, size, size)).shape == (2, f.num_patches, f.width)


# ---- weights to start from --------------------------------------------------------------------------------------

FILES = pytest.mark.parametrize("row", ["timm resnet18", "timm vit", "torchvision resnet18"])


def begun(row: str, tensors: dict[str, Tensor]) -> Backbone:
    """A backbone that takes what it can."""
    f, spec = copy.deepcopy(built(row)), job(row)
    f.load_state_dict(backbones.matched(spec, f, tensors, "w.safetensors").tensors, strict=False)
    return f


@FILES
def test_weights_of_a_file_are_taken_without_its_head(row: str) -> None:
    f = built(row, seed=1)
    head = {"fc.weight": torch.zeros(7, f.width), "head.weight": torch.zeros(7, f.width)}
    net = f.get_submodule("net").state_dict()
    loaded = begun(row, {**net, **head}).get_submodule("net").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in net.items())


@ROWS
def test_weights_go_by_names_of_raymix_as_well(row: str) -> None:
    own = built(row, seed=1).state_dict()
    head = {"h.linear.weight": torch.zeros(7, 7), "h.linear.bias": torch.zeros(7)}
    for tensors in (own, {**{f"f.{name}": value for name, value in own.items()}, **head}):
        loaded = begun(row, tensors).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in own.items())


@pytest.mark.parametrize("row", ["timm vit", "torchvision vit"])
def test_positions_of_a_vit_are_fitted_to_the_image(row: str) -> None:
    size, _ = TABLE[row]
    larger = job(row, data={"train": {"format": "digits"}, "image_size": 2 * size})
    net = backbones.build(larger, How()).get_submodule("net").state_dict()
    loaded = begun(row, {name: value for name, value in net.items() if "pos" in name}).get_submodule("net").state_dict()
    name = next(name for name in net if "pos" in name)
    assert loaded[name].shape[1] < net[name].shape[1]
    torch.testing.assert_close(loaded[name][:, 0], net[name][:, 0])


@FILES
def test_a_file_that_lacks_some_is_taken_in_part(row: str) -> None:
    net = built(row, seed=1).get_submodule("net").state_dict()
    first = next(name for name, value in net.items() if value.ndim == 4)
    loaded = begun(row, {first: net[first]}).get_submodule("net").state_dict()
    assert torch.equal(loaded[first], net[first])


def test_a_file_that_does_not_fit_is_refused() -> None:
    for row in ("timm resnet18", "torchvision resnet18", "vit"):
        with pytest.raises(JobError, match=r"^backbone.weights: nothing in .* is of this backbone: it holds model.x"):
            begun(row, {"model.x": torch.zeros(1)})
    with pytest.raises(JobError, match=r"^backbone.weights: conv1.weight is \(1,\) in .* and \(64, 3, 7, 7\) in the"):
        begun("timm resnet18", {"conv1.weight": torch.zeros(1)})
