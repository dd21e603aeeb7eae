"""A run on images of lots, some of them alike: whole lots judge, what looks alike is counted and listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raymix import load_model
from raymix.data.decode import decode
from raymix.data.frame import Frame
from raymix.jobfile import load_spec
from raymix.report.html import page
from raymix.report.run import RunReport
from raymix.runner import run
from raymix.spec import JobSpec
from raymix.train import measure
from raymix.train.exported import Transform
from tests.conftest import Raymix


@pytest.fixture(autouse=True)
def _measured_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TIMED", 2)


@pytest.fixture
def lots(tmp_path: Path) -> Path:
    """Two classes, ten lots of four images each; those of lots 5 apart differ by a grey level here and there."""
    generator = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "parts" / label).mkdir(parents=True)
        for number in range(40):
            lot = number % 10
            drawn = np.random.default_rng(number // 10 * 5 + lot % 5 + 100 * "ab".index(label))
            blocks = drawn.integers(0, 250, (6, 6, 3)).repeat(4, 0).repeat(4, 1)
            noise = generator.integers(0, 3, blocks.shape)
            Image.fromarray((blocks + noise).astype(np.uint8)).save(tmp_path / f"parts/{label}/lot{lot}_{number}.png")
    return tmp_path / "parts"


@pytest.fixture
def spec_of(lots: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    def made(*overrides: str) -> JobSpec:
        job: dict[str, Any] = {
            "name": "parts",
            "storage": str(tmp_path / "runs"),
            "data": {
                "train": {"format": "image_folder", "path": str(lots)},
                "group": {"pattern": r"lot(\d+)"},
                "near_duplicates": 4,
                "image_size": 16,
                "holdout": 0.2,
                "select": 0.2,
            },
            "backbone": {"type": "vit", "size": "nano", "patch": 8},
            "schedule": {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0},
            "optim": {"batch": 16},
            "cluster": {"workers": 0},
        }
        return load_spec(job, overrides)

    return made


def test_a_run_of_lots(spec_of: Callable[..., JobSpec], lots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_of()
    report = run(spec)
    folder = Path(spec.storage) / spec.name
    groups, near = report.rows.groups, report.rows.near
    assert groups is not None
    assert (groups.train, groups.select, groups.val) == (6, 2, 2)
    assert (report.rows.train, report.rows.select, report.rows.val) == (48, 16, 16)
    listed = [line.split("\t") for line in (folder / "near_duplicates.tsv").read_text().splitlines()]
    assert listed[0] == ["part", "path", "train path", "distance"]
    assert near is not None
    assert (near.val, near.select) == tuple(sum(line[0] == part for line in listed) for part in ("val", "select"))
    assert near.val + near.select > 0
    assert near.without == 0
    for part, path, like, distance in listed[1:]:
        assert part in ("val", "select")
        assert (int(Path(path).name[3]) - int(Path(like).name[3])) % 10 == 5
        assert int(distance) <= 4
    assert RunReport.model_validate_json((folder / "report.json").read_bytes()) == report
    told = capsys.readouterr().err
    assert told.count("near-duplicates: ") == 1
    shown = page(folder, report)
    assert "groups: val" in shown
    assert "near-duplicates: val" in shown
    asked = json.loads((folder / "resolved.json").read_text())["data"]
    assert asked["group"] == {"pattern": r"lot(\d+)"}
    assert run(spec, resume=True) == report
    region = (0.5, 0.25, 1.0, 0.75)
    streamed = run(spec_of("name=streamed", "data.cache=stream", f"data.region={list(region)}"))
    assert streamed.rows.near is None
    assert "not looked for in a stream; `raymix data check` does" in capsys.readouterr().err
    assert streamed.rows.groups == groups
    model = load_model(Path(spec.storage) / "streamed")
    image = next(lots.glob("a/*.png"))
    assert model.frame == Frame(16, region=region)
    assert (model.transform(image).numpy() == decode(image.read_bytes(), model.frame)).all()
    told = Transform.of(model.frame)
    assert Transform.model_validate_json(told.model_dump_json()).frame == model.frame


def test_the_check_tells_them_too(lots: Path, raymix: Raymix) -> None:
    pattern = "data.group={pattern: 'lot(\\d+)'}"
    command = ("data", "check", str(lots), "--local", "--set", pattern)
    told = raymix(*command, "--set", "data.near_duplicates=4")
    assert told.code == 0
    assert "in 10 groups" in told.out
    assert "like a training image" in told.out
    assert "looks alike" in told.out
    assert "near-duplicates" not in raymix(*command).out
