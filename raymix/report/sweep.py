"""What a sweep found: `sweep.json`. Cells are pilots with reports of their own; what follows from all of them is here.

How it is worked out is in `raymix.report.swept` and `raymix.report.crossing`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.report.figure import Interval
from raymix.report.pilot import Verdict
from raymix.report.run import Status, unit_on
from raymix.spec import Section, SweepAxis

Edge = float | Literal["below", "above"]


class Within(Section):
    """A place on an axis and its 95 % interval; below, above: beyond the range that was swept."""

    value: Edge
    low: Edge
    high: Edge


class Gain(Section):
    """An arm minus another in one cell, in points of top-1."""

    arm: str
    rival: str
    points: Interval

    @property
    def sign(self) -> int:
        """1 or -1 where the interval tells the difference from nought, else 0."""
        return (self.points.low > 0) - (self.points.high < 0)


class AtLength(Section):
    """The arms of a cell at one length."""

    length: float = Field(description="multiple of the cell's T")
    arms: dict[str, Interval] = Field(description="mean top-1 of each, percent of the val rows")
    mixing: Gain | None = Field(description="mix minus the best other arm; null: one of them was not run")
    ssl: Gain | None = Field(description="the best arm with SSL, mix apart, minus sl; null: one of them was not run")


class Cell(Section):
    """One pilot of the sweep."""

    fraction: float = Field(description="data.fraction")
    label_fraction: float = Field(description="data.label_fraction")
    folder: str = Field(description="its folder, relative to the sweep's")
    status: Status | None = Field(description="null: not begun, or cut off by a kill")
    num_train: int = Field(description="images that train, labelled or not")
    num_labelled: int = Field(description="of these, with a label")
    num_select: int = Field(description="labelled rows beside them, a share of the cell's own; nothing is chosen here")
    unit_seconds: float | None = Field(None, description="T of this cell")
    seeds: tuple[int, ...] = ()
    at: tuple[AtLength, ...] = Field((), description="by length, the shortest first")
    verdict: Verdict | None = Field(None, description="the pilot's own, at T")
    wall_seconds: float = 0.0
    worker_seconds: float = Field(0.0, description="billed (clock B), of its runs")
    cost: float | None = Field(None, description="of these; null: price not set")

    def share(self, axis: SweepAxis) -> float:
        """Where it lies on an axis."""
        return self.fraction if axis == "data.fraction" else self.label_fraction


class Crossover(Section):
    """A change of sign along an axis."""

    at: Within = Field(description="share, interpolated in its logarithm")
    between: tuple[float, float] = Field(description="the cells it lies between, as shares")
    rises: bool = Field(description="true: from behind to ahead as the share grows")
    told: bool = Field(
        description="the pilots decide, and on either side a cell's own interval tells the sign; false: may be chance"
    )


class Turns(Section):
    """One difference along an axis."""

    signs: tuple[int, ...] = Field(
        description="by cell: 1 ahead, -1 behind, 0 not told from nought, or nothing is decided"
    )
    ahead: tuple[bool, ...] = Field(description="by cell, told or not")
    crossovers: tuple[Crossover, ...] = Field(description="empty: no change of sign in this range")


class Saved(Section):
    """What mix reaches in a cell, in labels of sl."""

    labels: int = Field(description="that mix had")
    needed: Within = Field(description="labels with which sl comes to the same top-1, interpolated, not extrapolated")


class Line(Section):
    """Cells that differ in one share alone."""

    axis: SweepAxis
    held: float = Field(description="the other share, the same in all of them")
    length: float = Field(description="multiple of T")
    seeds: tuple[int, ...] = Field(description="that all its cells have")
    shares: tuple[float, ...]
    labels: tuple[int, ...]
    mixing: Turns | None
    ssl: Turns | None
    saved: tuple[Saved, ...] = Field(description="by cell; empty: sl or mix was not run")

    @property
    def other(self) -> SweepAxis:
        """The axis that is held."""
        return "data.label_fraction" if self.axis == "data.fraction" else "data.fraction"


class SweepReport(Section):
    """A sweep, whole."""

    name: str
    status: Status
    preset: Literal["quick", "full"]
    decided: bool = Field(description="false: too few seeds, or preset quick: it decides nothing")
    device: str
    workers: int
    price_per_worker_hour: float | None
    axes: dict[SweepAxis, tuple[float, ...]]
    arms: tuple[str, ...]
    lengths: tuple[float, ...]
    num_val: int = Field(description="val rows, the same in every cell")
    cells: tuple[Cell, ...]
    lines: tuple[Line, ...] = Field(description="at T first")
    wall_seconds: float = Field(description="of all commands, start-up included")
    worker_seconds: float = Field(description="that workers were held (clock B), over all commands")
    cost: float | None = Field(description="of these; null: price not set")
    environment: dict[str, str]
    note: str = Field("", description="a sentence on what the figures can say, shown beside them")

    @property
    def unit(self) -> str:
        """What a worker-second is called."""
        return unit_on(self.device)

    def _repr_html_(self) -> str:
        from raymix.report.page_sweep import sweep_notebook_html  # only a notebook asks for HTML

        return sweep_notebook_html(self)
