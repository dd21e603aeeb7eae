"""A pilot whose runs go side by side: the same runs as one after another, failures, Ctrl-C and what follows it."""

from __future__ import annotations

import copy
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix import runner
from raymix.report.history import SegmentReport
from raymix.report.pilot import PilotReport
from raymix.watch.console import ConsoleSink
from tests.conftest import JOB

pytestmark = pytest.mark.ray

HOPELESS = {"base": "sl", "set": {"optim.lr": 10, "optim.weight_decay": 10}}  # not finite after a few steps
DECIDED = ("frozen.json", "job.yaml", "resolved.json", "plan.json")


def job_in(storage: Path, **pilot: Any) -> dict[str, Any]:
    asked = {"arms": ["ssl_sl", "mix", "hopeless"], "define": {"hopeless": HOPELESS}, "seeds": 2, "lengths": [1.0]}
    return {**copy.deepcopy(JOB), "storage": str(storage), "pilot": {**asked, **pilot}}


class Interrupting(ConsoleSink):
    """Ctrl-C as soon as a run has told anything."""

    told = False

    def segment(self, run: str, report: SegmentReport) -> None:
        super().segment(run, report)
        if not self.told:
            self.told = True
            signal.raise_signal(signal.SIGINT)


def test_runs_side_by_side_are_those_one_after_another(
    attached: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(raymix.RunFailed, match=r"^2 of 6 runs failed for good, hopeless-seed0-T1.00 first: "):
        raymix.pilot(job_in(tmp_path / "first"), quiet=True)
    (folder := tmp_path / "packed" / "digits").mkdir(parents=True)
    for name in DECIDED:
        shutil.copy(tmp_path / "first" / "digits" / name, folder / name)
    packed = job_in(tmp_path / "packed", concurrent=2)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "ConsoleSink", Interrupting)
        with pytest.raises(raymix.Interrupted) as stopped:
            raymix.pilot(packed, resume=True, quiet=True)
    assert stopped.value.report.status == "interrupted"
    assert 1 <= len(list((folder / "runs").iterdir())) < 6, "no other run was dealt"

    with pytest.raises(raymix.RunFailed):
        raymix.pilot(packed, resume=True, quiet=True)
    first, second = (
        PilotReport.model_validate_json((tmp_path / storage / "digits" / "pilot.json").read_bytes())
        for storage in ("first", "packed")
    )
    for arm in ("ssl_sl", "mix"):
        for alone, beside in zip(first.arms[arm], second.arms[arm], strict=True):
            assert (beside.seed, beside.length, beside.top1) == (alone.seed, alone.length, alone.top1)
            assert beside.correct == alone.correct, "the same bits, whoever trained beside it"
            assert (alone.packed, beside.packed) == (False, True)
            assert beside.worker_seconds == beside.planned_seconds == alone.planned_seconds
    for report in (first, second):
        assert report.status == "failed"
        assert [(run.arm, run.seed, run.attempts) for run in report.failed] == [("hopeless", 0, 1), ("hopeless", 1, 1)]
        assert "is not finite in steps" in report.failed[0].why
        assert report.arms["hopeless"] == ()
        assert report.verdict.rival == "ssl_sl"
        assert "2 runs failed for good" in (tmp_path / "packed" / "digits" / "report.html").read_text()
    assert first.held == pytest.approx(first.wall_seconds, rel=0.01)
    assert second.held == pytest.approx(2 * second.wall_seconds, rel=0.01)
