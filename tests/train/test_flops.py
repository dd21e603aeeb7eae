"""FLOPs counted without computing; the formulas for raymix's own ViT say the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from raymix.jobfile import load_spec
from raymix.method.steps import Model
from raymix.plan import Kind
from raymix.report import work
from raymix.spec import MIX_KINDS, JobSpec, Mae
from raymix.train import flops
from raymix.train.flops import step_flops

NUM_CLASSES = 30
SIMCLR = "objective={type: simclr}"
FULL = ["objective.ssl_pass=full", "schedule.shared_pass=full"]
CASES: list[list[str]] = [
    [],
    ["objective.mix_mask_ratio=0.5", "objective.decoder_depth=2", "objective.decoder_width=48"],
    FULL,
    ["objective.decode_from=3"],
    [*FULL, "objective.decode_from=1"],
    ["schedule.shared_pass=separate", "objective.decode_from=2"],
    ["schedule.shared_pass=separate"],
    ["schedule.shared_pass=separate", "objective.ssl_pass=full"],
    ["objective.mix_mask_ratio=[0.75, 0.25, 0]", "schedule.whole_rows=0.5"],
    ["schedule.whole_rows=0.25", "objective.decode_from=2", "data.labelled_share=0.5"],
    ["data.channels=gray16", "data.augment={blur: 0.5}"],
    ["data.augment={mixup: 0.8, hue: 0.1, erase: 0.3}"],
    [SIMCLR],
    ["objective={type: simclr, second_view: {blur: 0.5}}"],
    ["objective={type: simclr, output_width: 512}", "optim.batch=512", "schedule.shared_pass=separate"],
    ["lora={rank: 4}", "shrink={mlp: 0.5}"],
    ["optim={batch: 64, accumulate: 4, precision: bf16}"],
]


def asked(*overrides: str) -> JobSpec:
    job = {
        "name": "flops",
        "data": {"train": {"format": "digits"}, "image_size": 16},
        "backbone": {"size": "nano", "patch": 4},
        "optim": {"batch": 32},
        "cluster": {"workers": 0},
    }
    return load_spec(job, list(overrides))


def kinds(spec: JobSpec) -> tuple[Kind, ...]:
    if isinstance(spec.objective, Mae):
        return ("ssl", *MIX_KINDS[: len(spec.objective.mix_ratios)], "sl", "sl_drop")
    return ("ssl", "mix", "sl")


@pytest.mark.parametrize("overrides", CASES, ids=lambda overrides: " ".join(overrides) or "default")
def test_the_formulas_are_what_torch_counts(overrides: list[str]) -> None:
    spec = asked(*overrides)
    model = Model(spec, NUM_CLASSES)
    counted = step_flops(spec, model, kinds(spec))
    assert counted == pytest.approx({k: work.step_flops(spec, NUM_CLASSES, k) for k in kinds(spec)}, rel=0.03)
    assert work.num_parameters(spec, NUM_CLASSES) == sum(p.numel() for p in model.parameters())


def test_every_size_of_the_vit() -> None:
    for size in ("tiny", "small", "base"):
        spec = asked(f"backbone={{size: {size}, patch: 8}}", "optim.batch=8")
        with torch.device("meta"):
            model = Model(spec, NUM_CLASSES)
        assert step_flops(spec, model, ("sl",))["sl"] == pytest.approx(
            work.step_flops(spec, NUM_CLASSES, "sl"), rel=0.03
        )
        assert work.num_parameters(spec, NUM_CLASSES) == sum(p.numel() for p in model.parameters())


def test_simclr_compares_all_with_all() -> None:
    """Twice the batch is twice the work and, of the comparison, four times."""
    one, two = (step_flops(s, Model(s, 3), ("ssl",))["ssl"] for s in (asked(SIMCLR), asked(SIMCLR, "optim.batch=64")))
    assert two - 2 * one == pytest.approx(6 * 128 * ((2 * 64) ** 2 - 2 * (2 * 32) ** 2))


@pytest.mark.parametrize(
    "backbone", ["timm/vit_tiny_patch16_224", "timm/resnet18", "torchvision/resnet18", "torchvision/convnext_tiny"]
)
def test_other_backbones_are_counted(backbone: str) -> None:
    spec = asked(f"backbone={backbone}", "objective={type: simclr}", "data.image_size=32")
    one, two = (step_flops(s, Model(s, 3), ("sl",))["sl"] for s in (spec, load_spec(spec, ["optim.batch=64"])))
    assert two == pytest.approx(2 * one)
    assert one > 1e6
    assert work.step_flops(spec, 3, "sl") is None


def test_the_model_and_the_random_numbers_stay_as_they_were() -> None:
    spec = asked()
    model = Model(spec, NUM_CLASSES).eval()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    step_flops(spec, model, kinds(spec))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_backbone_that_computes_with_values_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = asked()
    model = Model(spec, NUM_CLASSES)

    class Picky(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum().item() else -x

    model.h = nn.Sequential(Picky(), model.h)  # type: ignore[assignment]
    assert flops.step_flops(spec, model, ("sl",)) == {}
