"""Checkpoints are whole or not there: what is damaged, of another run or hostile is passed over with a line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from saved_states import RUN, at, same, saved, seal
from small_runs import Digits, trained

from raymix.train import checkpoint
from raymix.train.checkpoint import COMMIT, STATE, TENSORS
from raymix.train.hostcopy import DTYPES, HostCopy

DigitsOf = Callable[..., Digits]


def test_a_checkpoint_holds_three_plain_files(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=2)
    path = checkpoint.write(tmp_path, checkpoint.snapshot(state, RUN))
    assert sorted(p.name for p in path.iterdir()) == [COMMIT, STATE, TENSORS]
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-written is left"
    tensors = safetensors.torch.load_file(path / TENSORS)
    assert tensors.keys() == state.tensors().keys()
    assert {name.split(".")[0] for name in tensors} == {"model", "optim"}
    assert (path / TENSORS).read_bytes() == safetensors.torch.save(tensors), "as safetensors itself writes them"
    written = json.loads((path / STATE).read_text())
    assert written.keys() == {"rates", "reports", "pending", "decisions", "attempts", "roll_backs"}
    commit = json.loads((path / COMMIT).read_text())
    assert (commit["run"], commit["step"]) == (RUN, 0)


def test_the_host_copy_is_the_file_that_safetensors_writes() -> None:
    """All types, shapes of every kind, names beyond ASCII; the room is used again."""
    tensors = {
        f"{name} {shape}\u00fc": torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        for dtype, name in DTYPES.items()
        for shape in ((), (3,), (2, 3), (0, 4))
    }
    tensors["strided"] = torch.arange(12.0).reshape(3, 4).T
    room = HostCopy()
    first = room.take(tensors)
    plain = {name: value.contiguous() for name, value in tensors.items()}
    assert bytes(first) == safetensors.torch.save(plain)
    changed = {name: value.bitwise_not() if value.dtype == torch.bool else value + 1 for name, value in plain.items()}
    again = room.take(changed)
    assert bytes(again) == safetensors.torch.save(changed)
    assert bytes(first) == bytes(again), "the same room"


def test_a_state_reads_back_as_it_was(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=4)
    other = asked.state()
    assert not same(state, other)
    checkpoint.read(checkpoint.write(tmp_path, checkpoint.snapshot(state, RUN)), other)
    assert same(state, other)


def test_a_state_takes_no_other_tensors(digits: DigitsOf) -> None:
    state = digits().state()
    name = next(iter(state.tensors()))
    good = {key: value + 1 for key, value in state.snapshot().items()}
    before = state.snapshot()
    bad = {
        f"tensor {name} is missing": {key: value for key, value in good.items() if key != name},
        "tensor more is none of this model's": {**good, "more": torch.zeros(1)},
        f"tensor {name} is torch.float64": {**good, name: good[name].double()},
        rf"tensor {name} is torch.float32 \[1, ": {**good, name: good[name][None]},
    }
    for words, tensors in bad.items():
        with pytest.raises(ValueError, match=words):
            state.load(tensors)
        assert all(torch.equal(before[key], value) for key, value in state.tensors().items()), "nothing was changed"


def test_the_same_step_is_written_once(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    (name,) = saved(asked, tmp_path, 3)
    before = (tmp_path / name / COMMIT).stat().st_ino
    saved(asked, tmp_path, 3)
    assert (tmp_path / name / COMMIT).stat().st_ino == before
    (tmp_path / name / COMMIT).write_text("{}")
    saved(asked, tmp_path, 3)
    assert checkpoint.newest(tmp_path) == (name, []), "unless what is there does not verify"


def test_what_a_killed_writer_left_is_cleared_away(digits: DigitsOf, tmp_path: Path) -> None:
    (tmp_path / ".step-000000002.999999").mkdir()
    (tmp_path / ".step-000000002.999999" / TENSORS).write_bytes(b"half")
    saved(digits(), tmp_path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003"]


def cut(path: Path) -> None:
    os.truncate(path / TENSORS, (path / TENSORS).stat().st_size - 7)


def flip(path: Path, name: str = TENSORS, place: int = -1) -> None:
    raw = bytearray((path / name).read_bytes())
    raw[place] ^= 1
    (path / name).write_bytes(raw)


def pipe(path: Path, name: str) -> None:
    (path / name).unlink()
    os.mkfifo(path / name)


def link(path: Path, name: str) -> None:
    (path / name).rename(path.parent / "elsewhere")
    (path / name).symlink_to(path.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (cut, f"{TENSORS} is "),
    "garbled": (flip, f"{TENSORS} does not match its sha256"),
    "no tensors": (lambda path: (path / TENSORS).unlink(), f"{TENSORS}: No such file"),
    "no state": (lambda path: (path / STATE).unlink(), f"{STATE}: No such file"),
    "no commit": (lambda path: (path / COMMIT).unlink(), f"{COMMIT}: No such file"),
    "half a commit": (lambda path: (path / COMMIT).write_text('{"tensors'), f"{COMMIT} is no JSON: "),
    "another commit": (lambda path: (path / COMMIT).write_text("[]"), f"{COMMIT} is not raymix's"),
    "another space in it": (lambda path: flip(path, COMMIT, 2), f"{COMMIT} "),
    "another hash in it": (lambda path: flip(path, COMMIT, -4), f"{COMMIT} does not match its sha256"),
    "not text": (lambda path: (path / COMMIT).write_bytes(b"\xff\xfe"), f"{COMMIT} is no JSON: "),
    "deep": (lambda path: (path / COMMIT).write_text("[" * 60_000), f"{COMMIT} is no JSON: "),
    "endless": (lambda path: os.truncate(path / COMMIT, 1 << 40), f"{COMMIT} is {1 << 40} bytes long"),
    "empty": (lambda path: [p.unlink() for p in path.iterdir()], f"{COMMIT}: No such file"),
    "a pipe": (lambda path: pipe(path, TENSORS), f"{TENSORS}: it is no file"),
    "a link": (lambda path: link(path, STATE), f"{STATE}: it is a link"),
    "another run": (lambda path: seal(path, lambda commit: commit.update(run="other")), "it is of the run other, not "),
    "another step": (lambda path: seal(path, lambda commit: commit.update(step=7)), "it holds step 7"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_line(digits: DigitsOf, damage: str, tmp_path: Path) -> None:
    newest, older = saved(digits(), tmp_path, 4, 8)
    do, reason = DAMAGE[damage]
    do(tmp_path / newest)
    name, (line,) = checkpoint.newest(tmp_path, RUN)
    assert name == older
    assert line.startswith(f"checkpoint {newest} skipped: {reason}")
    assert line.isprintable()


def test_a_renamed_checkpoint_and_a_linked_one_are_passed_over(digits: DigitsOf, tmp_path: Path) -> None:
    only, *_ = saved(digits(), tmp_path, 4)
    shutil.copytree(tmp_path / only, tmp_path / "step-000000009")
    (tmp_path / "step-000000011").symlink_to(tmp_path / only)
    name, lines = checkpoint.newest(tmp_path, RUN)
    assert name == only
    assert lines == [
        "checkpoint step-000000011 skipped: it is a link",
        "checkpoint step-000000009 skipped: it holds step 4",
    ]


def test_what_does_not_fit_into_the_state_is_passed_over(digits: DigitsOf, tmp_path: Path) -> None:
    """Its hashes are right: it is another model's."""
    asked = digits()
    newest, older = saved(asked, tmp_path, 4, 8)
    tensors = safetensors.torch.load_file(tmp_path / newest / TENSORS)
    name = min(tensors)
    tensors[name] = torch.zeros(2, 2, dtype=torch.float64)
    safetensors.torch.save_file(tensors, tmp_path / newest / TENSORS)
    seal(tmp_path / newest)
    assert checkpoint.newest(tmp_path, RUN)[0] == newest, "whole it is"
    found, (line,) = checkpoint.newest(tmp_path, RUN, asked.state())
    assert found == older
    assert line.startswith(f"checkpoint {newest} skipped: tensor {name}: F64 [2, 2] instead of F32 [")


def test_what_is_no_checkpoint_is_not_looked_at(digits: DigitsOf, tmp_path: Path) -> None:
    (only,) = saved(digits(), tmp_path, 4)
    shutil.copytree(tmp_path / only, tmp_path / ".step-000000009.123")
    (tmp_path / "step-000000007").write_text("a file")
    assert checkpoint.newest(tmp_path) == (only, [])
    assert checkpoint.newest(tmp_path / "nowhere") == (None, [])


def test_a_checkpoint_that_is_let_go_of_is_gone_at_once(digits: DigitsOf, tmp_path: Path) -> None:
    asked = digits()
    name, other = saved(asked, tmp_path, 4, 8)
    checkpoint.discard(tmp_path / name)
    (tmp_path / "step-000000011").symlink_to(tmp_path / other)
    checkpoint.discard(tmp_path / "step-000000011")
    assert [path.name for path in tmp_path.iterdir()] == [other]
    assert checkpoint.newest(tmp_path, RUN, at(asked, 1)) == (other, [])
