"""States that can be told apart, and checkpoints of them: what the tests of raymix.train's files share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_runs import Digits

from raymix.plan import segment
from raymix.report.history import SegmentReport
from raymix.train import checkpoint
from raymix.train.checkpoint import COMMIT, STATE, TENSORS
from raymix.train.state import TrainState

RUN = "digits (seed 0)"


def at(asked: Digits, step: int, select_top1: float | None = None) -> TrainState:
    """A fresh state whose history says that `step` steps are done, and whose tensors say so too."""
    state, done = asked.state(), segment(asked.plan, step - 1, 1, evaluate=False)
    for number, value in enumerate(state.tensors().values()):
        value.fill_(step + number / 1000)
    report = SegmentReport(
        segment=done, seconds=1, data_seconds=0, images=1, labelled=0, ssl_loss=None, sl_loss=None,
        select_top1=select_top1,
    )  # fmt: skip
    state.history = state.history.add(report)
    return state


def saved(asked: Digits, folder: Path, *steps: int) -> list[str]:
    """Checkpoints as if a run had come that far; names, newest first."""
    for step in steps:
        checkpoint.write(folder, checkpoint.snapshot(at(asked, step), RUN))
    return checkpoint.names(folder)


def same(a: TrainState, b: TrainState) -> bool:
    """Whether two states are equal, history included."""
    mine, other = a.tensors(), b.tensors()
    return (
        mine.keys() == other.keys()
        and all(torch.equal(mine[name], other[name]) for name in mine)
        and a.history == b.history
    )


def seal(path: Path, change: Callable[[dict[str, Any]], Any] = lambda commit: None) -> None:
    """Makes a checkpoint's commit marker fit what lies there, as an enemy would; `change`d at will before that."""
    commit = json.loads((path / COMMIT).read_bytes())
    for name in (TENSORS, STATE):
        if (path / name).is_file() and not (path / name).is_symlink():
            raw = (path / name).read_bytes()
            commit[name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    change(commit)
    commit.pop("sha256", None)
    (path / COMMIT).write_bytes(checkpoint._sealed(commit))
