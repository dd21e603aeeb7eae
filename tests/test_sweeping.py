"""A sweep: what its cells share and have of their own, what is refused before it starts, and how it goes on."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymix.api import sweep as run_sweep
from raymix.jobfile import load_spec
from raymix.report.folder import read_pilot, read_sweep
from raymix.signals import Interrupted
from raymix.spec import JobError
from tests.conftest import Raymix
from tests.report.sweeps import make_sweep


@pytest.fixture
def job(image_tree: Callable[..., Path], digits_job: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A sweep over labels on 120 drawn images of three classes: two cells of two runs."""
    return {
        **digits_job,
        "name": "drawn",
        "storage": str(tmp_path / "runs"),
        "data": {
            "train": {"format": "image_folder", "path": str(image_tree(tmp_path / "images", per_class=40))},
            "holdout": 0.25,
            "image_size": 16,
        },
        "backbone": {"size": "nano", "patch": 4},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 1},
        "optim": {"batch": 24},
        "pilot": {"preset": "quick", "arms": ["sl", "mix"]},
        "sweep": {"data.label_fraction": [1.0, 0.2]},
    }


def test_a_sweep_is_a_pilot_for_each_share_and_goes_on_where_it_ended(job: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "drawn"
    with pytest.MonkeyPatch.context() as patch:
        _signal_in_cell(patch, 1)
        with pytest.raises(Interrupted, match="--resume goes on") as stop:
            run_sweep(job, quiet=True)
    assert read_sweep(folder) == stop.value.report
    assert [cell.status for cell in read_sweep(folder).cells] == ["done", "interrupted"]
    assert "1 of 2 cells" in (folder / "report.html").read_text()
    with pytest.raises(JobError, match=r"name: .* is already used"):
        run_sweep(job, quiet=True)
    first = read_pilot(folder / "cells" / "label_fraction-0.2")

    report = run_sweep(job, resume=True, quiet=True)
    assert read_pilot(folder / "cells" / "label_fraction-0.2") == first, "not run again"
    assert read_sweep(folder) == report
    assert report.status == "done"
    few, all_ = report.cells
    assert (few.label_fraction, all_.label_fraction) == (0.2, 1.0), "the smallest share first"
    assert (few.num_labelled, all_.num_labelled) == (15, 81), "of 18 and 90, less the select rows"
    pilots = [read_pilot(folder / cell.folder) for cell in report.cells]
    assert [pilot.unit_seconds for pilot in pilots] == [cell.unit_seconds for cell in report.cells]
    assert pilots[0].unit_seconds != pilots[1].unit_seconds, "each has its own T"
    assert {tuple(pilot.arms) for pilot in pilots} == {("sl", "mix")}
    assert {pilot.num_val for pilot in pilots} == {report.num_val}
    assert [line.labels for line in report.lines] == [(15, 81)]
    assert not report.decided
    assert report.worker_seconds > sum(cell.worker_seconds for cell in report.cells) > 0
    assert report.wall_seconds > stop.value.report.wall_seconds

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("runs/*/report.json")}
    assert len(before) == 4
    grown = {**job, "sweep": {"data.label_fraction": [0.2, 0.5, 1.0]}}
    more = run_sweep(grown, resume=True, quiet=True)
    assert [(cell.label_fraction, cell.status) for cell in more.cells] == [(0.2, "done"), (0.5, "done"), (1.0, "done")]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a grid may grow; what is done stays"
    assert [line.labels for line in more.lines] == [(15, 41, 81)]


def _signal_in_cell(patch: pytest.MonkeyPatch, number: int) -> None:
    """A signal comes in the first run of a cell, counted from nought."""
    from raymix import sweeping

    compare, begun = sweeping.compare, []

    def signalled(*arguments: Any) -> Any:
        begun.append(1)
        if len(begun) == number + 1:
            signal.raise_signal(signal.SIGINT)
        return compare(*arguments)

    patch.setattr(sweeping, "compare", signalled)


def test_raymix_report_knows_a_sweep(raymix: Raymix, tmp_path: Path) -> None:
    folder = tmp_path / "demo-sweep"
    folder.mkdir()
    done = make_sweep(lambda _, share: {"sl": 9 + 9 * share, "mix": 16}, num_val=500)
    (folder / "sweep.json").write_text(done.model_dump_json())
    assert "Labels saved, at T" not in (shown := raymix("report", folder)).out
    assert "sl needs" in shown.out
    assert "Labels saved, at T" in (folder / "report.html").read_text()
    for form, part in (("md", "### Labels saved"), ("csv", "fraction,label_fraction"), ("json", '"decided": true')):
        assert part in raymix("report", folder, "--format", form).out
    refused = raymix("report", folder, "--compare")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        f"error: {folder}: is a sweep (--compare takes runs and pilots, as its cells are)",
    )


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        (None, "sweep: missing: it says at which shares of images and labels (as in sweep:"),
        (
            {"data.label_fraction": [1.0, 0.01]},
            "sweep.data.label_fraction: 0.01 leaves class 'class.' without a row, at data.label_fraction 0.01 (set",
        ),
        (
            {"data.fraction": [0.01], "data.label_fraction": [1.0]},
            "sweep.data.fraction: 0.01 leaves class 'class.' without a row, at data.fraction 0.01 and",
        ),
        (
            {"data.fraction": [0.5], "data.label_fraction": [0.1]},
            "sweep.data.label_fraction: class 'class.' has one labelled row, too few to train on and to choose with",
        ),
    ],
)
def test_a_share_that_leaves_a_class_empty_starts_nothing(job: dict[str, Any], sweep: Any, line: str) -> None:
    with pytest.raises(JobError) as refused:
        run_sweep({**job, "sweep": sweep}, quiet=True)
    assert re.match(re.escape(line).replace(r"class\.", "class[0-2]"), str(refused.value)), refused.value
    assert str(refused.value).isprintable()
    assert not Path(job["storage"]).exists()


def test_cells_share_val_and_smaller_ones_lie_within_larger_ones(job: dict[str, Any]) -> None:
    from raymix.runner import check

    splits = {
        share: check(load_spec(job, [f"data.label_fraction={share}", "data.select=0"])).splits
        for share in (0.2, 0.5, 1)
    }
    assert np.isin(splits[0.2].labelled, splits[0.5].labelled).all()
    assert np.isin(splits[0.5].labelled, splits[1].labelled).all()
    for share in (0.2, 0.5):
        np.testing.assert_array_equal(splits[share].val, splits[1].val)
        np.testing.assert_array_equal(splits[share].train, splits[1].train)
