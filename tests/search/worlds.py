"""Searches without training: an accuracy that is a plain function of the values, one trial after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raymix.search.board import Board
from raymix.search.journal import Journal
from raymix.search.trial import Trial
from raymix.spec import Tune

SPACE: dict[str, Any] = {"a": {"uniform": [0, 1]}, "b": {"loguniform": [1e-3, 1]}, "c": {"choice": ["x", [1, 2]]}}
GRID: dict[str, Any] = {"c": {"grid": ["x", [1, 2], None]}, "d": {"int": [1, 4]}}


def section(search: str = "random", **fields: Any) -> Tune:
    """A search of 12 trials."""
    asked = {"space": GRID} if search == "grid" else {"space": SPACE, "trials": 12}
    return Tune.model_validate({"search": search, **asked, **fields})


def board_of(tune: Tune, folder: Path, takes: Callable[..., None] = lambda arm, values: None, **more: Any) -> Board:
    """A board on what the folder holds; its clock stands still."""
    folder.mkdir(exist_ok=True)
    spaces = dict.fromkeys(tune.arms or ("",), tune.space)
    return Board(tune, spaces, Journal(folder), takes, more.pop("seconds", lambda: 0.0), **more)


def trained(trial: Trial) -> Trial:
    """A trial with its accuracy."""
    values = trial.values
    top1 = 90 - 40 * (values.get("a", 0.3) - 0.3) ** 2 - (values["c"] == "x") - abs(values.get("d", 2) - 2)
    update = {"status": "done", "select_top1": top1, "worker_seconds": 10 + 5 * values.get("a", 0)}
    return trial.model_copy(update=update)


def run(board: Board, most: int = 1000) -> list[Trial]:
    """Up to so many trials."""
    over = []
    while len(over) < most and (trial := board.next()) is not None:
        over.append(board.finish(trained(trial)))
    return over
