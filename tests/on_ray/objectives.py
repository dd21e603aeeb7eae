"""What is tuned in tests: plain functions in the place of training, and a driver that can be killed.

`python -m tests.on_ray.objectives STORAGE` is that driver: 40 points, goes on where the last one was.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raymix.search.trial import Trial
from tests.conftest import JOB

POINTS = 40
SPACE = {"optim.lr": {"loguniform": [1e-4, 1e-1]}, "schedule.mix_ratio": {"uniform": [0, 1]}}
FINISHED = "finished.txt"
Tell = Callable[[Trial | None], bool]


def job(storage: Path, **fields: Any) -> dict[str, Any]:
    """A job whose training is replaced."""
    tune = {"trials": 6, "space": SPACE, "concurrent": 2, **fields}
    return {**copy.deepcopy(JOB), "storage": str(storage), "tune": tune}


def top1_of(values: dict[str, Any]) -> float:
    """The accuracy of a point."""
    return 90.0 - 50 * (values["schedule.mix_ratio"] - 0.4) ** 2 - 100 * abs(values["optim.lr"] - 0.01)


def cheap(trial: Trial, folder: Path, tell: Tell) -> Trial:
    """A third of a second, told three times; a line in a file when it is done."""
    top1 = top1_of(trial.values)
    for third in (1, 2, 3):
        time.sleep(0.1)
        trial = trial.model_copy(update={"select_top1": top1, "worker_seconds": float(third), "planned": 3.0})
        if tell(trial):
            return trial.model_copy(update={"status": "interrupted"})
    with (folder.parent.parent / FINISHED).open("a") as file:
        file.write(f"{trial.number}\n")
    return trial.model_copy(update={"status": "done", "device": "cpu", "billed_worker_seconds": 4.0})


def broken(trial: Trial, folder: Path, tell: Tell) -> Trial:
    """Fails at every second point."""
    if trial.number % 2:
        raise ZeroDivisionError(f"point {trial.number}")
    return cheap(trial, folder, tell)


def hopeless(trial: Trial, folder: Path, tell: Tell) -> Trial:
    """Fails at every point."""
    raise ZeroDivisionError(f"point {trial.number}")


if __name__ == "__main__":
    from raymix.jobfile import load_spec
    from raymix.tuning import tune

    asked = load_spec(job(Path(sys.argv[1]), trials=POINTS))
    # by its module's name: that of a main program means another one in a trial's process
    from tests.on_ray import objectives

    tune(asked, objectives.cheap, resume=True)
