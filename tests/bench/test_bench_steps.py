"""`raymix bench steps` times every step kind, counts its FLOPs, and says what mixing costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from raymix.bench import setting, steps
from raymix.bench.chips import peak
from raymix.bench.rows import RATIOS, ROWS, flops, with_row
from raymix.cli import app
from raymix.jobfile import load_spec
from raymix.plan import Kind
from raymix.spec import VIT_SIZES, JobError, JobSpec
from raymix.train import measure

CPU = torch.device("cpu")


def small(**sections: Any) -> JobSpec:
    """A job whose steps take milliseconds."""
    return load_spec(
        {
            "name": "bench",
            "data": {"train": {"format": "digits"}, "image_size": 8},
            "backbone": {"type": "vit", "size": "nano", "patch": 2},
            "objective": {"type": "mae", "mask_ratio": 0.75, "decoder_width": 32, "decoder_depth": 1},
            "optim": {"batch": 16},
            "cluster": {"workers": 0},
            **sections,
        }
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short windows, and next to nothing measured beforehand: both are of other tests."""
    monkeypatch.setattr(steps, "WINDOW_SECONDS", 0.01)
    monkeypatch.setattr(measure, "TIMED", 1)
    monkeypatch.setattr(measure, "EVALUATED_SECONDS", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("augment", [True, False])
def test_every_row_is_measured(augment: bool) -> None:
    result = json.loads(json.dumps(steps.measure(small(), list(ROWS), ["eager"], CPU, 2, augment)))
    assert set(result["rows"]) == {row.name for row in ROWS}
    for row in result["rows"].values():
        assert row["images_per_second"] == pytest.approx(16 / row["ms"] * 1000)
        assert len(row["vs_eager"]["ratios"]) == 2
    for mix, ssl in RATIOS:
        ms = {name: row["ms"] for name, row in result["rows"].items()}
        assert result["ratios"][mix]["same"] == pytest.approx(ms[mix] / (ms[ssl] + ms["sl"]))
        assert result["ratios"][mix]["cheapest"] >= result["ratios"][mix]["same"] * 0.999


def test_the_plain_loop_is_a_rival_where_it_has_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled, which takes long for each block."""
    monkeypatch.setitem(VIT_SIZES, "nano", (16, 1, 2))
    chosen = [row for row in ROWS if row.name in ("sl", "mix full")]
    result = steps.measure(small(speed={"compile": "off"}), chosen, ["plain"], CPU, 1, True)
    assert "vs_plain" in result["rows"]["sl"]
    assert "vs_plain" not in result["rows"]["mix full"]


@pytest.mark.parametrize("kind", ["sl", "ssl"])
def test_flops_are_those_of_the_matrix_products(kind: Kind) -> None:
    """Two for each weight and token forward, four backward (the first layer needs no gradient of its input)."""
    spec, batch, width, depth = small(), 16, 64, 4
    found = flops(spec, kind)
    assert found is not None
    if kind == "sl":
        tokens, patch = 16 * batch, 2 * 2 * 3
        layers = 6 * tokens * depth * (4 * width**2 + 8 * width**2)
        embed, head = 4 * tokens * patch * width, 6 * batch * width * setting.NUM_CLASSES
        attention = found - layers - embed - head
        assert 0 <= attention <= 0.05 * layers + 14 * batch * depth * 16**2 * width
    else:
        assert found < 0.6 * (flops(spec, "sl") or 0), "a quarter of the tokens, and a narrow decoder"


def test_rows_are_jobs_of_their_own() -> None:
    spec = small()
    assert {with_row(spec, row).objective.type for row in ROWS} == {"mae", "simclr"}
    assert with_row(spec, ROWS[0]).backbone == spec.backbone


def test_command_prints_a_table_and_refuses_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "job", lambda device, steps: small())
    command = ["bench", "steps", "--windows", "1", "--device", "cpu", "--only", "sl", "--only", "ssl"]
    run = CliRunner().invoke(app, [*command, "--only", "mix masked", "--set", "optim.batch=8"])
    assert run.exit_code == 0, run.output
    assert "t_mix / (t_ssl + t_sl) =" in " ".join(run.stdout.split())
    for arguments, message in (
        (["--only", "nothing"], "--only: nothing is none of sl"),
        (["--vs", "jax"], "--vs: jax"),
    ):
        with pytest.raises(JobError, match=message):
            CliRunner().invoke(app, [*command, *arguments], catch_exceptions=False)
    assert peak(CPU) is None
