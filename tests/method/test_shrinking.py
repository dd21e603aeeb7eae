"""What leaves a ViT is what matters least, and without it the logits are those of the masked one."""

from __future__ import annotations

import pytest
import torch
from models import CLASSES, batch_of, model_of, spec_of

from raymix.method import steps
from raymix.method.backbones import shrinking
from raymix.spec import Cut, JobError

NUM_UNITS, NUM_HEADS = 256, 4  # of a block of nano


def losses(model, spec, num=3):
    step = steps.build(spec, model, "sl")
    for seed in range(num):
        yield step(batch_of([0, 1, 2, 3], seed), torch.zeros(()))[0]


def test_what_is_cut_off_was_masked_and_was_what_mattered_least() -> None:
    spec = spec_of(shrink={"mlp": 0.5, "heads": 0.25})
    model, (x_BSSC, *_) = model_of(spec).eval(), batch_of([0] * 5)
    first = model.f.blocks[0]
    with torch.no_grad():  # parts that do nothing
        first.down.weight[:, 3::2] = 0
        first.out.weight[:, first.head_width : 2 * first.head_width] = 0
    whole = model.classify(x_BSSC)
    assert not shrinking.is_masked(model.f)
    found = shrinking.gradients(model.f, losses(model, spec))
    assert [tuple(of.shape) for of in found[:2]] == [(3, NUM_UNITS), (3, NUM_HEADS)]
    shrinking.close(model.f, spec.shrink, found)
    assert shrinking.is_masked(model.f)
    assert int(first.units[3::2].sum()) == 0, "all 127 of them leave, and one more"
    assert first.channels.view(NUM_HEADS, -1)[:, 0].tolist() == [1, 0, 1, 1]
    for block in model.f.blocks:
        assert (int(block.units.sum()), int(block.channels.sum())) == (NUM_UNITS // 2, 48)
    masked = model.classify(x_BSSC)
    assert (masked - whole).abs().max() > 1e-3
    shrinking.cut_off(model.f)
    assert {shrinking.size_of(block) for block in model.f.blocks} == {(NUM_UNITS // 2, NUM_HEADS - 1)}
    torch.testing.assert_close(model.classify(x_BSSC), masked, atol=1e-5, rtol=1e-5)

    other = model_of(spec_of())
    shrinking.resize(other.f, NUM_UNITS // 2, NUM_HEADS - 1)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.classify(x_BSSC), masked, atol=1e-5, rtol=1e-5)


def test_open_gates_change_no_bit_and_closed_ones_get_no_gradient() -> None:
    batch, gated = batch_of([0, 1, 2, 3]), spec_of(shrink={"mlp": 0.5})
    plain, model = model_of(spec_of()), model_of(gated)
    assert torch.equal(plain.classify(batch.x_BSSC), model.classify(batch.x_BSSC))
    shrinking.close(model.f, gated.shrink, shrinking.gradients(model.f, losses(model, gated)))
    assert all(p.grad is None for p in model.parameters()), "what was derived left nothing behind"
    again = {name: value.clone() for name, value in model.state_dict().items() if name.endswith("units")}
    shrinking.gradients(model.f, losses(model, gated))
    loss, _ = steps.build(gated, model, "sl")(batch, torch.zeros(()))
    loss.backward()
    block = model.f.blocks[1]
    closed = block.units == 0
    assert not block.units.requires_grad
    assert block.up.weight.grad[closed].abs().max() == 0 < block.up.weight.grad[~closed].abs().min()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in again.items())


def test_what_is_closed_stays_closed() -> None:
    """A second cut takes its share of what the first one left."""
    spec = spec_of(shrink={"mlp": 0.5})
    model = model_of(spec)
    for left in (NUM_UNITS // 2, NUM_UNITS // 4):
        before = model.f.blocks[0].units.clone()
        shrinking.close(model.f, spec.shrink, shrinking.gradients(model.f, losses(model, spec)))
        assert int(model.f.blocks[0].units.sum()) == left
        assert bool((model.f.blocks[0].units <= before).all())


@pytest.mark.parametrize(
    ("cut", "problem"),
    [
        ({}, "shrink: takes nothing out"),
        ({"mlp": 0.001}, "shrink.mlp: 0.001 of 256 hidden units is none"),
        ({"heads": 0.1}, "shrink.heads: 0.1 of 4 heads is none"),
        ({"heads": 0.9}, "shrink.heads: 0.9 of 4 heads leaves none"),
    ],
)
def test_what_cannot_be_taken_out_is_refused(cut: dict[str, float], problem: str) -> None:
    with pytest.raises(JobError, match=problem):
        spec_of(shrink=cut)
    if cut:
        with pytest.raises(JobError, match=problem):
            Cut(**cut).check_block(NUM_UNITS, NUM_HEADS)


def test_other_backbones_are_refused() -> None:
    with pytest.raises(JobError, match="shrink: takes parts out of raymix's own ViT, and the backbone is of type timm"):
        spec_of(shrink={"mlp": 0.5}, backbone="timm/test_vit")
    model = steps.Model(spec_of(backbone={"type": "timm/test_vit", "args": {"patch_size": 2}}), CLASSES)
    with pytest.raises(JobError, match="shrink: takes parts out of raymix's own ViT alone"):
        shrinking.add_gates(model.f)
