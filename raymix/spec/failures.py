"""What is done when something goes wrong in the midst of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.spec.base import Section

NotFinitePolicy = Literal["stop", "skip", "roll_back"]


class Failures(Section):
    """What a run does about workers that die, and about losses and gradients that are NaN or infinite."""

    max_restarts: int = Field(3, ge=0, description="restarts of the worker group after a failure")
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
