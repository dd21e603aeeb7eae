"""Stopped, saved and resumed is the same as never stopped, bit by bit; a damaged checkpoint is passed over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import CPU, Digits, trained

from raymix.report.history import Rates
from raymix.train import checkpoint
from raymix.train.checkpoint import Checkpoints
from raymix.train.state import TrainState

DigitsOf = Callable[..., Digits]
BOTH = {"ssl_epochs": 1, "sl_epochs": 1}
FEW = {"fraction": 0.15, "holdout": 0.1, "select": 0.1}
RUNS: dict[str, dict[str, Any]] = {
    "ssl": {"schedule": {"ssl_epochs": 1, "sl_epochs": 0}},
    "mix": {"schedule": {**BOTH, "mix_ratio": 0.5}},
    "full": {"schedule": {**BOTH, "mix_ratio": 1, "shared_pass": "full"}},
    "simclr": {"objective": {"type": "simclr", "projector_width": 16, "output_width": 8}, "schedule": BOTH},
    "sl": {"schedule": {"ssl_epochs": 0, "sl_epochs": 1}},
    "alternate": {"schedule": {**BOTH, "mix_ratio": 1, "interleave": "alternate", "alternate_steps": 2}},
    "sl_drop": {"schedule": {**BOTH, "mix_ratio": 0, "sl_drop": 0.6}},
    "drop_path": {"backbone": {"size": "nano", "patch": 2, "drop_path": 0.3}, "schedule": {**BOTH, "mix_ratio": 0.5}},
    "layers": {"schedule": {**BOTH, "mix_ratio": 0.5}, "optim": {"batch": 24, "lr": 2e-3, "layer_decay": 0.7}},
    "restart": {"schedule": {**BOTH, "mix_ratio": 0.5}, "optim": {"batch": 24, "lr": 2e-3, "restart": "phase"}},
    "averaged": {
        "schedule": {**BOTH, "mix_ratio": 0.5},
        "optim": {"batch": 24, "lr": 2e-3, "ema": 0.1, "accumulate": 2, "clip": 0.5, "decay": 0.3},
    },
    "mixup": {
        "schedule": {**BOTH, "mix_ratio": 0.5},
        "data": {**FEW, "augment": {"crop": [0.6, 1.0], "mixup": 0.4, "cutmix": 1.0, "mix_shared": True, "erase": 0.2}},
    },
    "whole_rows": {"schedule": {**BOTH, "mix_ratio": 0.5, "whole_rows": 0.25}},
    "streamed": {"schedule": {**BOTH, "mix_ratio": 0.5}, "data": {**FEW, "cache": "stream"}},
    # draws from torch's generator, which no checkpoint holds
    "dropout": {
        "backbone": {"type": "timm/test_vit", "args": {"patch_size": 2, "drop_path_rate": 0.3, "proj_drop_rate": 0.2}},
        "schedule": {**BOTH, "mix_ratio": 0.5},
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_unbroken_one(digits: DigitsOf, name: str, tmp_path: Path) -> None:
    """Stopped twice; where there are several phases, the second stop is at the first one's end."""
    asked = digits(**RUNS[name], evaluate={"every": 0.5, "max_share": 1})
    rates, end_of_phase = asked.rates(3), asked.plan.phases[0].steps
    whole, heard = asked.run(tmp_path / "whole", rates=rates)
    in_phase = sum(r.segment.start < end_of_phase for r in heard.reports)
    stops = [1, in_phase - 1 if len(asked.plan.phases) > 1 else 1]
    for stop in stops:
        part, _ = asked.run(tmp_path / "parts", stop_after=stop, rates=rates)
        assert not part.complete
        assert part.correct == {}
    # the rates of the first attempt are history; other ones cannot change where the segments are cut
    rest, last = asked.run(tmp_path / "parts", rates=Rates(step_seconds=dict.fromkeys(asked.plan.kinds, 1e-9)))
    assert last.began.reports == part.history.reports
    assert [r.segment for r in rest.history.reports] == [r.segment for r in whole.history.reports]
    figures = [
        [(r.images, r.labelled, r.ssl_loss, r.sl_loss, r.train_top1, r.select_top1) for r in run.history.reports]
        for run in (rest, whole)
    ]
    assert figures[0] == figures[1]
    if name == "ssl":
        assert rest.correct == {}, "nothing was classified"
    else:
        assert np.array_equal(rest.correct["raw"], whole.correct["raw"])
    assert rest.seen == whole.seen
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole"), "equal states have equal hashes"


def hashes(folder: Path) -> tuple[str, str]:
    """Name and hash of the tensors of the newest checkpoint."""
    name, problems = checkpoint.newest(folder)
    assert name is not None
    assert not problems
    return name, json.loads((folder / name / "commit.json").read_text())["tensors.safetensors"]["sha256"]


def test_a_run_that_is_done_only_reads_val_again(digits: DigitsOf, tmp_path: Path) -> None:
    """Killed after the last checkpoint and before the report: nothing is trained, the answer is the same."""
    asked = digits(schedule=BOTH)
    first, _ = asked.run(tmp_path, rates=asked.rates(5))
    again, heard = asked.run(tmp_path)
    assert not heard.reports
    assert again.complete
    assert np.array_equal(again.correct["raw"], first.correct["raw"])


def test_a_stop_before_the_first_segment_can_be_resumed(digits: DigitsOf, tmp_path: Path) -> None:
    from raymix.train.execute import execute
    from raymix.train.task import Task

    asked = digits(schedule={"ssl_epochs": 0, "sl_epochs": 1})
    runtime = asked.runtime()
    runtime.stopping = True
    task = Task("digits", asked.plan, asked.splits, None, str(tmp_path))
    outcome = execute(task, runtime)
    assert not outcome.complete
    assert outcome.seen == {"all": 0, "labelled": 0, "unlabelled": 0}
    assert outcome.history.rates.step_seconds, "measured all the same"
    assert checkpoint.names(tmp_path) == ["step-000000000"]
    assert asked.run(tmp_path, rates=asked.rates(5))[0].complete


# ---- files ------------------------------------------------------------------------------------------------------


def saved(asked: Digits, folder: Path, *steps: int, keep: int = 9) -> list[str]:
    """Checkpoints as if a run had come that far; names, newest first."""
    kept = Checkpoints(folder, every=0, keep=keep)
    for step in steps:
        kept.save(at(asked, step))
    return checkpoint.names(folder)


def at(asked: Digits, step: int) -> TrainState:
    """A fresh state whose history says that `step` steps are done."""
    from raymix.plan import segment
    from raymix.report.history import SegmentReport

    state, done = asked.state(), segment(asked.plan, step - 1, 1, evaluate=False)
    report = SegmentReport(segment=done, seconds=1, data_seconds=0, images=1, labelled=0, ssl_loss=None, sl_loss=None)
    state.history = state.history.add(report)
    return state


def test_a_checkpoint_holds_three_plain_files(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=2)
    path = checkpoint.write(tmp_path, state)
    assert sorted(p.name for p in path.iterdir()) == ["commit.json", "state.json", "tensors.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-written is left"
    tensors = load_file(path / "tensors.safetensors")
    assert tensors.keys() == state.tensors().keys()
    assert {name.split(".")[0] for name in tensors} == {"model", "optim"}
    raw = (path / "tensors.safetensors").read_bytes()
    assert b"pickle" not in raw[:4096]
    assert raw[8:9] == b"{", "safetensors: a JSON header, then numbers"
    written = json.loads((path / "state.json").read_text())
    assert written.keys() == {"rates", "reports", "pending", "decisions", "attempts"}


def test_only_the_newest_stay(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    assert saved(asked, tmp_path, 1, 2, 3, 4, 5, keep=2) == ["step-000000005", "step-000000004"]
    assert saved(asked, tmp_path, 6, keep=1) == ["step-000000006"]


def test_saving_follows_the_clock(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    never, always = Checkpoints(tmp_path / "a", every=1e6, keep=2), Checkpoints(tmp_path / "b", every=0, keep=2)
    for kept in (never, always):
        kept.save_if_due(at(asked, 1))
    assert checkpoint.names(tmp_path / "a") == []
    assert checkpoint.names(tmp_path / "b") == ["step-000000001"]
    assert always.seconds > 0
    Checkpoints.of(asked.plan, str(tmp_path / "c"), rank=1).save(at(asked, 1))
    assert not (tmp_path / "c").exists(), "rank 0 alone writes"


def test_the_same_step_is_written_once(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    path = checkpoint.write(tmp_path, at(asked, 3))
    before = (path / "commit.json").stat().st_ino
    checkpoint.write(tmp_path, at(asked, 3))
    assert (path / "commit.json").stat().st_ino == before
    (path / "commit.json").write_text("{}")
    checkpoint.write(tmp_path, at(asked, 3))
    assert checkpoint.newest(tmp_path) == (path.name, []), "unless what is there does not verify"


def cut(path: Path) -> None:
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def garble(path: Path) -> None:
    file = path / "tensors.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (cut, "tensors.safetensors is "),
    "garbled": (garble, "tensors.safetensors does not match its sha256"),
    "no tensors": (lambda path: (path / "tensors.safetensors").unlink(), "FileNotFoundError: "),
    "no state": (lambda path: (path / "state.json").unlink(), "FileNotFoundError: "),
    "no commit": (lambda path: (path / "commit.json").unlink(), "FileNotFoundError: "),
    "half a commit": (lambda path: (path / "commit.json").write_text('{"tensors'), "JSONDecodeError: "),
    "another commit": (lambda path: (path / "commit.json").write_text("[]"), "TypeError: "),
    "empty commit": (lambda path: (path / "commit.json").write_text("{}"), "KeyError: "),
    "not text": (lambda path: (path / "commit.json").write_bytes(b"\xff\xfe"), "UnicodeDecodeError: "),
    "empty": (lambda path: [p.unlink() for p in path.iterdir()], "FileNotFoundError: "),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(digits: DigitsOf, damage: str, tmp_path: Path) -> None:
    newest, older = saved(digits(), tmp_path, 4, 8)
    do, reason = DAMAGE[damage]
    do(tmp_path / newest)
    name, (line,) = checkpoint.newest(tmp_path)
    assert name == older
    assert line.startswith(f"checkpoint {newest} skipped: {reason}")
    assert "\n" not in line
    do(tmp_path / older)
    assert checkpoint.newest(tmp_path)[0] is None


def test_what_is_no_checkpoint_is_not_looked_at(digits: DigitsOf, tmp_path: Path) -> None:
    (only,) = saved(digits(), tmp_path, 4)
    shutil.copytree(tmp_path / only, tmp_path / ".step-000000009.123")
    (tmp_path / "step-000000007").write_text("a file")
    assert checkpoint.newest(tmp_path) == (only, [])
    assert checkpoint.newest(tmp_path / "nowhere") == (None, [])


def test_a_damaged_checkpoint_does_not_push_out_good_ones(digits: DigitsOf, tmp_path: Path) -> None:
    """Resumed from an older one, the run saves steps that are below the damaged one's for a while."""
    asked = digits()
    saved(asked, tmp_path, 3, 9)
    garble(tmp_path / "step-000000009")
    assert saved(asked, tmp_path, 5, keep=1) == ["step-000000005"]
    assert checkpoint.newest(tmp_path) == ("step-000000005", [])


def test_what_a_killed_writer_left_is_cleared_away(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    (tmp_path / ".step-000000002.999999").mkdir()
    (tmp_path / ".step-000000002.999999" / "tensors.safetensors").write_bytes(b"half")
    saved(asked, tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def test_a_run_goes_on_from_the_newest_that_verifies(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits(schedule=BOTH, checkpoint={"every": 0, "keep": 3})
    rates = asked.rates(3)
    whole, _ = asked.run(tmp_path / "whole", rates=rates)
    asked.run(tmp_path / "parts", stop_after=4, rates=rates)
    found = checkpoint.names(tmp_path / "parts")
    assert len(found) == 3
    garble(tmp_path / "parts" / found[0])
    cut(tmp_path / "parts" / found[1])
    rest, heard = asked.run(tmp_path / "parts", rates=rates)
    assert [note.split(" skipped")[0] for note in rest.notes] == [f"checkpoint {name}" for name in found[:2]]
    assert len(heard.began.reports) == 2
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    assert whole.notes == ()


def test_a_state_reads_back_as_it_was(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=4)
    other = TrainState.fresh(asked.plan, CPU)
    checkpoint.read(checkpoint.write(tmp_path, state), other)
    assert other.history == state.history
    mine, read = state.tensors(), other.tensors()
    assert mine.keys() == read.keys()
    assert all(torch.equal(mine[name], read[name]) for name in mine)
    moments = [name for name in mine if name.endswith("exp_avg")]
    assert moments
    assert not any("model.h." in name or ".m." in name for name in moments), "h has not been trained yet"
