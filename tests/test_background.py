"""`raymix.run(job, wait=False)`: a process of its own, followed, waited for and stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import raymix
from raymix.background import BackgroundRun
from raymix.spec import JobError, JobSpec

SpecOf = Callable[..., JobSpec]


def until(run: BackgroundRun, state: str) -> None:
    limit = time.monotonic() + 150
    while run.status().state != state:
        assert time.monotonic() < limit, run
        time.sleep(0.02)


def test_it_is_followed_to_its_end_and_gives_its_report(spec_of: SpecOf) -> None:
    run = raymix.run(spec_of(), wait=False)
    first = run.status()
    assert (first.state, first.step, first.row) == ("starting", 0, {})
    assert "<progress" in run._repr_html_()
    report = run.wait(150)
    assert (report.status, report.name) == ("done", "digits")
    last = run.status()
    assert last.state == "done"
    assert last.step == last.num_steps == sum(phase.steps for phase in report.phases)
    assert last.row["run"] == "digits"
    assert run._repr_html_() == report._repr_html_()


def test_it_is_stopped_with_a_checkpoint_goes_on_and_says_when_it_was_killed(spec_of: SpecOf) -> None:
    spec = spec_of(schedule={"ssl_epochs": 400, "sl_epochs": 4})
    run = raymix.run(spec, wait=False)
    with pytest.raises(TimeoutError, match=r"digits has not ended within 0\.1 s"):
        run.wait(0.1)
    until(run, "training")
    run.stop()
    with pytest.raises(raymix.Interrupted, match="checkpoint saved; --resume goes on") as stopped:
        run.wait(150)
    assert stopped.value.report.status == "interrupted"
    assert run.status().state == "interrupted"
    assert list((run.folder / "checkpoints").glob("step-*"))
    again = raymix.run(spec, resume=True, wait=False)
    assert again.status().state == "starting", "rows of the first attempt are not its own"
    again._process.kill()
    with pytest.raises(raymix.RunFailed):
        again.wait(150)
    assert again.status().state == "failed"


def test_a_wrong_job_is_refused_at_once_and_nothing_is_started(spec_of: SpecOf, tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"data\.train\.path"):
        raymix.run(spec_of(data={"train": {"format": "image_folder", "path": "/nowhere"}}), wait=False)
    assert list(tmp_path.iterdir()) == []
