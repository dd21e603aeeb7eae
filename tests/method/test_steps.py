"""Each step equals its formula, computed naively here, and gives a gradient to every parameter that it holds."""

from __future__ import annotations

import math

import pytest
import torch
from models import batch_of, model_of, spec_of
from torch import Tensor

from raymix.method import draw, optim, steps
from raymix.method.objectives import OBJECTIVES, View
from raymix.method.steps import Batch, Model
from raymix.method.views import Augment
from raymix.plan import Kind
from raymix.spec import SHARED_PASSES, JobSpec, Mae, SimClr
from raymix.spec import Augment as AugmentSpec

LABELS = [0, -1, 3, 1, -1, 4]
# every step that a job can ask for: objective, shared_pass, kind; sl_drop needs patches to drop
TABLE: list[tuple[str, str, Kind]] = [
    (objective, shared_pass, kind)
    for objective in OBJECTIVES
    for shared_pass in SHARED_PASSES[objective]
    for kind in ("ssl", "mix", "sl", "sl_drop")
    if objective == "mae" or kind != "sl_drop"
]


# ---- the formulas, written out ----------------------------------------------------------------------------------


def patch_of(x_CHW: Tensor, place: int, patch: int) -> Tensor:
    """Pixels of a patch, row by row, the colours of a pixel side by side."""
    row, column = divmod(place, x_CHW.shape[2] // patch)
    cut = x_CHW[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
    return torch.stack([cut[c, i, j] for i in range(patch) for j in range(patch) for c in range(len(x_CHW))])


def mae(model: Model, spec: JobSpec, z: Tensor, view: View) -> Tensor:
    """Mean over images and hidden patches of the mean squared error of the patch."""
    assert isinstance(spec.objective, Mae)
    assert view.keep_BK is not None
    assert view.hide_BM is not None
    g, errors = model.g, []
    for b, x_CHW in enumerate(view.x_BCHW):
        keep, hide = view.keep_BK[b].tolist(), view.hide_BM[b].tolist()
        places = []
        for place in range(spec.num_patches):
            if z.shape[1] == spec.num_patches:  # all places were computed; the token is added to the hidden ones
                token = g.token_11E[0, 0] if place in hide else 0
                places.append(g.project(z[b, place]) + token)
            else:
                places.append(g.project(z[b, keep.index(place)]) if place in keep else g.token_11E[0, 0])
        y, update = g.position_1LE, torch.stack(places)[None]
        for block in g.blocks:
            y, update = block(y, update)
        drawn = g.draw(g.norm(y + update))[0]
        for place in hide:
            target = patch_of(x_CHW, place, spec.backbone.patch)
            if spec.objective.norm_pixels:
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
            errors.append(((drawn[place] - target) ** 2).mean())
    return torch.stack(errors).mean()


def nt_xent(model: Model, spec: JobSpec, z: Tensor) -> Tensor:
    """Equation 1 of SimCLR, a pair at a time."""
    assert isinstance(spec.objective, SimClr)
    p = [model.g.down(model.g.up(token.mean(0)).relu()) for token in z]
    p = [v / v.norm() for v in p]
    n, losses = len(p), []
    for i in range(n):
        j = (i + n // 2) % n
        others = sum(torch.exp(p[i] @ p[k] / spec.objective.temperature) for k in range(n) if k != i)
        losses.append(-(p[i] @ p[j] / spec.objective.temperature) + torch.log(torch.as_tensor(others)))
    return torch.stack(losses).mean()


def ce(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean over the labelled rows of the cross-entropy to the smoothed label."""
    losses = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        if label >= 0:
            logs = row - torch.log(torch.exp(row).sum())
            losses.append(-(1 - smoothing) * logs[label] - smoothing * logs.mean())
    return torch.stack(losses).mean()


def ssl_loss(model: Model, spec: JobSpec, z: Tensor, view: View) -> Tensor:
    return (
        mae(model, spec, for_mae(model, spec, view, z), view)
        if spec.objective.type == "mae"
        else nt_xent(model, spec, z)
    )


def for_mae(model: Model, spec: JobSpec, view: View, z: Tensor) -> Tensor:
    """What the decoder reads: the last tokens, or those after a block through a norm of its own."""
    assert isinstance(spec.objective, Mae)
    if spec.objective.decode_from is None:
        return z
    hidden = torch.zeros(len(z), spec.num_patches, dtype=torch.bool)
    whole = z.shape[1] == spec.num_patches
    keep, token = (None, model.m.token) if whole else (view.keep_BK, None)
    stream, update = model.f.enter(view.x_BCHW, keep, hidden.scatter(1, view.hide_BM, True), token)
    for block in model.f.blocks[: spec.objective.decode_from]:
        stream, update = block(stream, update)
    return model.g.entry(stream + update)


def naive(model: Model, spec: JobSpec, kind: Kind, batch: Batch, w: float) -> Tensor:
    """L of a step as the method writes it, with the views that the step draws."""
    x, y, key, _ = batch
    smoothing = spec.optim.label_smoothing
    if kind == "sl":
        return ce(model.h(model.f(model.a(x, key))), y, smoothing)
    v = model.g.view(x, key, kind)
    z = model.f(v.x_BCHW, v.keep_BK)
    if kind == "ssl":
        return ssl_loss(model, spec, z, v)
    if kind == "sl_drop":
        return ce(model.h(z), y, smoothing)
    if spec.passes(True).mix == "separate":
        return w * ssl_loss(model, spec, z, v) + (1 - w) * ce(model.h(model.f(model.a(x, key))), y, smoothing)
    if spec.passes(True).mix == "full" and spec.objective.type == "mae":
        z = with_tokens(model, v)
    return w * ssl_loss(model, spec, z, v) + (1 - w) * ce(model.h(z), y.repeat(v.num_views), smoothing)


def with_tokens(model: Model, view: View) -> Tensor:
    """f of all patches, the mask token in place of the hidden ones."""
    assert view.hide_BM is not None
    assert model.m is not None
    rows = []
    for x_CHW, hide_M in zip(view.x_BCHW, view.hide_BM.tolist(), strict=True):
        embedded = [
            model.m.token[0, 0] if place in hide_M else model.f.embed(patch_of(x_CHW, place, model.f.patch))
            for place in range(model.f.position_1LD.shape[1])
        ]
        rows.append(torch.stack(embedded) + model.f.position_1LD[0])
    z = torch.stack(rows)
    update = torch.zeros_like(z)
    for block in model.f.blocks:
        z, update = block(z, update)
    return model.f.norm(z + update)


# ---- steps against formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "shared_pass", "kind"), TABLE)
def test_a_step_is_its_formula(objective: str, shared_pass: str, kind: Kind) -> None:
    spec = spec_of(objective, shared_pass)
    model, batch, w = model_of(spec), batch_of(LABELS), 0.3
    L, _ = steps.build(spec, model, kind)(batch, torch.tensor(w))
    torch.testing.assert_close(L, naive(model, spec, kind, batch, w), rtol=1e-5, atol=1e-5)


def test_the_target_can_be_plain_pixels() -> None:
    spec = spec_of(objective_options={"norm_pixels": False})
    model, batch = model_of(spec), batch_of(LABELS)
    L, _ = steps.build(spec, model, "ssl")(batch, torch.tensor(1.0))
    torch.testing.assert_close(L, naive(model, spec, "ssl", batch, 1.0))
    assert not torch.isclose(L, naive(model, spec_of(), "ssl", batch, 1.0)), "and that is another loss"


@pytest.mark.parametrize(("shared_pass", "kind"), [("masked", "ssl"), ("separate", "ssl"), ("separate", "mix")])
def test_ssl_steps_compute_all_patches_where_they_are_told_to(shared_pass: str, kind: Kind) -> None:
    """`objective.ssl_pass: full`; the SSL side of separate mix steps goes by it, too."""
    spec = spec_of(shared_pass=shared_pass, objective_options={"ssl_pass": "full"})
    model, batch, w = model_of(spec), batch_of(LABELS), 0.3
    L, _ = steps.build(spec, model, kind)(batch, torch.tensor(w))
    v = model.g.view(batch.x_BSSC, batch.key_B, kind)
    expected = mae(model, spec, with_tokens(model, v), v)
    if kind == "mix":
        logits = model.h(model.f(model.a(batch.x_BSSC, batch.key_B)))
        expected = w * expected + (1 - w) * ce(logits, batch.y_B, spec.optim.label_smoothing)
    torch.testing.assert_close(L, expected)
    L.backward()
    assert model.m is not None
    assert model.m.token.grad is not None


@pytest.mark.parametrize("shared_pass", SHARED_PASSES["mae"])
def test_decoding_from_a_block_leaves_later_ones_to_the_classifier(shared_pass: str) -> None:
    """`objective.decode_from`: ssl steps neither run nor hold what follows; mix steps give both losses their tokens."""
    spec = spec_of(shared_pass=shared_pass, objective_options={"decode_from": 2})
    model, batch, w, ran = model_of(spec), batch_of(LABELS), 0.3, []
    for number, block in enumerate(model.f.blocks, 1):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    later = {id(p) for part in (*model.f.blocks[2:], model.f.norm) for p in part.parameters()}
    for kind, blocks in (("ssl", [1, 2]), ("mix", [1, 2, 1, 2, 3, 4] if shared_pass == "separate" else [1, 2, 3, 4])):
        model.zero_grad()
        step = steps.build(spec, model, kind)
        ran.clear()
        L, _ = step(batch, torch.tensor(w))
        L.backward()
        assert ran == blocks
        held = {id(p) for p in step.parameters()}
        assert later <= held if kind == "mix" else not later & held
        assert all((p.grad is not None and p.grad.any()) == (id(p) in held) for p in model.parameters())
        torch.testing.assert_close(L, naive(model, spec, kind, batch, w), rtol=1e-5, atol=1e-5)


def test_the_mask_ratio_falls_from_part_to_part_of_a_mix_phase() -> None:
    """`objective.mix_mask_ratio` as a list: a kind of step each; where nothing is hidden the CE is left."""
    spec = spec_of(objective_options={"mix_mask_ratio": [0.75, 0.25, 0]})
    model, batch, seen = model_of(spec), batch_of(LABELS), []
    model.f.register_forward_hook(lambda _, __, z: seen.append(z.shape[1]))
    kinds: tuple[Kind, ...] = ("mix", "mix_2", "mix_3", "sl_drop", "ssl")
    for kind in kinds:
        step = steps.build(spec, model, kind)
        L, (ssl, sl, _) = step(batch, torch.tensor(0.3))
        assert (sl if kind in ("mix_3", "sl_drop") else ssl if kind == "ssl" else 0.3 * ssl + (1 - 0.3) * sl) == L
    assert seen == [4, 12, 16, 10, 4], "sl_drop: what mix steps see on average"
    logits = model.h(model.f(model.a(batch.x_BSSC, batch.key_B)))
    last, _ = steps.build(spec, model, "mix_3")(batch, torch.tensor(0.3))
    torch.testing.assert_close(last, ce(logits, batch.y_B, spec.optim.label_smoothing))


@pytest.mark.parametrize("options", [{}, {"decode_from": 2}])
def test_the_first_rows_are_classified_whole(options: dict[str, int]) -> None:
    """`schedule.whole_rows`: the CE is of these alone, seen as they are augmented for g; MAE is of all rows, masked."""
    spec = spec_of(schedule={"whole_rows": 0.5}, objective_options=options, optim={"batch": 6})
    model, batch, w, passes = model_of(spec), batch_of(LABELS), 0.3, []
    model.f.blocks[3].register_forward_hook(lambda _, given, __: passes.append(tuple(given[0].shape[:2])))
    step = steps.build(spec, model, "mix")
    scale = torch.tensor(1 / 2)  # rows 0 and 2 of the first three have a label
    L, (ssl, sl, hits) = step(batch._replace(scale=scale), torch.tensor(w))
    assert passes == [(6, 8), (3, 16)][bool(options) :], "what only g would need of a block after its own is left out"
    v = model.g.view(batch.x_BSSC, batch.key_B, "mix")
    logits = model.h(model.f(v.x_BCHW[:3]))
    torch.testing.assert_close(sl, ce(logits, batch.y_B[:3], spec.optim.label_smoothing))
    torch.testing.assert_close(ssl, ssl_loss(model, spec, model.f(v.x_BCHW, v.keep_BK), v))
    torch.testing.assert_close(L, w * ssl + (1 - w) * sl)
    assert hits == (logits.argmax(1) == batch.y_B[:3]).sum()
    L.backward()
    assert all(p.grad is not None and p.grad.any() for p in step.parameters())


@pytest.mark.parametrize("shared_pass", SHARED_PASSES["mae"])
def test_hidden_pixels_reach_no_loss_but_as_the_target(shared_pass: str) -> None:
    """What masked and full mix classify has not seen the hidden patches; separate classifies the whole image."""
    spec = spec_of(shared_pass=shared_pass, augment={"crop": [1, 1], "flip": False})
    model, batch = model_of(spec), batch_of(LABELS)
    step = steps.build(spec, model, "mix")
    hidden = model.g.view(batch.x_BSSC, batch.key_B, "mix").hide_BM
    assert hidden is not None
    assert hidden.shape == (6, 8), "half of 16 patches: mix_mask_ratio, not mask_ratio"
    changed = batch.x_BSSC.clone()
    for b, places in enumerate(hidden.tolist()):
        for place in places:
            row, column = divmod(place, 4)
            changed[b, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] ^= 0xFF
    _, (ssl, sl, _) = step(batch, torch.tensor(0.5))
    _, (other_ssl, other_sl, _) = step(batch._replace(x_BSSC=changed), torch.tensor(0.5))
    assert ssl != other_ssl
    assert torch.isclose(sl, other_sl, rtol=1e-4) == (shared_pass != "separate")


@pytest.mark.parametrize(("objective", "shared_pass"), [(o, s) for o, passes in SHARED_PASSES.items() for s in passes])
def test_mix_runs_the_backbone_once_unless_separate(objective: str, shared_pass: str) -> None:
    spec = spec_of(objective, shared_pass)
    model, passes = model_of(spec), []
    model.f.register_forward_hook(lambda *_: passes.append(1))
    steps.build(spec, model, "mix")(batch_of(LABELS), torch.tensor(0.5))
    assert len(passes) == (2 if shared_pass == "separate" else 1)


@pytest.mark.parametrize(("objective", "shared_pass"), [(o, s) for o, passes in SHARED_PASSES.items() for s in passes])
def test_w_at_its_ends_leaves_one_side(objective: str, shared_pass: str) -> None:
    spec = spec_of(objective, shared_pass)
    model, batch = model_of(spec), batch_of(LABELS)
    step = steps.build(spec, model, "mix")
    for w, side in ((1.0, 0), (0.0, 1)):
        model.zero_grad(set_to_none=True)
        L, stats = step(batch, torch.tensor(w))
        L.backward()
        assert stats[side] == L
        idle = model.h if side == 0 else model.g
        assert all(p.grad is not None and not p.grad.any() for p in idle.parameters()), "zero, and not None"


# ---- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mix", "sl"])
@pytest.mark.parametrize("objective", ["mae", "simclr"])
def test_shares_of_a_batch_average_to_the_whole(objective: str, kind: Kind) -> None:
    """DDP takes the mean over ranks: of the CE it is the mean over the batch's labelled rows, wherever these are."""
    spec = spec_of(objective, "full")
    model, whole = model_of(spec), batch_of([-1, -1, -1, -1, 2, -1, 0, 1, 4])
    step = steps.build(spec, model, kind)
    w = torch.tensor(0.0)  # the CE alone: NT-Xent is of the global batch and needs its ranks
    L, stats = step(whole, w)
    parts = [
        step(Batch(whole.x_BSSC[i : i + 3], whole.y_B[i : i + 3], whole.key_B[i : i + 3], whole.scale * 3), w)
        for i in (0, 3, 6)
    ]
    torch.testing.assert_close(torch.stack([part for part, _ in parts]).mean(), L)
    assert sum(part[2] for _, part in parts) == stats[2], "hits add up"
    assert parts[0][0] == 0, "a rank without labels"


@pytest.mark.parametrize(("objective", "shared_pass", "kind"), [row for row in TABLE if row[2] != "ssl"])
def test_a_batch_without_labels_gives_zero_gradients(objective: str, shared_pass: str, kind: Kind) -> None:
    spec = spec_of(objective, shared_pass)
    model = model_of(spec)
    L, (_, sl, hits) = steps.build(spec, model, kind)(batch_of([-1] * 6), torch.tensor(0.5))
    L.backward()
    assert sl == hits == 0
    for parameter in model.h.parameters():
        assert parameter.grad is not None, "DDP waits for it"
        assert not parameter.grad.any()


def test_hits_count_the_labelled_rows_classified_rightly() -> None:
    spec = spec_of()
    model, batch = model_of(spec), batch_of(LABELS)
    right = model.h(model.f(model.a(batch.x_BSSC, batch.key_B))).argmax(1)
    step = steps.build(spec, model, "sl")
    assert step(batch._replace(y_B=right), torch.tensor(0.0))[1][2] == 6
    some = torch.where(torch.arange(6) < 2, right, torch.where(torch.arange(6) < 4, (right + 1) % 5, -1))
    assert step(batch._replace(y_B=some), torch.tensor(0.0))[1][2] == 2


def test_a_fresh_classifier_knows_nothing() -> None:
    """It starts at zero: the first CE is log(classes), whatever the backbone says."""
    spec = spec_of()
    torch.manual_seed(0)
    _, (_, sl, _) = steps.build(spec, Model(spec, 5), "sl")(batch_of(LABELS), torch.tensor(0.0))
    assert sl == pytest.approx(math.log(5))


# ---- images of one channel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["gray", "gray16"])
@pytest.mark.parametrize(("objective", "shared_pass", "kind"), TABLE)
def test_every_step_takes_grey_images(objective: str, shared_pass: str, kind: Kind, channels: str) -> None:
    """By the same formulas, and a gradient for every parameter."""
    spec = spec_of(objective, shared_pass, channels=channels, augment={"crop": [0.6, 1], "color": 0.4})
    model, batch = model_of(spec), batch_of(LABELS, size=10, channels=channels)
    assert model.f.embed.in_features == 2 * 2
    step = steps.build(spec, model, kind)
    L, _ = step(batch, torch.tensor(0.3))
    torch.testing.assert_close(L, naive(model, spec, kind, batch, 0.3), rtol=1e-3, atol=1e-4)
    L.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in step.parameters())
    assert model.classify(batch.x_BSSC).shape == (6, 5)


# ---- views that differ ------------------------------------------------------------------------------------------

APART = {"first_view": {"blur": 1.0}, "second_view": {"solarize": 1.0, "crop": [0.9, 1.0], "flip": False}}


def test_each_view_has_its_own_setting() -> None:
    augment = {"crop": [0.6, 1.0], "color": 0.4}
    spec = spec_of("simclr", augment=augment, objective_options=APART, pilot={"arms": ["sl", "mix"]})
    model, batch = model_of(spec), batch_of(LABELS, size=10)
    first, second = model.g.view(batch.x_BSSC, batch.key_B).x_BCHW.chunk(2)
    settings = [{**augment, **APART[view]} for view in ("first_view", "second_view")]
    for found, setting, view in zip((first, second), settings, (0, draw.SECOND_VIEW), strict=True):
        expected = Augment(AugmentSpec.model_validate(setting), 8)(batch.x_BSSC, batch.key_B, view)
        assert torch.equal(found, expected)
    kept = JobSpec.model_validate_json(spec.model_dump_json())
    assert torch.equal(model_of(kept).g.view(batch.x_BSSC, batch.key_B).x_BCHW[6:], second), "out of a file too"


@pytest.mark.parametrize("shared_pass", ["full", "separate"])
def test_mix_steps_classify_the_first_of_views_that_differ(shared_pass: str) -> None:
    spec = spec_of("simclr", shared_pass, objective_options=APART)
    model, batch = model_of(spec), batch_of(LABELS)
    first = model.g.view(batch.x_BSSC, batch.key_B).x_BCHW[:6]
    L, (ssl, sl, hits) = steps.build(spec, model, "mix")(batch, torch.tensor(0.3))
    logits = model.h(model.f(first))
    torch.testing.assert_close(sl, ce(logits, batch.y_B, spec.optim.label_smoothing))
    torch.testing.assert_close(L, 0.3 * ssl + 0.7 * sl)
    assert hits == (logits.argmax(1) == batch.y_B).sum()
    L.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


# ---- gradients and what the optimizer moves ---------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "shared_pass", "kind"), TABLE)
def test_every_parameter_of_a_step_has_a_gradient_and_no_other_moves(
    objective: str, shared_pass: str, kind: Kind
) -> None:
    """DDP without find_unused_parameters hangs on a parameter without one; AdamW leaves those without one alone."""
    spec = spec_of(objective, shared_pass)
    model = model_of(spec)
    optimizer = optim.build(model, spec.optim)
    steps.build(spec, model, "mix")(batch_of(LABELS), torch.tensor(0.5))[0].backward()
    optimizer.step()  # now every part has momentum that could carry it on
    optimizer.zero_grad(set_to_none=True)

    step, before = steps.build(spec, model, kind), {name: p.detach().clone() for name, p in model.named_parameters()}
    step(batch_of(LABELS, seed=1), torch.tensor(0.5))[0].backward()
    held = {id(p) for p in step.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in held:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
            assert parameter.grad.isfinite().all(), name
        else:
            assert parameter.grad is None, name
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) not in held), name


def test_a_step_holds_what_it_trains() -> None:
    spec = spec_of("mae", "full")
    model = model_of(spec)
    held = {
        kind: {name.split(".")[0] for name, _ in steps.build(spec, model, kind).named_parameters()}
        for kind in ("ssl", "mix", "sl", "sl_drop")
    }
    assert held == {"ssl": {"f", "g"}, "mix": {"f", "g", "h", "m"}, "sl": {"f", "h"}, "sl_drop": {"f", "h"}}


def test_weight_decay_is_on_matrices_alone() -> None:
    spec = spec_of("mae", "full", optim={"batch": 6, "lr": 0.1, "weight_decay": 0.5})
    model = model_of(spec)
    optimizer = optim.build(model, spec.optim)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name.endswith("weight") and "norm" not in name else 1
        torch.testing.assert_close(parameter, before[name] * factor, msg=name)


def test_the_groups_share_one_rate() -> None:
    model = model_of(spec_of())
    optimizer = optim.build(model, spec_of().optim)
    optimizer.param_groups[0]["lr"].fill_(0)
    before = [p.detach().clone() for p in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_contrast_is_computed_in_full_precision_under_autocast() -> None:
    """bf16 holds cosines to 1/256; over a temperature of 0.05 that would be 0.08 of logit."""
    spec = spec_of("simclr", objective_options={"temperature": 0.05})
    model, batch = model_of(spec), batch_of(LABELS)
    view = model.g.view(batch.x_BSSC, batch.key_B)
    z = model.f(view.x_BCHW).detach()
    with torch.autocast("cpu", torch.bfloat16):
        p = model.g.down(torch.relu(model.g.up(z.mean(1)))).float()
        loss = model.g(z, view)
    p = p / p.norm(dim=1, keepdim=True)
    logits = (p @ p.T / 0.05).fill_diagonal_(-math.inf)
    partner = (torch.arange(12) + 6) % 12
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, partner), rtol=1e-4, atol=1e-5)
