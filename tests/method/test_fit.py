"""Objective, backbone and schedule: every pair works, or is refused before anything starts."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from models import batch_of
from table import DROP, NO_GRID, TABLE, allowed, built, job

from raymix.method import fit, steps
from raymix.method.backbones import How
from raymix.method.steps import Model
from raymix.plan import Kind
from raymix.spec import JobError, JobSpec

pytestmark = pytest.mark.usefixtures("plugin")
MAE = {"type": "mae", "mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1}
SIMCLR = {"type": "simclr", "projector_width": 24, "output_width": 8}
ALL_PASSES = ("timm vit", "import, map", "import, vector", "plugin")  # of the others, some: they take longer to make
KINDS: tuple[Kind, ...] = ("ssl", "mix", "sl", "sl_drop")


def refusal(row: str, objective: str, ssl_pass: str, shared_pass: str, drop: float) -> str | None:
    """The field that stands in the way, as the rules have it; None: nothing does."""
    if objective == "mae" and row in NO_GRID:
        return "objective.type"
    if row in DROP:
        return None
    if ssl_pass == "masked":
        return "objective.ssl_pass"
    if shared_pass == "masked":
        return "schedule.shared_pass"
    return "schedule.sl_drop" if drop else None


def asked(row: str, objective: str, ssl_pass: str = "auto", shared_pass: str = "auto", drop: float = 0.0) -> JobSpec:
    section = {**MAE, "ssl_pass": ssl_pass} if objective == "mae" else SIMCLR
    return job(row, objective=section, schedule={"shared_pass": shared_pass, "sl_drop": drop})


@pytest.mark.parametrize("row", TABLE)
def test_each_pair_is_refused_or_not(row: str) -> None:
    passes = [
        *itertools.product(["mae"], ["auto", "masked", "full"], ["auto", "masked", "full", "separate"], [0.0, 0.5]),
        *itertools.product(["simclr"], ["auto"], ["auto", "full", "separate"], [0.0]),
    ]
    for objective, ssl_pass, shared_pass, drop in passes if row in ALL_PASSES else passes[::5]:
        spec = asked(row, objective, ssl_pass, shared_pass, drop)
        expected = refusal(row, objective, ssl_pass, shared_pass, drop)
        if expected is None:
            assert fit.check(spec, allowed(spec)) == (row in DROP)
            continue
        with pytest.raises(JobError) as caught:
            fit.check(spec, allowed(spec))
        assert caught.value.field == expected, f"{objective} {ssl_pass} {shared_pass} {drop}"
        assert caught.value.hint


@pytest.mark.parametrize("objective", ["mae", "simclr"])
@pytest.mark.parametrize("row", [row for row in TABLE if row != "torchvision vit"])
def test_what_is_not_refused_trains(row: str, objective: str) -> None:
    """Every step that the job can have runs, and gives a gradient to each parameter that it holds."""
    shared = ["masked", "full", "separate"] if objective == "mae" else ["full", "separate"]
    for shared_pass, ssl_pass in itertools.product(shared, ["masked", "full"] if objective == "mae" else ["auto"]):
        if refusal(row, objective, ssl_pass, shared_pass, 0.0):
            continue
        spec = asked(row, objective, ssl_pass, shared_pass)
        model = model_of(spec)
        for kind in KINDS if objective == "mae" and row in DROP else KINDS[:3]:
            model.zero_grad()
            step = steps.build(spec, model, kind)
            L, _ = step(batch_of([0, -1, 3, 1], size=spec.data.image_size), torch.tensor(0.5))
            assert L.isfinite()
            L.backward()
            idle = [name for name, p in step.named_parameters() if p.requires_grad and p.grad is None]
            assert idle == [], f"{shared_pass} {ssl_pass} {kind}"


@pytest.mark.parametrize("row", ["timm vit", "timm vit, avg", "timm deit, distilled"])
def test_mae_decodes_from_within_other_vits(row: str) -> None:
    """An ssl step holds and trains what leads to the block; a mix step classifies the tokens that f alone gives."""
    spec = job(row, objective={**MAE, "decode_from": 1})
    fit.check(spec)
    model, batch, trained = model_of(spec).eval(), batch_of([0, -1, 3, 1], size=16), {}
    for kind in ("ssl", "mix"):
        model.zero_grad()
        step = steps.build(spec, model, kind)
        L, (_, sl, _) = step(batch, torch.tensor(0.5))
        L.backward()
        assert all(p.grad is not None for p in step.parameters() if p.requires_grad)
        trained[kind] = {name for name, p in model.f.named_parameters() if p.grad is not None}
    assert {name.partition("blocks.")[2][:1] for name in trained["ssl"]} == {"", "0"}, "no second block"
    assert not any(name.startswith(("net.norm.", "net.fc_norm.")) for name in trained["ssl"])
    assert trained["mix"] > trained["ssl"]
    v = model.g.view(batch.x_BSSC, batch.key_B, "mix")
    logits = model.h(model.f(v.x_BCHW, v.keep_BK))
    torch.testing.assert_close(sl, steps.CrossEntropy(spec.optim.label_smoothing)(logits, batch.y_B, batch.scale))


def model_of(spec: JobSpec) -> Model:
    torch.manual_seed(0)
    model = Model(spec, 5, How(allowed(spec)))
    torch.nn.init.normal_(model.h.linear.weight)  # it starts at zero, which would hide what does not reach f
    return model


def test_full_steps_hide_pixels_of_a_cnn() -> None:
    """The loss of an ssl step depends on hidden pixels as its target alone, and on visible ones through the network."""
    spec = job("timm resnet18", objective={**MAE, "norm_pixels": False})
    model, size = model_of(spec), spec.data.image_size
    model.f.eval()
    v = model.g.view(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8), batch_of([0, 1]).key_B)
    x = v.x_BCHW.clone().requires_grad_()
    z, _ = steps.look(model.f, v._replace(x_BCHW=x), model.m)
    z.square().sum().backward()
    assert x.grad is not None
    assert v.hide_BM is not None
    patches = x.grad.abs().sum(1).unfold(1, 8, 8).unfold(2, 8, 8).sum((3, 4)).flatten(1)
    assert not patches.gather(1, v.hide_BM).any()
    assert built("timm resnet18").patch == 8


# ---- what is refused, word by word ------------------------------------------------------------------------------


def small(backbone: Any, size: int = 32, **sections: Any) -> JobSpec:
    data = {"train": {"format": "digits"}, "image_size": size}
    return job("vit", backbone=backbone, data=data, **{"objective": MAE, **sections})


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (small("timm/resnt18"), "backbone.name: timm has no model resnt18 (did you mean timm/resnet18?)"),
        (small("torchvision/resnet19"), "backbone.name: torchvision has no model resnet19 (did you mean torchvision/"),
        (small("torchvision/googlenet"), "backbone.name: raymix does not know the parts of torchvision/googlenet"),
        (small({"type": "timm/resnet18", "args": {"wide": 3}}), "backbone.args: timm refuses in_chans=3, num_classes="),
        (small({"type": "timm/resnet18", "args": {"checkpoint_path": "x"}}), "backbone.args.checkpoint_path: is not"),
        (small({"type": "torchvision/resnet18", "args": {"wide": 3}}), "backbone.args: torchvision refuses them"),
        (small({"type": "torchvision/resnet18", "args": {"weights": "x"}}), "backbone.args.weights: is not for a job"),
        (
            small({"type": "timm/test_vit4", "pretrained": True}),
            "backbone.pretrained: timm has no weights of",
        ),
        (small("timm/resnet18"), "objective.mask_ratio: 0.5 leaves no visible patch of 1 (change it, or take a larger"),
        (small("timm/resnet18", 72), "data.image_size: 72 is not divisible by 32, the stride of timm/resnet18, as mae"),
        (small("timm/vit_tiny_patch16_224", 40), "data.image_size: 40 is not divisible by the backbone's patch of 16"),
        (small("torchvision/vit_b_16", 40), "data.image_size: 40 is not divisible by the backbone's patch of 16 (32"),
        (small("torchvision/vgg11", 16), "data.image_size: torchvision/vgg11 does not take images of 16 px"),
        (
            small("timm/resnet18", 64, schedule={"shared_pass": "masked"}),
            "schedule.shared_pass: masked leaves patches out, and timm/resnet18 always computes all of an image (auto,",
        ),
        (
            small("timm/resnet18", 64, pilot={"arms": ["mix", "ssl_sl_drop"]}),
            "pilot.arms: ssl_sl_drop leaves patches out, and timm/resnet18 always",
        ),
        (
            small("timm/resnet18", 64, schedule={"whole_rows": 0.25}),
            "schedule.whole_rows: is for masked passes, and timm/resnet18 always computes all of an image (leave it",
        ),
        (
            small("timm/resnet18", 64, objective={**MAE, "decode_from": 2}),
            "objective.decode_from: timm/resnet18 has no blocks that tokens can be taken from (leave it out; ViTs",
        ),
        (
            small("timm/vit_tiny_patch16_224", objective={**MAE, "decode_from": 12}),
            "objective.decode_from: 12 is no block before the last of 12 (leave it out to decode from the last, or",
        ),
        (
            small({"type": "timm/resnet18", "drop_path": 0.1}, 64),
            "backbone.drop_path: timm/resnet18 has no blocks to skip (leave it out; ViTs have)",
        ),
        (
            small({"type": "timm/vit_tiny_patch16_224", "drop_path": 0.1, "args": {"drop_path_rate": 0.1}}),
            "backbone.args.drop_path_rate: is there beside backbone.drop_path (give one of the two)",
        ),
        (
            small("timm/resnet18", 64, optim={"batch": 6, "layer_decay": 0.75}),
            "optim.layer_decay: timm/resnet18 has no blocks one above another (leave it out; ViTs have)",
        ),
        (small({"type": "plugin", "name": "owm"}), "backbone.name: no package offers owm as entry point of raymix."),
        (
            small({"type": "import", "factory": "own_backbones:tokens"}),
            "backbone.factory: own_backbones:tokens is code that no job may run by itself (add --allow-import own_",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(spec: JobSpec, line: str) -> None:
    with pytest.raises(JobError) as caught:
        fit.check(spec, ("own_backbones:conv",))
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("factory", "line"),
    [
        ("own_backbone:tokens", "backbone.factory: own_backbone cannot be imported: No module named 'own_backbone'"),
        ("own_backbones:token", "backbone.factory: own_backbones has no token"),
        ("own_backbones:number", "backbone.type: own_backbones:number makes a int (it must make a torch.nn.Module"),
        ("own_backbones:pair", "backbone.type: own_backbones:pair gives tuple of 2 images, not (2, L, D), (2, D, h"),
        ("own_backbones:miscounted", "backbone.type: own_backbones:miscounted gives 16 tokens and says that num_patch"),
        ("own_backbones:vector", "objective.type: mae hides patches of an image, and own_backbones:vector gives one"),
    ],
)
def test_a_module_that_is_no_backbone_is_refused(factory: str, line: str) -> None:
    with pytest.raises(JobError) as caught:
        fit.check(small({"type": "import", "factory": factory}), (factory,))
    assert str(caught.value).startswith(line)


def test_a_mistake_inside_the_module_keeps_its_traceback() -> None:
    factory = "own_backbones:tokens"
    with pytest.raises(TypeError, match="unexpected keyword argument 'wide'"):
        fit.check(small({"type": "import", "factory": factory, "args": {"wide": 3}}), (factory,))


def test_a_missing_timm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(JobError) as caught:
        fit.check(small("timm/resnet18"))
    assert str(caught.value) == "backbone.type: timm is not installed (pip install 'raymix[timm]')"
