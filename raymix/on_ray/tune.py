"""A search on Ray Tune, whose engine places trials, runs them side by side and starts anew those whose process dies.

What Tune is asked for and told goes to the board: it names the trials and keeps what they brought, since Tune's own
state is written too seldom to lose nothing. A trial is a function in a process of its own, which trains there or with a
worker group that it starts; so Tune never ends one by itself, which would leave that group's resources taken: the trial
is told to end, at the end of its segment.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raymix.bucket import carry, leave, shown, visited
from raymix.on_ray import together
from raymix.on_ray.cluster import on_this_node, session_folder
from raymix.on_ray.shell import check_python
from raymix.report.folder import write_text
from raymix.search.board import Board
from raymix.search.trial import Trial
from raymix.spec import Cluster, JobError, JobSpec

# set before a search begins; what the user has set stays
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and the run folders hold it all
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints frames whatever its verbosity
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
POLL_SECONDS = 0.2
ERROR_FILE = "error.txt"
OUTCOME_FILE = "trial.json"

Tell = Callable[[Trial | None], bool]  # how far a trial is, None: no news; True: it is to end
Objective = Callable[[Trial, Path, Tell], Trial]  # trains a trial in its folder


def open_ray(cluster: Cluster, asked: int | None, verbose: bool) -> tuple[bool, int]:
    """Connects to Ray, whose Tune is to keep quiet; the rest is `together.open_ray`.

    Raises:
        JobError: as there, or Tune would start no process.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    owned, number = together.open_ray(cluster, asked, "tune.concurrent", verbose)
    try:
        check_python()
    except JobError:
        together.close_ray(owned)
        raise
    return owned, number


def search(
    board: Board,
    objective: Objective,
    folder: str,
    spec: JobSpec,
    concurrent: int,
    ended: Callable[[Trial], None],
    verbose: bool = False,
) -> None:
    """Runs the board's trials until it names none; blocks, and looks after `board.stopping` all the time.

    Args:
        board: What is tried.
        objective: What trains a trial; goes to its process, so it must be a function of a module.
        folder: Each trial gets one in it; a folder that every node can reach, or a place in a bucket.
        spec: Says what a trial takes, and how often one that fails is tried again.
        concurrent: Trials at once.
        ended: Hears of every trial that is over, from another thread.
        verbose: Let Tune's own lines through.
    """
    desk = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=on_this_node()).remote()
    state = tempfile.mkdtemp(prefix="raymix-tune-", dir=session_folder())
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            _tuner(board, desk, objective, folder, spec, concurrent, ended, state, verbose).fit()
        except BaseException as error:
            failed.append(error)

    # in a thread, Tune leaves the signal handlers alone
    thread = threading.Thread(target=fit, name="raymix-tune", daemon=True)
    thread.start()
    try:
        told = False
        while thread.is_alive():
            if board.spent() and not board.stopping:
                board.ended = "budget"
                board.stop()
            if board.stopping and not told:
                ray.get(desk.stop.remote(None))
                told = True
            thread.join(POLL_SECONDS)
    finally:
        ray.kill(desk)
        shutil.rmtree(state, ignore_errors=True)
    if failed:
        raise failed[0]


def _tuner(
    board: Board,
    desk: Any,
    objective: Objective,
    folder: str,
    spec: JobSpec,
    concurrent: int,
    ended: Callable[[Trial], None],
    state: str,
    verbose: bool,
) -> Any:
    cluster = spec.cluster
    trainable = tune.with_parameters(drive, objective=objective, desk=desk, folder=folder)
    if (
        cluster.max_workers
    ):  # the group that it starts has its own resources: `concurrent` sees to it that they are there
        resources: Any = tune.PlacementGroupFactory([{"memory": 1.0}])
    else:
        resources = together.needs(cluster, together.gpu_share(cluster, 1, ray.cluster_resources().get("GPU", 0.0)))
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(board, ended),
            scheduler=_Scheduler(board, desk),
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,  # a new process imports torch anew
            trial_dirname_creator=_short_name,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=state,
            verbose=1 if verbose else 0,
            failure_config=tune.FailureConfig(max_failures=spec.failures.max_restarts),
        ),
    )


class Desk:
    """Where trials ask whether they are to end. Made an actor by `search`."""

    def __init__(self) -> None:
        self._all, self._some = False, set[int]()

    def stop(self, number: int | None) -> None:
        """A trial is to end; None: all are."""
        if number is None:
            self._all = True
        else:
            self._some.add(number)

    def must_end(self, number: int) -> bool:
        """Whether a trial is to end."""
        return self._all or number in self._some


def drive(config: dict[str, Any], objective: Objective, desk: Any, folder: str) -> dict[str, str]:
    """What Tune runs in a trial's process.

    An outcome is in the trial's folder before anybody hears of it: where the driver is killed between the two, the
    trial is not run again.
    """
    trial = Trial.model_validate_json(config["trial"])
    place = visited(f"{folder}/{trial.name}")
    try:
        return {"trial": _outcome(trial, place, objective, desk)}
    finally:
        leave(place)  # a process that Tune ends does not come to its end


def _outcome(trial: Trial, place: Path, objective: Objective, desk: Any) -> str:
    """A trial when it is over, or told to end; read where it was over before."""
    outcome = place / OUTCOME_FILE
    if outcome.is_file():
        return outcome.read_text()

    def tell(news: Trial | None) -> bool:
        if news is not None:
            tune.report({"trial": news.model_dump_json()})  # returns when the scheduler has decided on it
        return bool(ray.get(desk.must_end.remote(trial.number)))

    try:
        trial = objective(trial, place, tell)
    except Exception as error:  # ours or a library's; it would come again, and other trials go on
        place.mkdir(parents=True, exist_ok=True)
        (place / ERROR_FILE).write_text(traceback.format_exc())
        carry(place / ERROR_FILE)
        line = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} (see {shown(place / ERROR_FILE)})"
        trial = trial.model_copy(update={"status": "failed", "error": line})
    told = trial.model_dump_json()
    if trial.status in ("done", "failed"):
        place.mkdir(parents=True, exist_ok=True)
        write_text(outcome, told)
        carry(outcome)
    return told


# ---- what Tune asks, answered by the board ------------------------------------------------------------


class _Searcher(Searcher):  # type: ignore[misc]
    """Which trial comes next. Its state is the board's journal, so Tune has none to save."""

    def __init__(self, board: Board, ended: Callable[[Trial], None]) -> None:
        super().__init__()
        self._board, self._ended = board, ended
        self._numbers: dict[str, int] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The board knows its space and what is sought."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """A trial's values, as one piece of text: Tune would take dots and lists in them for its own."""
        trial = self._board.next()
        if trial is None:
            return Searcher.FINISHED
        self._numbers[trial_id] = trial.number
        return {"trial": trial.model_dump_json()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial is over; `result` is the last that it told."""
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        outcome = Trial.model_validate_json(result["trial"]) if result and "trial" in result else None
        if error or outcome is None or outcome.status == "running":
            self._ended(self._board.fail(number, "its process ended without an outcome, again and again"))
        else:
            self._ended(self._board.finish(outcome))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: see the class."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see the class."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a Tuner pickles all that it has


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Whether a trial goes on. It ends by itself, so Tune is always told to let it."""

    def __init__(self, board: Board, desk: Any) -> None:
        super().__init__()
        self._board, self._desk = board, desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """A trial has told how far it is and waits for this to return."""
        news = Trial.model_validate_json(result["trial"]) if "trial" in result else None
        if news is not None and news.status == "running" and self._board.hear(news):
            ray.get(self._desk.stop.remote(news.number))
        return str(FIFOScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _short_name(trial: Any) -> str:
    """Of a trial's folder in Tune's own state."""
    return str(trial.trial_id)
