"""The benchmark's two loops do the same work, and what it prints can be read by a program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from raymix.bench import loop, setting
from raymix.cli import app
from raymix.plan import Kind
from raymix.spec import Data, DigitsSource, JobError, JobSpec, Mae, Optim, Vit

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(batch: int = 32) -> JobSpec:
    """A job whose steps take milliseconds."""
    return JobSpec(
        name="bench-loop",
        data=Data(train=DigitsSource(format="digits"), image_size=8),
        backbone=Vit(size="nano", patch=2),
        objective=Mae(type="mae", mask_ratio=0.75, mix_mask_ratio=0.5, decoder_width=32, decoder_depth=1),
        optim=Optim(batch=batch),
    )


@pytest.mark.parametrize("kind", setting.KINDS)
def test_both_loops_do_the_same_work(kind: Kind) -> None:
    """From equal weights the same parameters move, about as far, to about the same loss; only the draws differ."""
    spec, steps = small(), 20
    data = setting.Dataset(spec, 320)
    raymix, plain = setting.RaymixLoop(spec, kind, data, CPU), setting.plain_loop(spec, kind, data, CPU)
    before = {name: p.detach().clone() for name, p in plain.model.named_parameters()}
    assert all(torch.equal(p, before[name]) for name, p in raymix.state.model.named_parameters())
    torch.manual_seed(0)
    first, losses = ([side.run(steps) for side in (raymix, plain)] for _ in range(2))
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[0] < first[0]
    assert losses[1] < first[1]
    distances = {}
    for side, model in (("raymix", raymix.state.model), ("plain", plain.model)):
        moved = {name: float((p.detach() - before[name]).norm()) for name, p in model.named_parameters()}
        distances[side] = {name: distance for name, distance in moved.items() if distance > 0}
    assert distances["raymix"].keys() == distances["plain"].keys()
    assert sum(distances["raymix"].values()) == pytest.approx(sum(distances["plain"].values()), rel=0.15)


def test_result_has_a_ratio_for_each_kind_and_one_for_all() -> None:
    result: dict[str, Any] = json.loads(json.dumps(loop.measure(small(), CPU, windows=2, window_seconds=0.02)))
    assert result["ratio"] > 0
    assert set(result["kinds"]) == {"ssl", "mix", "sl"}
    for row in result["kinds"].values():
        assert len(row["ratios"]) == 2
        assert row["ratio"] == pytest.approx(sum(row["ratios"]) / 2)
        assert row["raymix_images_per_second"] == pytest.approx(1000 * 32 / row["raymix_t_ms"])
        assert row["plain_images_per_second"] == pytest.approx(1000 * 32 / row["plain_t_ms"])
        assert row["steps"] >= 2
    assert (result["windows"], result["device"], result["batch"], result["threads"]) == (2, "cpu", 32, 1)
    assert "ViT-Nano" in result["model"]
    assert result["device_name"]


def test_command_prints_json_alone_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "WINDOW_SECONDS", {"cpu": 0.02})
    monkeypatch.setattr(loop, "CPU_THREADS", 1)  # two would wait for each other where tests share the cores
    monkeypatch.setattr(loop, "job", lambda device: small())
    run = CliRunner().invoke(app, ["bench", "loop", "--windows", "1", "--device", "cpu", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["windows"] == 1
    run = CliRunner().invoke(app, ["bench", "loop", "--windows", "1", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    text = " ".join(run.stdout.split())
    assert "plain images/s" in text
    assert "of the speed of a plain PyTorch loop that takes as many steps" in text
    assert text.endswith("a step kind on CPU, threads: 1.")


def test_unknown_device_is_refused() -> None:
    with pytest.raises(JobError, match="none of cpu, cuda, auto"):
        loop.main(windows=1, device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(JobError, match="no GPU"):
        loop.main(windows=1, device="cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_settings_are_jobs_that_can_run(device: str) -> None:
    spec = setting.job(torch.device(device))
    for kind in setting.KINDS:
        assert setting.plan(spec, kind, 37, 2000).num_steps == 37
