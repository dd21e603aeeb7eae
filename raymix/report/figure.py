"""A figure that is not known exactly."""

from __future__ import annotations

from raymix.spec import Section


class Interval(Section):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float
