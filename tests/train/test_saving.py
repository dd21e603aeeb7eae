"""When checkpoints are written, which stay, and what becomes of those for which there is no room."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from saved_states import RUN, at, same
from small_runs import Digits
from test_checkpoint import cut, flip
from test_resume import BOTH, hashes

from raymix.spec import CheckpointSpec
from raymix.train import checkpoint
from raymix.train.checkpoint import NotSaved, Snapshot
from raymix.train.saving import BEST, Checkpoints

DigitsOf = Callable[..., Digits]


def keeping(folder: Path, told: list[str], every: float = 0, keep: int = 9, best: bool = False) -> Checkpoints:
    return Checkpoints(folder, CheckpointSpec(every=every, keep=keep, best=best), RUN, told.append)


class Gate:
    """Holds the writing thread until it is opened, or makes it fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.error, self._write = threading.Event(), None, checkpoint.write
        self.error: Exception | None
        monkeypatch.setattr(checkpoint, "write", self)

    def __call__(self, folder: Path, taken: Snapshot) -> Path:
        assert threading.current_thread() is not threading.main_thread()
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return self._write(folder, taken)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_only_the_newest_stay(digits: DigitsOf, tmp_path: Path) -> None:
    asked, told = digits(), list[str]()
    with keeping(tmp_path, told, keep=2) as kept:
        for step in range(1, 6):
            kept.save(at(asked, step))
    assert checkpoint.names(tmp_path) == ["step-000000005", "step-000000004"]
    with keeping(tmp_path, told, keep=1) as kept:
        kept.save(at(asked, 6))
    assert checkpoint.names(tmp_path) == ["step-000000006"]
    assert told == []


def test_saving_follows_the_clock(digits: DigitsOf, tmp_path: Path) -> None:
    asked, told = digits(), list[str]()
    for folder, every in (("a", 1e6), ("b", 0)):
        with keeping(tmp_path / folder, told, every=every) as kept:
            kept.save_if_due(at(asked, 1))
    assert checkpoint.names(tmp_path / "a") == []
    assert checkpoint.names(tmp_path / "b") == ["step-000000001"]
    assert kept.seconds > 0
    Checkpoints.of(asked.plan, str(tmp_path / "c"), 1, told.append).save(at(asked, 1))
    assert not (tmp_path / "c").exists(), "rank 0 alone writes"


def test_training_goes_on_while_one_is_written_and_the_next_waits(digits: DigitsOf, tmp_path: Path, gate: Gate) -> None:
    asked, told = digits(), list[str]()
    state = at(asked, 1)
    with keeping(tmp_path, told) as kept:
        kept.save_if_due(state)
        for value in state.tensors().values():
            value.zero_()  # what training does meanwhile is not saved
        kept.save_if_due(at(asked, 2))
        assert checkpoint.names(tmp_path) == []
        stood_still = kept.seconds
        gate.open.set()
        kept.save(at(asked, 3))
    assert checkpoint.names(tmp_path) == ["step-000000003", "step-000000001"]
    first = asked.state()
    checkpoint.read(tmp_path / "step-000000001", first)
    assert same(first, at(asked, 1))
    assert 0 < stood_still < kept.seconds
    assert kept.newest == "step-000000003"


def test_no_room_is_told_and_tried_again(digits: DigitsOf, tmp_path: Path, gate: Gate) -> None:
    asked, told = digits(), list[str]()
    gate.open.set()
    with keeping(tmp_path, told, keep=1) as kept:
        kept.save(at(asked, 1))
        gate.error = OSError(28, "No space left on device")
        for step in (2, 3, 4):
            kept.save_if_due(at(asked, step))
            assert kept._writing is not None
            kept._writing[2].exception()
        with pytest.raises(NotSaved, match=r"^the checkpoint at step 5 could not be written \(No space"):
            kept.save(at(asked, 5))
        assert checkpoint.names(tmp_path) == ["step-000000001"], "the older one is kept until there is a newer one"
        gate.error = None
        kept.save(at(asked, 6))
    assert checkpoint.names(tmp_path) == ["step-000000006"]
    (line,) = told  # once a minute
    assert line == (
        f"the checkpoint at step 2 could not be written (No space left on device: {tmp_path}); "
        "the newest is step-000000001; training goes on"
    )


def test_an_error_of_ours_in_the_thread_ends_training(digits: DigitsOf, tmp_path: Path, gate: Gate) -> None:
    asked = digits()
    gate.error = ZeroDivisionError("ours")
    gate.open.set()
    with keeping(tmp_path, []) as kept:
        kept.save_if_due(at(asked, 1))
        assert kept._writing is not None
        kept._writing[2].exception()
        with pytest.raises(ZeroDivisionError, match="ours"):
            kept.save_if_due(at(asked, 2))


def test_the_best_stays_beside_the_newest(digits: DigitsOf, tmp_path: Path) -> None:
    asked, told = digits(), list[str]()

    def come_to(steps: dict[int, float | None]) -> list[str]:
        with keeping(tmp_path, told, every=1e6, keep=1, best=True) as kept:
            for step, top1 in steps.items():
                kept.save_if_due(at(asked, step, top1))
            kept.save(at(asked, max(steps) + 1, 1.0))
        return checkpoint.names(tmp_path)

    assert come_to({1: 50.0, 2: None, 3: 70.0, 4: 70.0, 5: 60.0}) == ["step-000000006", "step-000000003"]
    assert json.loads((tmp_path / BEST).read_text()) == {"name": "step-000000003", "select_top1": 70.0}
    assert come_to({7: 65.0}) == ["step-000000008", "step-000000003"], "a resumed run knows it"
    assert come_to({9: 71.0}) == ["step-000000010", "step-000000009"]
    (tmp_path / BEST).write_text("[")
    assert come_to({11: 2.0}) == ["step-000000012", "step-000000011"], "one that cannot be read is none"
    assert told == []


def test_the_best_is_saved_while_another_is_written(digits: DigitsOf, tmp_path: Path, gate: Gate) -> None:
    asked = digits()
    with keeping(tmp_path, [], every=0, best=True) as kept:
        kept.save_if_due(at(asked, 1, 80.0))
        kept.save_if_due(at(asked, 2, 70.0))
        threading.Timer(0.1, gate.open.set).start()
        kept.save_if_due(at(asked, 3, 90.0))
    assert checkpoint.names(tmp_path) == ["step-000000003", "step-000000001"]


def test_a_damaged_checkpoint_does_not_push_out_good_ones(digits: DigitsOf, tmp_path: Path) -> None:
    """Resumed from an older one, the run saves steps that are below the damaged one's for a while."""
    asked = digits()
    with keeping(tmp_path, [], keep=2) as kept:
        for step in (3, 9):
            kept.save(at(asked, step))
    flip(tmp_path / "step-000000009")
    with keeping(tmp_path, [], keep=1) as kept:
        kept.save(at(asked, 5))
    assert checkpoint.newest(tmp_path) == ("step-000000005", [])


def test_a_run_goes_on_from_the_newest_that_verifies(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits(schedule=BOTH, checkpoint={"every": 0, "keep": 3})
    rates = asked.rates(3)
    _, whole = asked.run(tmp_path / "whole", rates=rates)
    steps = []
    for stop in (2, 1, 1):
        asked.run(tmp_path / "parts", stop_after=stop, rates=rates)
        steps.append(checkpoint.names(tmp_path / "parts")[0])
    newest, second, third = checkpoint.names(tmp_path / "parts")
    assert [newest, second] == steps[:0:-1]
    flip(tmp_path / "parts" / newest)
    cut(tmp_path / "parts" / second)
    _, heard = asked.run(tmp_path / "parts", rates=rates)
    assert [note.split(" skipped")[0] for note in heard.notes] == [f"checkpoint {name}" for name in (newest, second)]
    assert f"step-{heard.began.done_steps:09d}" == third
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    assert whole.notes == []


def test_a_run_whose_last_checkpoint_cannot_be_written_fails(
    digits: DigitsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = digits(schedule=BOTH)
    rates, write = asked.rates(20), checkpoint.write

    def full(folder: Path, taken: Snapshot) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(NotSaved, match=r"\(Read-only file system: .*parts\); there is none yet$"):
        asked.run(tmp_path / "parts", rates=rates)
    with pytest.raises(NotSaved, match=r"^no checkpoint can be written to .*parts: Read-only file system$"):
        asked.run(tmp_path / "parts")  # which tries one before the first step
    monkeypatch.setattr(checkpoint, "write", write)
    asked.run(tmp_path / "parts", rates=rates)
    asked.run(tmp_path / "whole", rates=rates)
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


def test_while_a_machine_leaves_every_segment_is_saved(digits: DigitsOf, tmp_path: Path, gate: Gate) -> None:
    asked = digits()
    gate.open.set()
    with keeping(tmp_path, [], every=1e6) as kept:
        kept.save_if_due(at(asked, 1))
        assert kept._writing is None, "none is due for a long time"
        for step in (2, 3):
            kept.save_if_due(at(asked, step), leaving=True)
            assert kept._writing is not None
            kept._writing[2].result()
    assert checkpoint.names(tmp_path)[0] == "step-000000003"
