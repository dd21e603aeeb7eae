"""Runs and pilots side by side, paired by seed: each against a first one, over the val rows of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from raymix.report import words
from raymix.report.facts import RESAMPLED_IMAGES, lead_arm
from raymix.report.intervals import RESAMPLES, at_length, paired_interval
from raymix.report.judging import Judged
from raymix.report.pilot import Interval, PilotReport
from raymix.report.run import RunReport
from raymix.spec import Metric, Section


class Versus(Section):
    """A line minus another one."""

    against: str = Field(description="the other: its folder, and its arm where it is of a pilot")
    points: Interval = Field(description="of top-1, 95 %; of one seed over images alone")
    seeds: tuple[int, ...] = Field(description="that both have")


class _Answers(NamedTuple):
    """What one seed answered on val."""

    seed: int
    correct: str
    counts: str


class _Side(NamedTuple):
    """A run, or the runs of an arm at T."""

    name: str
    arm: str | None
    metric: Metric
    val: Judged
    answers: tuple[_Answers, ...]


def name_of(path: str, arm: str | None) -> str:
    """How a line is called."""
    return path if arm is None else f"{path}: {arm}"


def versus(done: Sequence[tuple[str, RunReport | PilotReport]]) -> dict[tuple[int, str | None], Versus]:
    """Of each report, by its place, and arm: the difference from what it is compared with, where that is paired.

    An arm of the first report is compared with its leading one (mix, or the winner); any later line with the arm of
    the same name in the first report, or else with its leading one. Nothing is told of lines that share no seed or
    have another number of val rows or another metric.
    """
    sides = [_sides(path, report) for path, report in done]
    first = next((place for place, of in enumerate(sides) if of), None)
    if first is None:
        return {}
    report, there = done[first][1], {side.arm: side for side in sides[first]}
    lead = there.get(lead_arm(report) if isinstance(report, PilotReport) else None, sides[first][0])
    found = {}
    for place, of in enumerate(sides):
        for side in of:
            other = lead if place == first else there.get(side.arm, lead)
            if side is not other and (told := _versus(side, other)) is not None:
                found[place, side.arm] = told
    return found


def versus_cells(against: Versus) -> list[str]:
    """The difference, its interval, the seeds, and what from."""
    points = against.points
    return [against.against, f"{words.points(points.value)} ({words.point_interval(points)})", str(len(against.seeds))]


def _versus(side: _Side, other: _Side) -> Versus | None:
    seeds = {one.seed for one in side.answers} & {one.seed for one in other.answers}
    if not seeds or side.val.num != other.val.num or side.metric != other.metric:
        return None
    resamples = min(RESAMPLES, max(200, RESAMPLED_IMAGES // max(1, side.val.num)))
    points = paired_interval(side.answers, other.answers, side.val, resamples)
    return Versus(against=other.name, points=points, seeds=tuple(sorted(seeds)))


def _sides(path: str, report: RunReport | PilotReport) -> list[_Side]:
    if isinstance(report, RunReport):
        if (final := report.final) is None:
            return []
        return [_Side(path, None, final.metric, final.judged, (_Answers(report.seed, final.correct, final.counts),))]
    return [
        _Side(
            name_of(path, arm),
            arm,
            report.metric,
            report.judged,
            tuple(_Answers(run.seed, run.correct, run.counts) for run in runs),
        )
        for arm, all_runs in report.arms.items()
        if (runs := at_length(all_runs, 1.0))
    ]
