"""kill -9 in the midst of a pilot: of the only worker of a session that restarts none, of a session side by side."""

from __future__ import annotations

import copy
from pathlib import Path

import psutil
import pytest

import raymix
from raymix import runner
from raymix.report.history import SegmentReport
from raymix.watch.console import ConsoleSink
from tests.conftest import JOB

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


@pytest.mark.parametrize(("concurrent", "process"), [(1, "ray::RayTrainWorker"), (2, "ray::Side")])
def test_a_run_whose_process_is_killed_is_tried_again(
    concurrent: int,
    process: str,
    attached: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    killed: list[str] = []

    class Killing(ConsoleSink):
        def segment(self, run: str, report: SegmentReport) -> None:
            super().segment(run, report)
            if not killed:
                below = psutil.Process().children(recursive=True)
                names = [(one, " ".join(one.cmdline())) for one in below]
                one = next(one for one, name in names if name.startswith(process))
                one.kill()
                killed.append(run)

    monkeypatch.setattr(runner, "ConsoleSink", Killing)
    job = {
        **copy.deepcopy(JOB),
        "storage": str(tmp_path),
        "schedule": {"ssl_epochs": 8, "sl_epochs": 8, "mix_ratio": 0.5},
        "evaluate": {"every": 0.05, "max_share": 1},
        "checkpoint": {"every": 0},
        "cluster": {"workers": 1},
        "failures": {"max_restarts": 0},
        "pilot": {"preset": "quick", "arms": ["ssl_sl", "mix"], "concurrent": concurrent},
    }
    report = raymix.pilot(job, quiet=True)
    assert report.status == "done"
    assert [len(runs) for runs in report.arms.values()] == [1, 1]
    assert "is tried again, from its last checkpoint" in capsys.readouterr().err
    attempts = list((tmp_path / "digits" / "runs").glob("*/attempt-002.json"))
    assert len(attempts) == 1
