"""What is done when something goes wrong in the midst of a run."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from raymix.spec.base import JobError, Seconds, Section

_SHORTEST_HANG = 5.0  # workers are heard of every second


class Failures(Section):
    """What a run does about workers that die or hang."""

    max_restarts: int = Field(3, ge=0, description="restarts of the worker group after a failure")
    backoff: Seconds = Field(
        1.0, description="wait before a restart; doubled at each that follows within 5 minutes of work"
    )
    backoff_max: Seconds = Field(60.0, description="longest such wait")
    hang: Seconds = Field(
        30.0,
        description="no step for so long, and for 10 steps' time, is a hang: stacks of all workers are saved, and they"
        " are ended and started again; 0: never",
    )
    hang_outside: Seconds = Field(
        600.0, description="the same for what is no step: loading, compiling, evaluating, saving"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("hang", "hang_outside"):
            if 0 < getattr(self, name) < _SHORTEST_HANG:
                problem = f"{getattr(self, name):g} s is too short to tell a hang from a busy machine"
                raise JobError(f"failures.{name}", problem, f"at least {_SHORTEST_HANG:g}s, or 0 for never")
        return self
