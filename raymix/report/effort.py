"""What the arms of a pilot did beside spending equal seconds, and how they compare at equal amounts of that.

Secondary: the verdict is at equal step-seconds. An equal amount lies between two lengths of the lead arm at best; there
its answers are interpolated, in the logarithm of the amount, between whole runs of those lengths. Outside of them
nothing is told: a curve is never read in the middle of a longer run, nor drawn on beyond the longest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from statistics import fmean
from typing import Any, NamedTuple

from raymix.report import words
from raymix.report.compare import EQUAL_WITHIN
from raymix.report.facts import RESAMPLED_IMAGES, lead_arm
from raymix.report.intervals import RESAMPLES, at_length, interval_of, unpack
from raymix.report.pilot import Interval, PilotReport, PilotRun

NOT_MEASURED = "not measured"
EFFORT_HEADS = ("SSL + SL epochs", "labelled passes", "labelled tokens", "images", "updates", "FLOPs")
# what is made equal, of a run; an epoch of mix steps is one of each side
AMOUNTS: dict[str, Callable[[PilotRun], float]] = {
    "epochs": lambda run: run.ssl_epochs + run.sl_epochs,
    "labelled passes": lambda run: float(run.labelled),
    "labelled tokens": lambda run: float(run.labelled_tokens or 0),
    "updates": lambda run: float(run.steps),
    "FLOPs": lambda run: run.flops or 0.0,
}


class Equal(NamedTuple):
    """The lead arm minus another one, which stands at T, where both have done as much."""

    arm: str
    by: str  # of AMOUNTS
    gain: Interval | None  # points; None: the lead's runs do not span the amount


def effort_cells(report: PilotReport) -> list[tuple[str, list[str]]]:
    """For each arm what a run of it did at T, on average, as cells under EFFORT_HEADS."""
    found = []
    for arm, all_runs in report.arms.items():
        if not (runs := at_length(all_runs, 1.0)):
            continue
        flops = [run.flops for run in runs if run.flops is not None]
        tokens = [run.labelled_tokens for run in runs if run.labelled_tokens is not None]
        ssl, sl = (words.epochs(fmean(getattr(run, name) for run in runs)) for name in ("ssl_epochs", "sl_epochs"))
        passes = fmean(run.labelled for run in runs) / report.num_labelled if report.num_labelled else None
        cells = [
            f"{ssl} + {sl}",
            words.figure(passes, ",.1f"),
            f"{fmean(tokens):.3g}" if len(tokens) == len(runs) else "-",
            words.count(fmean(run.images for run in runs)),
            words.count(fmean(run.steps for run in runs)),
            f"{fmean(flops):.3g}" if len(flops) == len(runs) else "-",
        ]
        found.append((arm, cells))
    return found


def equals(report: PilotReport) -> list[Equal]:
    """The lead arm against each other one that has runs at T, at equal amounts of each kind."""
    lead = lead_arm(report)
    others = {arm: at_length(runs, 1.0) for arm, runs in report.arms.items() if arm != lead}
    return [
        Equal(arm, by, _gain(report, report.arms[lead], runs, amount))
        for arm, runs in others.items()
        for by, amount in AMOUNTS.items()
        if runs
    ]


def equal_cells(report: PilotReport) -> list[tuple[str, list[str]]]:
    """For each other arm, the lead minus it at equal amounts, as cells under AMOUNTS."""
    found: dict[str, list[str]] = {}
    for arm, _, gain in equals(report):
        told = NOT_MEASURED if gain is None else f"{words.points(gain.value)} ({words.point_interval(gain)})"
        found.setdefault(arm, []).append(told)
    return list(found.items())


def secondary_note(report: PilotReport) -> str:
    """How to read the comparisons at equal amounts."""
    lead = lead_arm(report)
    return (
        f"Secondary; the verdict is at equal step-seconds. {lead} minus the arm, in points (95 %), where {lead} has "
        f"done as much as the arm has at T: between whole runs of {lead} at the lengths compared, interpolated, and "
        f"{NOT_MEASURED} outside of them. An epoch of mix steps counts on both sides."
    )


def _gain(
    report: PilotReport, lead: tuple[PilotRun, ...], rival: tuple[PilotRun, ...], amount: Callable[[PilotRun], float]
) -> Interval | None:
    """The lead's answers at the rival's amount minus the rival's, over the seeds that all the runs have."""
    wanted = fmean(amount(run) for run in rival)
    here = _between(lead, wanted, amount)
    if here is None:
        return None
    seeds = set.intersection(*({run.seed for run in runs} for runs in (rival, *(runs for runs, _ in here))))
    if not seeds:
        return None

    def answers(runs: tuple[PilotRun, ...]) -> Any:
        kept = sorted((run for run in runs if run.seed in seeds), key=lambda run: run.seed)
        return unpack(kept, report.judged)

    d = sum(share * answers(runs) for runs, share in here) - answers(rival)
    return interval_of(d, min(RESAMPLES, max(200, RESAMPLED_IMAGES // max(1, report.num_val))))


def _between(
    runs: tuple[PilotRun, ...], wanted: float, amount: Callable[[PilotRun], float]
) -> list[tuple[tuple[PilotRun, ...], float]] | None:
    """The runs of the one or two lengths whose amounts are at, or around, the wanted one, and their shares in it."""
    lengths = sorted({run.length for run in runs})
    known = [(fmean(amount(run) for run in of), of) for length in lengths if (of := at_length(runs, length))]
    if not wanted or not all(done for done, _ in known):
        return None  # FLOPs or tokens that nobody counted
    for done, of in known:
        if abs(done / wanted - 1) <= EQUAL_WITHIN:
            return [(of, 1.0)]
    for (low, before), (high, after) in itertools.pairwise(known):
        if low < wanted < high:
            share = math.log(wanted / low) / math.log(high / low)
            return [(before, 1 - share), (after, share)]
    return None
