"""A search whose driver is killed again and again, and one that is interrupted."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.jobfile import load_spec
from raymix.search.board import Board
from raymix.search.journal import JOURNAL_FILE, Journal
from raymix.search.trial import Trial
from tests.conftest import JOB, REPOSITORY
from tests.on_ray import objectives
from tests.on_ray.commands import SECONDS, started

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
KILLS = 10


def lines(folder: Path) -> list[dict[str, Any]]:
    """The journal's whole lines."""
    file = folder / JOURNAL_FILE
    text = file.read_text() if file.is_file() else ""
    return [json.loads(line)["trial"] for line in text[: text.rfind("\n") + 1].splitlines()]


def num_done(folder: Path) -> int:
    return sum(trial["status"] == "done" for trial in lines(folder))


def unbroken(folder: Path) -> list[Trial]:
    """The trials of the same search that nothing happens to, without Ray."""
    folder.mkdir()
    tune = load_spec(objectives.job(folder, trials=objectives.POINTS)).tune
    assert tune is not None
    board = Board(tune, {"": tune.space}, Journal(folder), lambda arm, values: None, lambda: 0.0)
    while (trial := board.next()) is not None:
        board.finish(trial.model_copy(update={"status": "done", "select_top1": objectives.top1_of(trial.values)}))
    return list(board.trials)


@pytest.mark.timeout(400)
def test_forty_points_killed_ten_times(tmp_path: Path) -> None:
    """All forty finish, none twice, and the best is that of the unbroken search."""
    temporary = Path(tempfile.mkdtemp(prefix="rx"))  # a short path, for Ray's sockets
    environment = {**os.environ, "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)}
    command, folder = [sys.executable, "-m", "tests.on_ray.objectives", str(tmp_path)], tmp_path / "digits"
    for _ in range(KILLS):
        with (tmp_path / "err.txt").open("a") as err:
            driver = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=err, stderr=err)
        before, until = num_done(folder), time.monotonic() + SECONDS
        while num_done(folder) < before + 2:
            assert driver.poll() is None, (tmp_path / "err.txt").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert 2 * KILLS <= num_done(folder) < objectives.POINTS
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True)
    shutil.rmtree(temporary, ignore_errors=True)

    report = json.loads((folder / "search.json").read_text())
    whole = unbroken(tmp_path / "unbroken")
    assert [trial["status"] for trial in report["trials"]] == ["done"] * objectives.POINTS
    assert [trial["values"] for trial in report["trials"]] == [trial.values for trial in whole]
    assert report["best"]["values"] == max(whole, key=lambda trial: trial.select_top1 or 0).values
    finished = (folder / objectives.FINISHED).read_text().split()
    assert sorted(map(int, finished)) == list(range(objectives.POINTS)), "each once"
    done = [trial["number"] for trial in lines(folder) if trial["status"] == "done"]
    assert sorted(done) == list(range(objectives.POINTS)), "each once"


def test_ctrl_c_keeps_finished_trials_and_the_search_goes_on(tmp_path: Path) -> None:
    job = {**copy.deepcopy(JOB), "storage": str(tmp_path), "schedule": {"ssl_epochs": 6, "sl_epochs": 6}}
    job["evaluate"] = {"every": 0.1}
    job["tune"] = {"trials": 4, "space": {"optim.lr": {"loguniform": [1e-3, 1e-2]}}, "concurrent": 1}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    folder = tmp_path / "digits"
    with started("tune", str(tmp_path / "job.yaml")) as command:
        until = time.monotonic() + SECONDS
        # in the midst of the second trial
        while num_done(folder) < 1 or not (folder / "trials" / "0001" / "metrics.jsonl").is_file():
            assert command.process.poll() is None, command.err
            assert time.monotonic() < until, command.err
            time.sleep(0.05)
        command.interrupt()
        assert command.end() == 130, command.err
        assert command.err[-1] == f"interrupted: finished trials are kept; --resume goes on from {folder}"
        assert not [line for line in command.err if "Traceback" in line]
        assert command.left() == []
    first = json.loads((folder / "search.json").read_text())
    assert first["status"] == "interrupted"
    assert [trial["status"] for trial in first["trials"]] == ["done", "interrupted"]
    with started("tune", str(tmp_path / "job.yaml"), "--resume") as command:
        assert command.end() == 0, command.err
    report = json.loads((folder / "search.json").read_text())
    assert [trial["status"] for trial in report["trials"]] == ["done"] * 4
    assert report["trials"][0] == first["trials"][0]
    second = json.loads((folder / "trials" / "0001" / "report.json").read_text())
    assert second["attempts"] == 2, "from its checkpoint"
