"""However a step is computed, in parts, recomputed, compiled or replayed, it is the same step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from small_runs import Digits, trained
from torch import Tensor, nn

from raymix.method import optim
from raymix.plan import Kind, rate, segment, weight
from raymix.report.history import History
from raymix.spec import VIT_SIZES
from raymix.train import compiling
from raymix.train.feed import Feed
from raymix.train.prepare import prepare
from raymix.train.state import TrainState
from raymix.train.stepper import stepper

DigitsOf = Callable[..., Digits]
PHASES = {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0.5}
FEW = {"fraction": 0.1, "holdout": 0.1, "select": 0.1, "label_fraction": 0.5}


def weights(state: TrainState) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in state.model.named_parameters()}


def steps_of(asked: Digits, prepared: bool = False) -> tuple[Tensor, TrainState]:
    """The statistics of every step of the plan, and the state after them."""
    state, runtime = asked.state(), asked.runtime()
    if not prepared:
        return torch.stack(trained(asked, state, runtime)), state
    feed = Feed(asked.plan, asked.splits, runtime)
    step, _ = prepare(asked.plan, asked.plan.kinds, state, feed, runtime, asked.rates(3))
    found = []
    for phase in asked.plan.phases:
        for number, (kind, batch) in enumerate(
            feed.batches(segment(asked.plan, phase.start, phase.steps, False)), phase.start
        ):
            lr, w = (torch.tensor(f(asked.plan, number)) for f in (rate, weight))
            found.append(step(kind, batch, lr, w).clone())
    return torch.stack(found), state


def of(
    digits: DigitsOf,
    speed: dict[str, Any] | None = None,
    shared: str = "masked",
    drop_path: float = 0.0,
    **asked: Any,
) -> Digits:
    return digits(
        data=FEW,
        schedule={**PHASES, "shared_pass": shared},
        optim={"batch": 24, "lr": 2e-3, **asked},
        speed=speed or {},
        backbone={"size": "nano", "patch": 2, "drop_path": drop_path},
    )


@pytest.mark.parametrize("shared", ["masked", "full", "separate"])
def test_parts_of_a_batch_add_up_to_it(digits: DigitsOf, shared: str) -> None:
    """Half of the rows have no label, so parts differ in how many they have."""
    whole, parts = of(digits, shared=shared), of(digits, shared=shared, accumulate=4)
    for kind in whole.plan.kinds:
        gradients, stats = [], []
        for asked in (whole, parts):
            state, runtime = asked.state(), asked.runtime()
            with torch.no_grad():
                state.model.h.linear.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
            step = stepper(asked.plan, (kind,), state, runtime)
            batch = Feed(asked.plan, asked.splits, runtime).sample(kind)
            stats.append(step(kind, batch, torch.tensor(1e-3), torch.tensor(0.3)))
            # after one step the first moment is a tenth of the gradient
            gradients.append([entry["exp_avg"] for entry in state.optimizer.state.values()])
        torch.testing.assert_close(stats[1], stats[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
    losses, _ = steps_of(whole)
    torch.testing.assert_close(steps_of(parts)[0][:, :2], losses[:, :2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
def test_recomputed_blocks_give_the_same_bits(digits: DigitsOf, drop_path: float) -> None:
    asked, again = (of(digits, speed={"recompute": on}, drop_path=drop_path) for on in (False, True))
    (plain, one), (recomputed, other) = steps_of(asked, prepared=True), steps_of(again, prepared=True)
    assert torch.equal(plain, recomputed)
    assert all(torch.equal(p, weights(other)[name]) for name, p in weights(one).items())


def test_recomputed_dropout_is_the_same_dropout() -> None:
    region, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1)), torch.randn(64, 8)
    gradients = []
    for recompute in (False, True):
        twin = copy.deepcopy(region)
        assert compiling.draws(twin)
        if recompute:
            compiling._recompute(twin)
        torch.manual_seed(0)
        twin(x).sum().backward()
        gradients.append([p.grad for p in twin.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrower backbone: how long compiling takes goes by its steps' operations."""
    monkeypatch.setitem(VIT_SIZES, "nano", (32, 2, 2))


@pytest.mark.usefixtures("two_blocks")
def test_compiled_steps_give_the_same_losses(digits: DigitsOf) -> None:
    """And each shape is compiled once: a second model of the same job compiles nothing."""
    plain, _ = steps_of(of(digits), prepared=True)
    asked = of(digits, speed={"compile": "default"})
    compiled, _ = steps_of(asked, prepared=True)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-3)
    torch._dynamo.utils.counters.clear()
    again, _ = steps_of(asked, prepared=True)
    assert torch.equal(again, compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


@pytest.mark.usefixtures("two_blocks")
def test_evaluation_is_not_compiled(digits: DigitsOf) -> None:
    asked = of(digits, speed={"compile": "default"})
    outcome, _ = asked.run()
    assert outcome.complete
    assert outcome.correct["raw"].any()


def test_a_clipped_gradient_is_no_longer_than_asked(digits: DigitsOf) -> None:
    """With plain sums instead of Adam's the step would be the gradient; here its first moment is a tenth of it."""
    asked = of(digits, clip=1e-3)
    state, runtime = asked.state(), asked.runtime()
    trained(asked, state, runtime, steps=1)
    moved = [s["exp_avg"] / (1 - asked.plan.spec.optim.betas[0]) for s in state.optimizer.state.values()]
    norm = float(torch.stack([m.norm() for m in moved]).norm())
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", ["sl", "mix"])
def test_layers_have_rates_of_their_own_in_sl_steps(digits: DigitsOf, kind: Kind) -> None:
    """Adam's first step is the rate itself wherever a gradient is well above its epsilon."""
    asked = of(digits, layer_decay=0.5, weight_decay=0)
    state, runtime = asked.state(), asked.runtime()
    with torch.no_grad():
        state.model.h.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    before = weights(state)
    step = stepper(asked.plan, (kind,), state, runtime)
    step(kind, Feed(asked.plan, asked.splits, runtime).sample(kind), torch.tensor(1e-2), torch.tensor(0.5))
    moved = {name: float((p - before[name]).abs().max()) for name, p in weights(state).items()}
    depths = {"f.embed.weight": 5, "f.blocks.0.qkv.weight": 4, "f.blocks.3.up.weight": 1, "f.norm.weight": 0}
    for name, above in {**depths, "h.linear.weight": 0}.items():
        assert moved[name] == pytest.approx(1e-2 * (0.5**above if kind == "sl" else 1), rel=1e-2), name


def test_averaged_weights_follow_by_their_half_life(digits: DigitsOf) -> None:
    asked = of(digits, ema=0.25)
    state, runtime = asked.state(), asked.runtime()
    decay = optim.decay_of(0.25, asked.plan.num_steps)
    assert decay ** (0.25 * asked.plan.num_steps) == pytest.approx(0.5)
    name = "f.blocks.0.qkv.weight"
    expected = dict(state.model.named_parameters())[name].detach().clone()
    feed, step = Feed(asked.plan, asked.splits, runtime), stepper(asked.plan, asked.plan.kinds, state, runtime)
    for kind, batch in feed.batches(segment(asked.plan, 0, 3, False)):
        step(kind, batch, torch.tensor(1e-3), torch.tensor(1.0))
        expected = decay * expected + (1 - decay) * dict(state.model.named_parameters())[name].detach()
    assert state.averaged is not None
    torch.testing.assert_close(dict(state.averaged.named_parameters())[name], expected)
    assert not any(p.requires_grad for p in state.averaged.parameters())


@pytest.mark.parametrize("which", ["raw", "ema"])
def test_both_weights_are_evaluated(digits: DigitsOf, which: str) -> None:
    asked = digits(
        schedule=PHASES, optim={"batch": 24, "lr": 2e-3, "ema": "2%"}, evaluate={"every": 0.3, "weights": which}
    )
    outcome, heard = asked.run()
    assert set(outcome.correct) == {"raw", "ema"}
    assert [r.select_ema_top1 is None for r in heard.reports] == [r.select_top1 is None for r in heard.reports]
    assert any(r.select_ema_top1 for r in heard.reports)


def test_a_restart_of_the_optimizer_keeps_its_tensors(digits: DigitsOf) -> None:
    asked = of(digits)
    state, runtime = asked.state(), asked.runtime()
    trained(asked, state, runtime, steps=3)
    before = {id(value) for entry in state.optimizer.state.values() for value in entry.values()}
    optim.restart(state.optimizer)
    after = [value for entry in state.optimizer.state.values() for value in entry.values()]
    assert {id(value) for value in after} == before
    assert not any(value.any() for value in after)


def test_loading_keeps_tensors_where_they_are(digits: DigitsOf) -> None:
    asked = of(digits, ema=0.1)
    state = asked.state()
    saved, places = state.snapshot(), {name: value.data_ptr() for name, value in state.tensors().items()}
    trained(asked, state, asked.runtime(), steps=2)
    state.load(saved)
    assert {name: value.data_ptr() for name, value in state.tensors().items()} == places
    assert all(torch.equal(value, saved[name]) for name, value in state.tensors().items())


def test_only_the_compiled_are_compiled(digits: DigitsOf) -> None:
    asked = of(digits)
    state = asked.state()
    compiling.apply(asked.plan.spec.speed, state.model, torch.device("cpu"), 1)
    assert "forward" not in vars(state.model.f.regions()[0]), "auto compiles nothing on a CPU"


@pytest.mark.gpu
@pytest.mark.parametrize("shared", ["masked", "full", "separate"])
@pytest.mark.parametrize(("accumulate", "drop_path"), [(1, 0.0), (2, 0.0), (1, 0.3)])
def test_replayed_steps_are_the_called_ones(digits: DigitsOf, shared: str, accumulate: int, drop_path: float) -> None:
    """All kinds, phase changes and a restart of the optimizer; the same draws, so the losses agree to rounding."""
    _replays(
        digits,
        schedule={**PHASES, "ssl_epochs": 4, "sl_epochs": 4, "shared_pass": shared},
        optim={"batch": 24, "lr": 1e-3, "restart": "phase", "accumulate": accumulate, "ema": "5%", "clip": 1.0},
        backbone={"size": "nano", "patch": 2, "drop_path": drop_path},
    )


@pytest.mark.gpu
@pytest.mark.parametrize("field", ["shrink", "lora"])
def test_masks_and_adapters_are_replayed(digits: DigitsOf, field: str) -> None:
    """Units are masked in the midst of the SL phase, between two replays; adapters learn in its steps alone."""
    if field == "lora":
        pytest.importorskip("peft")
    sections = {"shrink": {"mlp": 0.5, "heads": 0.25, "after": 0.4}, "lora": {"rank": 2}}
    schedule = {**PHASES, "ssl_epochs": 4, "sl_epochs": 4, "shared_pass": "masked"}
    _replays(digits, schedule=schedule, optim={"batch": 24, "lr": 1e-3}, **{field: sections[field]})


def _replays(digits: DigitsOf, **sections: Any) -> None:
    """A job's losses with its steps called, and with them replayed, are the same."""
    from raymix.local import LocalRuntime
    from raymix.train.cache import Cache
    from raymix.train.execute import execute
    from raymix.train.task import Task
    from raymix.watch import Sinks

    device, losses = torch.device("cuda", 0), {}
    for name, speed in {"called": {"compile": "off", "replay": "off"}, "replayed": {"compile": "off"}}.items():
        asked = digits(**sections, speed=speed)
        runtime = LocalRuntime(Cache(asked.images, device), device, Sinks(()))
        history: History = execute(Task("digits", asked.plan, asked.splits, asked.rates(5)), runtime).history
        losses[name] = torch.tensor([[r.ssl_loss or 0, r.sl_loss or 0] for r in history.reports])
    assert (losses["called"] > 0).any(0).all(), "both losses were reported"
    torch.testing.assert_close(losses["replayed"], losses["called"], rtol=0.02, atol=0.02)


@pytest.mark.gpu
def test_evaluation_between_replayed_steps_takes_their_memory() -> None:
    """And harms nothing: the steps after it are those of a run that evaluates nothing."""
    from raymix.bench.setting import Dataset, RaymixLoop, job
    from raymix.train.evaluate import evaluate

    device, grown, losses = torch.device("cuda", 0), {}, {}
    spec = job(device)
    spec = spec.model_copy(update={"speed": spec.speed.model_copy(update={"compile": "off"})})
    data = Dataset(spec, num_rows=1024)
    for name in ("nothing", "between", "beside"):
        loop = RaymixLoop(spec, "sl", data, device)
        loop.run(4)
        before = torch.cuda.memory_reserved()
        for _ in range(0 if name == "nothing" else 2):
            with loop.step.between() if name == "between" else nullcontext():
                evaluate(loop.planned, loop.state.model, data.splits().train, data.labels, loop.runtime)
        grown[name] = torch.cuda.memory_reserved() - before
        losses[name] = loop.run(8)
    assert grown["between"] <= 2 * 2**20 < 32 * 2**20 < grown["beside"]
    assert losses["between"] == pytest.approx(losses["nothing"], rel=1e-3)
