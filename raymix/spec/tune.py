"""What is searched for: which fields of a job may take which values, how they are tried, and what that may cost."""

from __future__ import annotations

import builtins
import itertools
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from raymix.spec.base import JobError, Seconds, Section, Share

SEARCHES = ("random", "grid", "optuna")
OBJECTIVES = (("accuracy",), ("accuracy", "worker_seconds"))
# fields that a search leaves alone: what begins so -> why
FIXED = {
    "tune": "the search itself",
    "pilot": "no part of a single run",
    "sweep": "no part of a single run",
    "report": "no part of a single run",
    "watch": "no part of what is trained",
    "metric": "all trials must be judged alike",
    "name": "each trial's own",
    "storage": "the whole search's",
    "cluster": "the same for all trials: `tune.concurrent` counts on it",
    "seed": "it also says which rows are select rows, and all trials must choose on the same ones",
    **{
        f"data.{field}": "it says which rows are select rows, and all trials must choose on the same ones"
        for field in (
            *("train", "unlabelled", "val", "holdout", "select", "split_seed", "keep_splits", "group", "fraction"),
            "label_fraction",
        )
    },
}
Values = tuple[Any, ...]
_AXIS_HINT = "as in {uniform: [0, 1]}, {loguniform: [1e-4, 1e-2]}, {int: [1, 8]}, {choice: [a, b]} or {grid: [1, 2]}"
_AXIS_PROBLEMS = {
    "extra_forbidden": "unknown key",
    "int_type": "must be two whole numbers",
    "int_from_float": "must be two whole numbers",
    "float_type": "must be two numbers",
    "finite_number": "must be two finite numbers",
    "missing": "must be two numbers",
    "too_long": "must be two numbers",
}


class Axis(Section):
    """The values that one field may take: exactly one of these."""

    uniform: tuple[float, float] | None = Field(None, description="any number from a to b")
    loguniform: tuple[float, float] | None = Field(None, description="the same, evenly over the magnitudes")
    int: tuple[builtins.int, builtins.int] | None = Field(None, description="a whole number from a to b, both included")
    choice: Values | None = Field(None, min_length=1, description="one of these, whatever they are")
    grid: Values | None = Field(None, min_length=1, description="each of these; for search: grid")

    @model_validator(mode="after")
    def _check(self) -> Self:
        there = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(there) != 1:
            raise ValueError(f"needs one of {', '.join(type(self).model_fields)}, and has {len(there)}")
        if self.values is None:
            low, high = self.bounds
            if not low < high:
                raise ValueError(f"{low:g} is not below {high:g}")
            if self.loguniform is not None and low <= 0:
                raise ValueError("loguniform needs numbers above 0")
        elif len({json.dumps(value, sort_keys=True) for value in self.values}) < len(self.values):
            raise ValueError("a value is there twice")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """From where to where, of numbers."""
        found = self.uniform or self.loguniform or self.int
        assert found is not None
        return found

    @property
    def values(self) -> Values | None:
        """All values where they are listed; None: numbers between two bounds."""
        return self.choice if self.grid is None else self.grid

    @property
    def finite(self) -> Values | None:
        """All values, where they can be counted."""
        return tuple(range(self.int[0], self.int[1] + 1)) if self.int is not None else self.values

    @property
    def probes(self) -> Values:
        """Values that the job must not refuse, so that it refuses none: all that are listed, or both ends."""
        return self.bounds if self.values is None else self.values

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1) of the way."""
        if self.values is not None:
            return self.values[math.floor(share * len(self.values))]
        low, high = self.bounds
        if self.int is not None:
            return int(low) + math.floor(share * (high - low + 1))
        if self.loguniform is not None:
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)


class Asha(Section):
    """Successive halving: at a rung the lower part of the trials ends. Rungs are worker-seconds, not epochs."""

    rungs: tuple[Share, ...] = Field(
        (0.1, 0.3), min_length=1, description="shares of `worker_seconds` of training at which trials are compared"
    )
    keep: float = Field(1 / 3, gt=0, lt=1, description="share of those that came to a rung that goes on")
    worker_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="that a whole trial trains; null: what the first trial's measured step times say of its plan"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(a < b for a, b in itertools.pairwise((0.0, *self.rungs, 1.0))):
            problem = f"{list(self.rungs)} are not shares that rise"
            raise JobError("tune.asha.rungs", problem, "above 0, below 1, each above the one before")
        return self


class SearchBudget(Section):
    """What all trials together may cost, in one currency."""

    wall: Seconds | None = Field(None, gt=0, description="from the command's start to the report, as in 2h")
    worker_hours: float | None = Field(None, gt=0, description="hours that the trials' workers are held")
    money: float | None = Field(None, gt=0, description="at cluster.price_per_worker_hour or cluster.price_file")

    @model_validator(mode="after")
    def _check(self) -> Self:
        there = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(there) != 1:
            problem = f"{' and '.join(there)} are both set" if there else "names no amount"
            raise JobError("tune.budget", problem, "one of wall, worker_hours, money")
        return self


def _search(value: Any) -> Any:
    if value == "pbt":
        problem = "pbt is left out: with Ray Train V2, population based training runs and never perturbs a trial"
        raise JobError("tune.search", problem, f"one of {', '.join(SEARCHES)}")
    return value


def _axes(value: Any) -> Any:
    """The space, each axis checked under the path of its field, whose dots pydantic would put in quotes."""
    if not isinstance(value, dict):
        return value
    if not value:
        raise JobError("tune.space", "names no field", "as in schedule.mix_ratio: {uniform: [0, 1]}")
    axes = {}
    for path, axis in value.items():
        where = f"tune.space.{path}"
        _check_path(str(path), where, value)
        try:
            axes[path] = axis if isinstance(axis, Axis) else Axis.model_validate_json(json.dumps(axis), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)[0]
            kind = found["loc"][0] if found["loc"] else ""
            problem = _AXIS_PROBLEMS.get(found["type"], "is not in one of the forms that there are")
            if found["type"] == "value_error":
                problem = found["msg"].removeprefix("Value error, ")
            raise JobError(f"{where}.{kind}" if kind else where, problem, _AXIS_HINT) from None
    return axes


def _check_path(path: str, where: str, space: dict[Any, Any]) -> None:
    for fixed, why in FIXED.items():
        if path == fixed or path.startswith(f"{fixed}."):
            raise JobError(where, f"{fixed} is not searched: {why}", "leave it out")
    for other in space:
        if path.startswith(f"{other}."):
            raise JobError(where, f"is inside tune.space.{other}", "leave one of the two out")


class Tune(Section):
    """A search: `raymix tune` tries values of some fields and chooses on select rows."""

    search: Annotated[Literal["random", "grid", "optuna"], BeforeValidator(_search)] = Field(
        "random", description="optuna: TPE, `pip install 'raymix[tune]'`"
    )
    trials: int | None = Field(
        None, ge=1, le=100_000, description="of each arm; null: 20, of a grid all its combinations"
    )
    space: Annotated[dict[str, Axis], BeforeValidator(_axes)] = Field(
        min_length=1, description="field of the job -> its values, as in schedule.mix_ratio: {uniform: [0, 1]}"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the search; the trials' own is the job's")
    objectives: tuple[Literal["accuracy", "worker_seconds"], ...] = Field(
        ("accuracy",), description="on select rows; with worker_seconds too, optuna looks for the whole Pareto front"
    )
    asha: Asha | None = None
    budget: SearchBudget | None = None
    concurrent: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="trials at once; auto: as many as the cluster holds"
    )
    warm_start: bool = Field(
        False, description="count in what searches of the same job and space in the same storage have found"
    )
    arms: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="ways to train, as in pilot.arms, each searched by itself; null: the job as it is",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.objectives not in OBJECTIVES:
            problem = f"[{', '.join(self.objectives)}] is no such list"
            raise JobError("tune.objectives", problem, "[accuracy] or [accuracy, worker_seconds]")
        if self.asha is not None and len(self.objectives) > 1:
            problem = "ends trials by their accuracy alone, before they are a point of the Pareto front"
            raise JobError("tune.asha", problem, "leave it out, or set tune.objectives=[accuracy]")
        if self.arms is not None and len(set(self.arms)) < len(self.arms):
            raise JobError("tune.arms", "an arm is named twice", "name each arm once")
        self._check_axes()
        return self

    def _check_axes(self) -> None:
        for path, axis in self.space.items():
            where = f"tune.space.{path}"
            if self.search == "grid" and axis.finite is None:
                raise JobError(where, "cannot be counted", "a grid takes {grid: [..]}, {choice: [..]} or {int: [a, b]}")
            if self.search != "grid" and axis.grid is not None:
                raise JobError(where, "a grid is for search: grid", "write {choice: [..]}, or set tune.search=grid")
        if self.search == "grid" and self.trials is not None and self.trials < self.num_points:
            problem = f"{self.trials} of the {self.num_points:,} combinations would be no grid"
            raise JobError("tune.trials", problem, "leave it out, or set tune.search=random")

    @property
    def num_points(self) -> int:
        """Combinations of a grid."""
        return math.prod(len(axis.finite or ()) for axis in self.space.values())

    @property
    def num_trials(self) -> int:
        """Trials of each arm."""
        return self.num_points if self.search == "grid" else self.trials or 20

    @property
    def axes(self) -> dict[str, str]:
        """The fields of the space, each under a name that is short and still its own: as many of its last parts."""
        names = {}
        for path in self.space:
            parts = path.split(".")
            endings = [".".join(parts[-num:]) for num in range(1, len(parts) + 1)]
            names[path] = next(
                end
                for end in endings
                if end == path or sum(f".{other}".endswith(f".{end}") for other in self.space) == 1
            )
        return names
