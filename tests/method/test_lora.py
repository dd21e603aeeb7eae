"""Adapters learn in the SL phase and weights elsewhere; merged they are one model."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from models import batch_of, spec_of

from raymix.method import fit, lora, steps
from raymix.method.steps import Model
from raymix.spec import JobError

LORA = {"rank": 2, "alpha": 6}
BACKBONES = [{"size": "nano", "patch": 2}, {"type": "timm/test_vit", "args": {"patch_size": 2}}]


def made(spec):
    torch.manual_seed(0)
    model = Model(spec, 5)
    torch.manual_seed(1)  # adapters have drawn theirs
    torch.nn.init.normal_(model.h.linear.weight, std=0.2)
    return model


def moved(model, spec, kind, seed=0):
    """Names of what has a gradient after a step of a kind."""
    model.zero_grad(set_to_none=True)
    model.adapters.learn(kind == "sl")
    loss, _ = steps.build(spec, model, kind)(batch_of([0, 1, -1, 3], seed), torch.tensor(0.5))
    loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("backbone", BACKBONES, ids=["vit", "timm"])
def test_each_kind_trains_its_own(backbone: dict[str, object]) -> None:
    spec, plain = spec_of(lora=LORA, backbone=backbone), spec_of(backbone=backbone)
    model, other = made(spec), made(plain)
    x_BSSC = batch_of([0] * 3).x_BSSC
    assert torch.equal(model.classify(x_BSSC), other.classify(x_BSSC)), "adapters that are new add nothing"
    adapters = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapters
    assert moved(model, spec, "sl") == adapters | {"h.linear.weight", "h.linear.bias"}
    for kind in ("ssl", "mix"):
        names = moved(model, spec, kind)
        assert not names & adapters
        loss, _ = steps.build(plain, other, kind)(batch_of([0, 1, -1, 3]), torch.tensor(0.5))
        other.zero_grad(set_to_none=True)
        loss.backward()
        theirs = {name: p.grad for name, p in other.named_parameters() if p.grad is not None}
        mine = {n.replace(".base_layer.", "."): p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], value) for name, value in theirs.items())


@pytest.mark.parametrize("backbone", BACKBONES, ids=["vit", "timm"])
def test_merged_they_are_a_model_without_adapters(backbone: dict[str, object]) -> None:
    spec, plain = spec_of(lora=LORA, backbone=backbone), spec_of(backbone=backbone)
    model, other, x_BSSC = made(spec), made(plain), batch_of([0] * 3).x_BSSC
    before = model.classify(x_BSSC)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    expected = model.classify(x_BSSC)
    assert (expected - before).abs().max() > 1e-2
    other.load_state_dict(lora.merged(model.state_dict(), spec.lora))
    torch.testing.assert_close(other.classify(x_BSSC), expected, atol=1e-5, rtol=1e-5)
    model.adapters.learn(False)  # as in an ssl step, which leaves them out; what is evaluated has them all the same
    assert torch.equal(copy.deepcopy(model).classify(x_BSSC), expected)
    assert torch.equal(model.classify(x_BSSC), expected)


def test_what_has_no_adapters_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match="lora: adapts raymix's own ViTs and timm's, and the backbone is of type torch"):
        spec_of(lora={}, backbone="torchvision/resnet18")
    with pytest.raises(JobError, match="lora: adapts the blocks of a ViT, and the backbone has none"):
        fit.check(spec_of(lora={}, backbone="timm/test_resnet"))
    with pytest.raises(JobError, match="lora: interleave: alternate trains all weights"):
        spec_of(lora={}, schedule={"interleave": "alternate"})
    alone = {"schedule": {"ssl_epochs": 0, "sl_epochs": 1}}
    phases = {"schedule": {"policy": "phases", "phases": [{"kind": "sl", "for": "1ep"}]}}
    for schedule in (alone, phases):
        with pytest.raises(JobError, match=r"^lora: the job has neither SSL epochs nor weights to begin with, so"):
            spec_of(lora={}, **schedule)
    assert spec_of(lora={}, **alone, backbone={"size": "nano", "patch": 2, "weights": "w.safetensors"}).lora
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    with pytest.raises(JobError, match=r"lora: needs peft, which is not installed \(pip install 'raymix\[peft\]'\)"):
        fit.check(spec_of(lora={}))
