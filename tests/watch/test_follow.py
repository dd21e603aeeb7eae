"""A run watched by its files, while another process writes them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raymix.watch.follow import follow, running, standing
from tests.conftest import JOB, Raymix


def rows(folder: Path, *found: dict[str, Any], end: str = "\n") -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n".join(json.dumps(row) for row in found) + end)


def segment(step: int, **figures: Any) -> dict[str, Any]:
    return {"run": "x", "event": "segment", "step": step, "kind": "mix", "time": 1000.0 + step, **figures}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "x"
    made.mkdir()
    (made / "plan.json").write_text(json.dumps({"phases": [{"steps": 30}, {"steps": 10}]}))
    return made


def test_the_newest_figures_and_the_plan_as_it_is_now(folder: Path) -> None:
    assert standing(folder).line(0.0) == "x: no step yet"
    rows(folder, segment(10, ssl_loss=0.5, select_top1=20.0, images_per_second=1234.0))
    assert standing(folder).line(1011.0) == "x: step 10/40 (25%), mix, ssl loss 0.500, 1,234 img/s, select 20.0 %"
    rows(folder, {"run": "x", "event": "decision", "step": 10, "steps": [30, 20], "reason": "budget"}, segment(20))
    rows(folder, segment(30), end="")
    now = standing(folder)
    assert (now.step, now.num_steps) == (20, 50), "a row that is not whole is not there yet"
    assert now.row["select_top1"] == 20.0, "the last that was measured"
    assert now.line(1020.0 + 180).endswith("; silent for 3 min 00 s")


def test_an_earlier_attempts_report_is_not_its_end(folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps({"status": "interrupted", "final": None}))
    assert standing(folder).status == "interrupted"
    rows(folder, {**segment(10), "time": time.time() + 60})
    assert standing(folder).status == ""


def test_of_a_pilot_the_run_that_wrote_last(folder: Path, tmp_path: Path) -> None:
    assert running(folder) == folder
    (tmp_path / "plan.json").write_text((folder / "plan.json").read_text())
    assert running(tmp_path) == tmp_path, "none has begun"
    rows(folder, segment(10))
    assert running(tmp_path) == folder


def test_a_finished_pilot_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text((folder / "plan.json").read_text())
    rows(folder, segment(50))
    (folder / "report.json").write_text(json.dumps({"status": "done", "final": None}))

    def pause() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        list(follow(tmp_path, pause))
    (tmp_path / "pilot.json").write_text("{}")
    assert [now.status for now in follow(tmp_path, pause)] == ["done"]


def test_it_follows_another_process_to_its_end(tmp_path: Path, raymix: Raymix) -> None:
    job = {**JOB, "name": "seen", "storage": str(tmp_path), "evaluate": {"every": 0.1, "max_share": 1}}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    command = [sys.executable, "-m", "raymix", "run", str(tmp_path / "job.yaml")]
    trainer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (tmp_path / "seen").is_dir():
        assert time.monotonic() < until
        time.sleep(0.01)
    found = list(follow(tmp_path / "seen", lambda: time.sleep(0.01)))
    assert trainer.wait(60) == 0
    steps = [now.step for now in found]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2, "it was seen under way"
    assert (found[-1].status, found[-1].step) == ("done", found[-1].num_steps)
    told = raymix("runs", "watch", "seen", "--storage", tmp_path)
    assert (told.code, told.out) == (0, found[-1].line(0.0) + "\n")
    assert raymix("runs", "watch", "seen", "--storage", tmp_path, "--once").out == told.out
    assert raymix("runs", "watch", "none", "--storage", tmp_path).err.startswith("error: NAME: ")
