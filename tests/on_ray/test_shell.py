"""A Python in a folder with a space in its name, which Ray gives to a shell as several words."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import raymix
from raymix.on_ray.shell import quoted_python
from tests.conftest import REPOSITORY
from tests.on_ray.conftest import needs_plain_python, short_job

pytestmark = [pytest.mark.ray, needs_plain_python]

# what the interpreter takes for its own path, before anything else is imported
_COMMAND = "import sys; sys.executable = sys.argv.pop(1); from raymix.cli import app; app()"


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that writes each of its starts to `starts` beside its folder; this process takes it for its own."""
    path = tmp_path / "my projects" / "python"
    path.parent.mkdir()
    starts, real = shlex.quote(str(tmp_path / "starts")), shlex.quote(sys.executable)
    path.write_text(f'#!/bin/sh\necho started >> {starts}\nexec {real} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    return path


def test_one_without_a_space_is_left_alone() -> None:
    assert quoted_python() == {}


@pytest.mark.chaos  # a group of its own
@pytest.mark.usefixtures("attached")
def test_workers_start_on_a_ray_that_was_there(python: Path, tmp_path: Path) -> None:
    assert raymix.run(short_job(tmp_path), quiet=True).status == "done"
    assert (tmp_path / "starts").read_text().count("started") == 2


@pytest.mark.usefixtures("attached", "python")
def test_a_search_there_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    job = {
        **short_job(tmp_path),
        "tune": {"trials": 1, "space": {"optim.lr": {"choice": [1e-3, 2e-3]}}},
        "cluster": {"workers": 0},
    }
    job["data"]["select"] = 0.1
    with pytest.raises(
        raymix.JobError, match=r"ray\.init\(runtime_env=\{'py_executable': \"'.*my projects/python'\"\}"
    ):
        raymix.tune(job, quiet=True)
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.chaos  # two Rays of their own
@pytest.mark.parametrize("command", ["run", "tune"])
def test_a_ray_of_our_own_starts_it(
    command: str, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    job = {**short_job(tmp_path), "tune": {"trials": 1, "space": {"optim.lr": {"choice": [1e-3, 2e-3]}}}}
    job["data"]["select"] = 0.1
    if command == "run":
        del job["tune"]
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    words = [sys.executable, "-c", _COMMAND, str(python), command, str(file)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "starts").read_text().count("started") >= 2
