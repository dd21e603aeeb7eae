"""The `pilot` section: which ways to train are compared, at which lengths, with how many seeds."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from raymix.spec.base import JobError, Section

Arm = Literal["sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop", "mix"]
ARMS: tuple[Arm, ...] = get_args(Arm)


class Pilot(Section):
    """Which ways to train are compared, and how often."""

    preset: Literal["quick", "full"] = Field("full", description="quick: one seed, one length; it decides nothing")
    arms: tuple[Arm, ...] = Field(ARMS, min_length=1)
    seeds: int = Field(5, ge=1, le=1000, description="paired seeds: the job's seed and the ones that follow it")
    lengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1 / 1.29, 1.0, 2.0),
        description="multiples of T, 1 among them; the shortest of the default is the paper's speed-up",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.arms)) != len(self.arms):
            raise JobError("pilot.arms", "an arm is named twice", "name each arm once")
        if len({round(length, 2) for length in self.lengths}) != len(self.lengths):
            raise JobError("pilot.lengths", "two of them are within a hundredth of T", "name each length once")
        if 1.0 not in self.lengths:
            raise JobError("pilot.lengths", "1 is not among them, the length of the verdict", "add it: [0.775, 1, 2]")
        return self
