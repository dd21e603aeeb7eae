"""What the return on investment is made of. It is reckoned in `raymix.report.roi` and worded in `roi_words`.

An amount is money where `cluster.price_per_worker_hour` is set, and worker-seconds where it is not; never a mixture.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.report.figure import Interval
from raymix.spec import ReportSpec, Section

MONEY = "money"
# told: the interval leaves no doubt; none: neither does it, the other way; open: it does, or nothing was decided
Outcome = Literal["told", "none", "open"]


class Item(Section):
    """One thing that was spent, once."""

    name: str
    what: str
    worker_seconds: float | None = Field(None, description="clock B; null: not of workers")
    cost: float | None = Field(None, description="null: price not set")
    amount: float | None = Field(None, description="in Roi.unit; null: it cannot be told in that")
    counted: bool = Field(True, description="false: nobody said how much, and the sum is without it")


class Training(Section):
    """One training by an arm, at T: means of its runs."""

    arm: str
    top1: float
    worker_seconds: float = Field(description="clock B")
    cost: float | None
    cost_per_year: float | None = Field(description="null: price or report.retrainings_per_year not set")


class Saving(Section):
    """The rival's accuracy for fewer seconds."""

    outcome: Outcome
    why: str = Field("", description="what stands in the way; '' where the saving is told")
    at_least: bool = Field(False, description="reached at the shortest length compared: it may be more")
    per_training: Interval | None = Field(
        None, description="steps that the rival takes to T and the lead does not, less `extra`"
    )
    per_year: Interval | None = None
    break_even: Interval | None = Field(None, description="retrainings until what was spent once is saved")
    break_even_years: Interval | None = None


class Gain(Section):
    """More accuracy for the same seconds."""

    outcome: Outcome
    why: str = Field("", description="what stands in the way; '' where the gain is told")
    points: Interval | None = None
    extra: float = Field(0.0, description="a training's bill above the rival's at T; a lower one is not credited")
    per_point: Interval | None = Field(None, description="spent once, and a year's `extra`, over the points")
    value_per_year: Interval | None = Field(None, description="by report.value_per_point, less a year's `extra`")
    break_even_years: Interval | None = None


class Roi(Section):
    """The return on investment of a pilot."""

    asked: ReportSpec
    unit: str = Field(description="of all amounts: money, worker-seconds or GPU-seconds")
    worker_unit: str = Field(description="what a worker-second is called: GPU-seconds on GPUs")
    price_per_worker_hour: float | None
    lead: str | None = Field(description="the arm that the return is of: mix, or else the winner")
    rival: str | None = Field(description="what it is compared with: the best of the other arms")
    open: str = Field(description="why nothing is claimed at all; '': the intervals decide")
    once: tuple[Item, ...] = Field(description="to find this out and to introduce it")
    once_total: float | None = Field(description="null: an item has no amount")
    labels: dict[str, int] = Field(description="labelled rows of train, select and val")
    labels_cost: float | None = Field(description="paid once, the same for every arm; null: price not set")
    trainings: tuple[Training, ...]
    saving: Saving
    gain: Gain
