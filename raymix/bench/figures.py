"""A benchmark's figures: what was measured, against which rival, and whether it reaches what was asked of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text


class Asked(NamedTuple):
    """A bound on a figure's ratio, or on what was measured itself."""

    sign: Literal[">=", "<=", "<"]
    limit: float
    of: Literal["ratio", "measured"] = "ratio"

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        return {">=": value >= self.limit, "<=": value <= self.limit, "<": value < self.limit}[self.sign]


class Figure(NamedTuple):
    """One line of the result; `than` is what the rival reached, in the same unit."""

    what: str
    unit: str
    measured: float
    rival: str | None = None
    than: float | None = None
    ratio: float | None = None
    asked: Asked | None = None

    @property
    def ok(self) -> bool | None:
        """None: nothing is asked of it."""
        value = self.measured if self.asked is None or self.asked.of == "measured" else self.ratio
        return None if self.asked is None or value is None else self.asked.holds(value)

    def as_json(self) -> dict[str, Any]:
        """Plain data, `asked` as in ">= 5"."""
        asked = None if self.asked is None else f"{self.asked.sign} {self.asked.limit:g}"
        return {**self._asdict(), "asked": asked, "asked_of": self.asked.of if self.asked else None, "ok": self.ok}


def median_ratio(measured: Sequence[float], rival: Sequence[float]) -> float:
    """The median over the pairs that were taken in turns."""
    return statistics.median(mine / other for mine, other in zip(measured, rival, strict=True))


def table(figures: Iterable[tuple[str, Figure]]) -> Table:
    """A line for each (part, figure)."""
    made = Table("part", "what", "measured", "rival", "ratio", "must reach", "", box=box.SIMPLE_HEAD)
    for column in (2, 4, 5):
        made.columns[column].justify = "right"
    before = ""
    for part, figure in figures:
        rival = "" if figure.rival is None else figure.rival
        if figure.than is not None:
            rival = f"{rival}: {_value(figure.than, figure.unit)}"
        made.add_row(
            "" if part == before else part,
            figure.what,
            _value(figure.measured, figure.unit),
            rival,
            "" if figure.ratio is None else f"{figure.ratio:,.4g}",
            _asked(figure),
            _verdict(figure.ok),
        )
        before = part
    return made


def _asked(figure: Figure) -> str:
    asked = figure.asked
    if asked is None:
        return ""
    return f"{asked.sign} {_value(asked.limit, figure.unit) if asked.of == 'measured' else f'{asked.limit:g}'}"


def _value(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def _verdict(ok: bool | None) -> Text:
    return Text("") if ok is None else Text("ok", style="green") if ok else Text("missed", style="bold red")
