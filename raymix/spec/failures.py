"""What is done when something goes wrong in the midst of a run."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raymix.spec.base import JobError, Seconds, Section

_SHORTEST_HANG = 5.0  # workers are heard of every second

NotFinitePolicy = Literal["stop", "skip", "roll_back"]


class Failures(Section):
    """What a run does about workers that die or hang, and about losses and gradients that are NaN or infinite."""

    max_restarts: int = Field(3, ge=0, description="restarts of the worker group after a failure")
    backoff: Seconds = Field(
        1.0,
        description="wait before a restart; doubled where one follows without a further step or 5 minutes of work",
    )
    backoff_max: Seconds = Field(60.0, description="longest such wait")
    hang: Seconds = Field(
        30.0,
        description="no step for so long, and for 10 steps' time, is a hang: stacks of all workers are saved, and they"
        " are ended and started again; 0: never",
    )
    hang_outside: Seconds = Field(
        600.0, description="the same for what is no step: starting, loading, compiling, evaluating, saving"
    )
    wait_for_workers: Seconds = Field(
        3600.0, description="how long a run waits where there is room for fewer workers than cluster.workers.min"
    )
    not_finite: NotFinitePolicy = Field(
        "stop",
        description="what a loss or gradient that is not finite does to the run. stop: ends it, with that segment; "
        "skip: the step changes nothing, on any worker, and counts as done; roll_back: the run goes back to its newest "
        "checkpoint, or its start, and on from there at half the rate",
    )
    max_skipped: int = Field(100, ge=1, description="steps of a run that `skip` may leave out; one more ends it")
    max_roll_backs: int = Field(
        3, ge=1, description="times that `roll_back` may go back, halving the rate each time; the next one ends the run"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("hang", "hang_outside"):
            if 0 < getattr(self, name) < _SHORTEST_HANG:
                problem = f"{getattr(self, name):g} s is too short to tell a hang from a busy machine"
                raise JobError(f"failures.{name}", problem, f"at least {_SHORTEST_HANG:g}s, or 0 for never")
        return self
