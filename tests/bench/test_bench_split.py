"""`raymix bench split`: every row spends the same training seconds, and a second call runs only what is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from raymix.bench.split import ADAPTIVE, GRID, Cell, cell_spec
from raymix.cli import app
from raymix.jobfile import load_spec
from raymix.spec import JobError

DATA = {"train": {"format": "digits"}, "image_size": 8, "holdout": 0.2, "select": 0.2, "fraction": 0.5}


def job(**sections: Any) -> dict[str, Any]:
    return {
        "name": "study",
        "data": DATA,
        "backbone": {"type": "vit", "size": "nano", "patch": 2},
        "objective": {"type": "mae", "mask_ratio": 0.75, "decoder_width": 32, "decoder_depth": 1},
        "schedule": {"policy": "fixed", "ssl_epochs": 4, "sl_epochs": 4, "weight": {"linear": [1, 0]}},
        "optim": {"batch": 24},
        "cluster": {"workers": 0},
        **sections,
    }


@pytest.mark.parametrize("row", [*GRID, ADAPTIVE])
def test_a_row_differs_by_its_schedule_and_budget_alone(row: str) -> None:
    spec = load_spec(job())
    made = cell_spec(spec, Cell(row, 0.5, 3), 40.0)
    assert made.budget is not None
    assert (made.budget.training, made.seed) == (20.0, 3)
    assert made.schedule.weight == spec.schedule.weight
    assert made.optim.restart == ("phase" if row == "rho 0" else spec.optim.restart)
    same = {name: getattr(made, name) for name in ("data", "backbone", "objective", "speed", "evaluate", "cluster")}
    assert same == {name: getattr(spec, name) for name in same}


def test_names_of_folders_differ() -> None:
    assert len({Cell(row, 1.0, 0).name for row in (*GRID, ADAPTIVE)}) == len(GRID) + 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--only", "rho 9"], "there is no row rho 9"),
        (["--set", "budget.wall=1h"], "the rows bring their own"),
        (["--set", "schedule.policy=adaptive"], "schedule"),
        (["--set", "data.select=0"], "select"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, arguments: list[str], line: str) -> None:
    told = CliRunner().invoke(app, ["bench", "split", *written(tmp_path), *arguments])
    assert isinstance(told.exception, JobError)
    assert line in str(told.exception)
    assert not (tmp_path / "runs").exists()


def written(folder: Path) -> list[str]:
    file = folder / "job.yaml"
    file.write_text(json.dumps(job(storage=str(folder / "runs"))))
    return [str(file)]


def test_rows_at_equal_training_seconds(tmp_path: Path) -> None:
    asked = ["--only", ADAPTIVE, "--only", "rho 0.5", "--length", "1", "--seed", "0", "--json"]
    told = CliRunner().invoke(app, ["bench", "split", *written(tmp_path), *asked], catch_exceptions=False)
    found = json.loads(told.stdout[told.stdout.index("{\n") :])
    rows = found["lengths"]["1"]["rows"]
    assert set(rows) == {ADAPTIVE, "rho 0.5"}
    for row in rows.values():
        assert math.isclose(sum(row["shares"].values()), 1)
        assert set(row["spent_over_asked"]) == {"0"}
        assert 0 <= row["top1"] <= 100
    reports = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "study" / "runs").glob("*/report.json")}
    pair = rows["rho 0.5"]["adaptive_minus_this"]
    assert pair["low"] <= pair["value"] <= pair["high"]
    again = CliRunner().invoke(app, ["bench", "split", *written(tmp_path), *asked], catch_exceptions=False)
    assert json.loads(again.stdout) == found
    assert all(path.stat().st_mtime_ns == before for path, before in reports.items()), "nothing ran twice"
