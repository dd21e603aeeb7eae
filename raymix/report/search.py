"""What a search found: `search.json`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from raymix.report.run import Status, unit_on
from raymix.search.trial import Trial
from raymix.spec import Axis, Section


class SearchReport(Section):
    """A search, whole."""

    name: str
    status: Status
    ended: Literal["complete", "budget"] | None = Field(description="why no trial follows; null: it was interrupted")
    search: str = Field(description="random, grid or optuna")
    objectives: tuple[str, ...]
    seed: int
    space: dict[str, Axis]
    axes: dict[str, str] = Field(description="path of each field of the space -> a short name for it")
    asked: int = Field(description="trials, of all arms together")
    num_select: int = Field(description="select rows, on which all was chosen; val was not read")
    trials: tuple[Trial, ...]
    earlier: tuple[Trial, ...] = Field(description="taken from earlier searches of the same job and space")
    tried: int = Field(description="configurations that trained, earlier ones included")
    best: Trial | None = Field(description="highest select top-1 of the trials that are done")
    best_of_arm: dict[str, Trial] = Field(description="the same for each arm; empty without arms")
    front: tuple[Trial, ...] = Field(
        description="done trials that none beats in select top-1 and worker-seconds both, the cheapest first"
    )
    device: str
    workers: int
    price_per_worker_hour: float | None
    wall_seconds: float = Field(description="earlier attempts included")
    worker_seconds: float = Field(description="billed, of this search's trials")
    cost: float | None = Field(description="null: price not set")
    environment: dict[str, str]
    note: str = Field("", description="a sentence on what the figures can say, shown beside them")

    @property
    def unit(self) -> str:
        """What a worker-second is called."""
        return unit_on(self.device)

    @property
    def judged(self) -> list[Trial]:
        """All trials with an accuracy, the best first."""
        found = [trial for trial in (*self.trials, *self.earlier) if trial.select_top1 is not None]
        return sorted(found, key=lambda trial: (trial.status != "done", -(trial.select_top1 or 0.0)))

    def _repr_html_(self) -> str:
        from raymix.report.search_page import search_notebook_html  # only a notebook asks for HTML

        return search_notebook_html(self)


def value_text(value: Any) -> str:
    """A value of a field, short."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(part) for part in value) + "]"
    return str(value)
