"""Parts leave the backbone at their step of the SL phase, whatever a run went through; what is loaded lacks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_runs import CPU, Digits
from test_resume import hashes

import raymix
from raymix.method.backbones import shrinking
from raymix.policy import unroll
from raymix.train import checkpoint, measure
from raymix.train.state import TrainState
from tests.conftest import spec_in

SHRINK = {"mlp": 0.5, "heads": 0.25, "after": 0.4}
SECTIONS = {
    "shrink": SHRINK,
    "lora": {"rank": 2},
    "schedule": {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0.5},
    "optim": {"batch": 24, "lr": 2e-3, "ema": 0.1, "accumulate": 2},
}


def gates(folder: Path, name: str) -> dict[str, torch.Tensor]:
    tensors = safetensors.torch.load_file(folder / name / checkpoint.TENSORS)
    return {key: value for key, value in tensors.items() if key.endswith((".units", ".channels"))}


def test_a_run_that_is_resumed_before_and_after_is_the_unbroken_one(
    digits: Callable[..., Digits], tmp_path: Path
) -> None:
    asked = digits(**SECTIONS, evaluate={"every": 0})
    plan, rates = asked.plan, asked.rates(2)
    last = plan.phases[-1]
    assert plan.shrinks_at == last.start + round(0.4 * last.steps) > last.start
    starts = [segment.start for segment in unroll(plan, rates)]
    at = starts.index(plan.shrinks_at)
    assert 0 < at < len(starts) - 1
    whole, _ = asked.run(tmp_path / "whole", rates=rates)
    seen = []
    for stop in (at, 1):
        asked.run(tmp_path / "parts", stop_after=stop, rates=rates)
        seen.append(gates(tmp_path / "parts", checkpoint.names(tmp_path / "parts")[0]))
    rest, _ = asked.run(tmp_path / "parts", rates=rates)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    assert (rest.correct["ema"] == whole.correct["ema"]).all()
    assert all(bool((gate == 1).all()) for gate in seen[0].values())
    final = gates(tmp_path / "parts", checkpoint.names(tmp_path / "parts")[0])
    assert final.keys() == seen[1].keys()
    assert len(final) == 2 * 2 * 4, "those of the weights and of the averaged ones"
    for name, gate in final.items():
        assert torch.equal(gate, seen[1][name])
        assert float(gate.mean()) == (0.5 if name.endswith("units") else 0.75)
        assert torch.equal(gate, final[name.replace("ema.", "model.")])


def test_what_is_loaded_and_exported_is_smaller_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a run's own command: the masked model with adapters, as its checkpoint has it, and what is made of it."""
    monkeypatch.setattr(measure, "TIMED", 1)
    report = raymix.run(spec_in(tmp_path, **{**SECTIONS, "optim": {"batch": 24, "lr": 2e-3}}), quiet=True)
    folder = tmp_path / "runs" / "digits"
    model = raymix.load_model(folder)
    assert shrinking.size_of(model.model.f.blocks[0]) == (128, 3)
    assert not [name for name in model.state_dict() if "lora" in name or "units" in name]

    from raymix.plan import Plan

    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    state = TrainState.fresh(plan, CPU)
    checkpoint.read(folder / "checkpoints" / checkpoint.names(folder / "checkpoints")[0], state)
    assert state.history.done_steps == plan.num_steps
    images = torch.randint(0, 256, (16, 8, 8, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    masked = state.model.eval().classify(images)
    torch.testing.assert_close(model(images), masked, atol=1e-4, rtol=0)
    assert report.final is not None


def test_a_schedule_without_an_sl_phase_is_refused(digits: Callable[..., Digits]) -> None:
    for field in ("shrink", "lora"):
        with pytest.raises(raymix.JobError, match=f"{field}: is of the SL phase, and there is none"):
            digits(**{field: SECTIONS[field]}, schedule={"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 1})
