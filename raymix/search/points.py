"""Which values are tried next: pure functions of a search, a trial's number and what is known of other trials.

The same question gets the same answer, so a search that was killed goes on as it would have. To add a search: one
function, one line in `POINTS`, one name in `raymix.spec.tune`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from raymix.search.trial import OPEN, Trial
from raymix.spec import Axis, JobError, Tune

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = dict[str, Any]
Space = Mapping[str, Axis]
Points = Callable[[Tune, Space, int, Sequence[Trial]], "Values | None"]  # None: there is nothing left to try

_STARTUP = 10  # random points before TPE has something to go by


def check_installed(tune: Tune) -> None:
    """Raises JobError where the search needs a package that is not there."""
    if tune.search == "optuna" and find_spec("optuna") is None:
        raise JobError("tune.search", "optuna is not installed", "pip install 'raymix[tune]', or search: random")


def random(tune: Tune, space: Space, place: int, known: Sequence[Trial]) -> Values:
    """Each point by itself, from the search's seed and the point's place."""
    shares = np.random.default_rng([tune.seed, place]).random(len(space))
    return {path: axis.at(float(share)) for (path, axis), share in zip(space.items(), shares, strict=True)}


def grid(tune: Tune, space: Space, place: int, known: Sequence[Trial]) -> Values | None:
    """All combinations, those of the last axis first."""
    values: Values = {}
    for path in reversed(list(space)):
        listed = space[path].finite
        assert listed is not None
        place, index = divmod(place, len(listed))
        values[path] = listed[index]
    return None if place else {path: values[path] for path in space}


def optuna(tune: Tune, space: Space, place: int, known: Sequence[Trial]) -> Values:
    """Optuna's TPE, which is told all that is known, and of open trials where they are, anew for each point."""
    package: Any = import_module("optuna")
    package.logging.set_verbosity(package.logging.ERROR)
    distributions = {path: _distribution(axis) for path, axis in space.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it calls experimental
        sampler = package.samplers.TPESampler(
            seed=int(np.random.default_rng([tune.seed, place]).integers(2**31)),
            n_startup_trials=_STARTUP,
            multivariate=True,
            constant_liar=True,  # open trials count as bad ones, so that the next one is somewhere else
        )
        directions = ["maximize", "minimize"][: len(tune.objectives)]
        study = package.create_study(sampler=sampler, directions=directions)
        for trial in known:
            study.add_trial(_told(package, tune, space, distributions, trial))
        asked = study.ask(fixed_distributions=distributions).params
    return {path: axis.values[asked[path]] if axis.values else asked[path] for path, axis in space.items()}


POINTS: dict[str, Points] = {"random": random, "grid": grid, "optuna": optuna}


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.values is not None:  # by their places: Optuna takes no lists and sections
        return CategoricalDistribution(range(len(axis.values)))
    low, high = axis.bounds
    if axis.int is not None:
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=axis.loguniform is not None)


def _told(package: Any, tune: Tune, space: Space, distributions: Mapping[str, BaseDistribution], trial: Trial) -> Any:
    """A trial as Optuna knows it; one that ASHA ended is told with how far it came."""
    state = package.trial.TrialState
    params = {
        path: axis.values.index(trial.values[path]) if axis.values else trial.values[path]
        for path, axis in space.items()
    }
    figures = {"accuracy": trial.select_top1, "worker_seconds": trial.worker_seconds}
    told: dict[str, Any] = {"state": state.FAIL}
    if trial.status in OPEN:
        told = {"state": state.RUNNING}
    elif trial.select_top1 is not None and trial.status == "done":
        told = {"state": state.COMPLETE, "values": [figures[name] for name in tune.objectives]}
    elif trial.select_top1 is not None and trial.status == "stopped":
        told = {"state": state.PRUNED, "intermediate_values": {len(trial.rungs): trial.select_top1}}
    return package.trial.create_trial(params=params, distributions=distributions, **told)
