"""Workers' processes that a node cannot start, and those that it starts though a shell would not find them."""

from __future__ import annotations

import copy
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.on_ray import group
from tests.conftest import JOB

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]


def _job(tmp_path: Path, **failures: Any) -> dict[str, Any]:
    return {
        **copy.deepcopy(JOB),
        "storage": str(tmp_path / "runs"),
        "schedule": {"ssl_epochs": 0, "sl_epochs": 1, "mix_ratio": 0},
        "cluster": {"workers": 2},
        "failures": {"backoff": 0, **failures},
    }


def test_a_python_in_a_folder_with_a_space_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "my projects" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho started >> {tmp_path}/starts\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert raymix.run(_job(tmp_path), quiet=True).status == "done"
    assert (tmp_path / "starts").read_text().count("started") == 2


def test_processes_that_end_as_they_start_are_told_and_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no such folder" / "python"))
    monkeypatch.setattr(group, "TELL_SECONDS", 3.0)
    with pytest.raises(raymix.RunFailed) as failed:
        raymix.run(_job(tmp_path, hang_outside="6s", max_restarts=1))
    why = r"not all of 2 workers came in {} s, though there is room for them: .*; \S+/logs/raylet\.err on \S+ tells"
    assert re.search(why.format(6), str(failed.value))
    told = capsys.readouterr().err
    assert len(re.findall(f"^{why.format(3)}$", told, re.M)) == 2  # of each group
    assert len(re.findall(f"^{why.format(6)}; restart 1 of 1 in 0 s$", told, re.M)) == 1
