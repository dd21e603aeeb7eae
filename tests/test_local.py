"""A session in this process: images in, outcomes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raymix.data.frame import Frame
from raymix.jobfile import load_spec
from raymix.local import LocalSession
from raymix.runner import Checked, check, rows_of
from raymix.session import Needs, RunFailed, decide, open_session
from raymix.spec import JobError
from raymix.train.task import Task
from raymix.watch import Sink, Sinks

torch.set_num_threads(1)
NOBODY: Sink = Sinks([])


@pytest.fixture
def checked(digits_job: dict[str, Any]) -> Callable[..., Checked]:
    def make(**sections: Any) -> Checked:
        small = {"schedule": {"ssl_epochs": 1, "sl_epochs": 1}, "optim": {"batch": 24}}
        data = {**digits_job["data"], "fraction": 0.1, "holdout": 0.05, **sections.pop("data", {})}
        return check(load_spec({**digits_job, **small, "data": data, **sections}))

    return make


def needs(asked: Checked, size: int = 8) -> Needs:
    return Needs(asked.spec, asked.rows, rows_of(asked.splits), Frame(size), False)


def test_sessions_side_by_side_share_the_room_for_images(checked: Callable[..., Checked]) -> None:
    alone = needs(checked())
    room = int(1.5 * len(alone.ids) * alone.frame.nbytes)
    assert decide(alone, room, NOBODY)[0]
    assert not decide(alone._replace(sessions=2), room, NOBODY)[0], "streamed"


def test_no_workers_means_this_process(checked: Callable[..., Checked]) -> None:
    session = open_session(needs(checked()), NOBODY)
    assert isinstance(session, LocalSession)
    assert session.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert session.device_name
    assert session.skipped == {}
    session.close()


def test_one_session_serves_several_runs(checked: Callable[..., Checked]) -> None:
    first, second = checked(), checked(seed=1)
    both = needs(first)._replace(ids=rows_of(first.splits, second.splits))
    session = LocalSession(both, NOBODY)
    outcomes = [
        session.execute(Task(name, asked.plan, asked.splits), NOBODY)
        for name, asked in (("a", first), ("b", second), ("c", first))
    ]
    assert [outcome.run for outcome in outcomes] == ["a", "b", "c"]
    assert all(outcome.complete for outcome in outcomes)
    correct = [outcome.correct["raw"] for outcome in outcomes]
    assert correct[0] is not None
    assert np.array_equal(correct[0], np.asarray(correct[2])), "a run leaves nothing behind for the next"
    losses = [outcome.history.reports[0].ssl_loss for outcome in outcomes]
    assert losses[0] == losses[2] != losses[1]
    before = session.worker_seconds
    assert before > 0
    assert session.worker_seconds > before


def test_a_stopped_session_starts_no_further_segment(checked: Callable[..., Checked]) -> None:
    asked = checked()
    session = LocalSession(needs(asked), NOBODY)
    session.stop()
    outcome = session.execute(Task("a", asked.plan, asked.splits), NOBODY)
    assert not outcome.complete
    assert not outcome.history.reports


def test_a_loss_that_is_not_finite_fails_the_run_by_name(checked: Callable[..., Checked]) -> None:
    asked = checked(optim={"batch": 24, "lr": 10, "weight_decay": 10, "warmup": 0})
    session = LocalSession(needs(asked), NOBODY)
    told = r"^hot: (the loss|a gradient) is not finite in steps \d+ to \d+: a lower optim\.lr may help; there is no"
    with pytest.raises(RunFailed, match=told):
        session.execute(Task("hot", asked.plan, asked.splits), NOBODY)


def test_progress_is_told_and_bad_images_are_kept_apart(
    checked: Callable[..., Checked], image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = image_tree(tmp_path / "images", classes=2, per_class=20)
    (root / "class1" / "003.jpg").write_bytes(b"not an image")
    data = {"train": {"format": "image_folder", "path": str(root)}, "fraction": 1, "max_bad_fraction": 0.1}
    asked = checked(data=data)
    told: list[tuple[int | None, int | None]] = []

    class Told(Sinks):
        def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
            told.append((done, total))

    session = LocalSession(needs(asked, size=9), Told([]))
    assert told[-1] == (40, 40)
    ((row, cause),) = session.skipped.items()
    assert asked.rows.uris[row].endswith("class1/003.jpg")
    assert cause == "not an image"
    with pytest.raises(JobError, match=r"^data\.max_bad_fraction: 1 of 40 images are unreadable"):
        LocalSession(needs(checked(data={**data, "max_bad_fraction": 0})), NOBODY)
