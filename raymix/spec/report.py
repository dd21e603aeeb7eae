"""The `report` section: what the return on investment is reckoned with, beside `cluster.price_per_worker_hour`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from raymix.spec.base import Folder, JobError, Section, Share

# class -> what it is taken for -> cost of such an image
Costs = Annotated[dict[str, dict[str, Annotated[float, Field(ge=0)]]], Field(min_length=1)]


class ReportSpec(Section):
    """Prices and counts that only the user knows; all money is in the currency of `cluster.price_per_worker_hour`."""

    price_per_label: float | None = Field(None, ge=0, description="of one labelled image")
    retrainings_per_year: float | None = Field(
        None, gt=0, le=100_000, description="how often the model is trained anew; null: nothing is told by the year"
    )
    engineer_hours: float | None = Field(
        None, ge=0, description="spent on introducing SSL and mixing; null: not counted, and the report says so"
    )
    price_per_engineer_hour: float | None = Field(None, ge=0)
    value_per_point: float | None = Field(
        None, gt=0, description="what one point of top-1 more is worth in a year; null: nobody said"
    )
    costs: Costs | None = Field(
        None,
        description="class -> what it is taken for -> what such an image costs, for `raymix evaluate` and metric: "
        "cost; a pair that is not named costs 0 where it is right and 1 where it is wrong",
    )
    false_alarms: Share = Field(
        0.01,
        description="false-alarm rate at which the recall of a class is told by `raymix evaluate`, and judges by "
        "metric: recall_at_false_alarms",
    )
    searches: tuple[Folder, ...] = Field((), description="folders of the searches (raymix tune) that led to this job")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engineer_hours and self.price_per_engineer_hour is None:
            raise JobError("report.price_per_engineer_hour", "missing", "engineer_hours cost what it says")
        if self.price_per_engineer_hour is not None and self.engineer_hours is None:
            raise JobError("report.engineer_hours", "missing", "price_per_engineer_hour alone costs nothing")
        check_rate("report.false_alarms", self.false_alarms)
        if len(set(self.searches)) != len(self.searches):
            raise JobError("report.searches", "a folder is named twice", "its cost would count twice")
        return self


def check_rate(field: str, rate: float) -> None:
    """Raises JobError where no threshold has a false-alarm rate, or all have."""
    if not 0 < rate < 1:
        raise JobError(field, f"must be above 0 and below 1, got {rate:g}")
