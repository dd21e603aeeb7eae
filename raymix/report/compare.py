"""The verdict of a pilot (DESIGN section 3): who is best at equal seconds, by how much, how sure, at what cost.

The gain of mixing is `mix` minus the best of the other arms, by mean top-1 at length 1. That rival is picked after
seeing the results, which favours it: the gain is a cautious one. Below 5 seeds, or by `preset: quick`, nothing is
decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from raymix.report import words
from raymix.report.intervals import (
    RESAMPLES,
    at_length,
    detectable,
    detectable_in,
    differences,
    interval_of,
    pack_correct,
    paired_interval,
    speedup,
    unpack_correct,
)
from raymix.report.judging import Judged
from raymix.report.pilot import Interval, PilotRun, Verdict

__all__ = ["detectable", "pack_correct", "paired", "paired_interval", "speedup", "unpack_correct", "verdict"]

MIN_SEEDS = 5
EQUAL_WITHIN = 0.02  # planned seconds that differ by more are no longer called equal

Arms = Mapping[str, tuple[PilotRun, ...]]


@dataclass(frozen=True)
class _Pair:
    """The arm that the verdict is about against the best of the others, at length 1, seed by seed."""

    lead: str
    rival: str
    num_others: int
    seeds: int
    common: int  # seeds that all arms have
    num_val: int
    top1: dict[str, float]
    seconds: dict[str, float]
    gain: Interval
    detectable: float

    @property
    def winner(self) -> str:
        return self.lead if self.gain.value >= 0 else self.rival


def verdict(
    arms: Arms,
    val: Judged,
    preset: Literal["quick", "full"] = "full",
    unit: str = "worker-seconds",
    resamples: int = RESAMPLES,
) -> Verdict:
    """The answer of a pilot, in words and figures.

    Args:
        arms: The runs of each arm, of every length; arms without a run at length 1 are left out. The rival is picked
            on the seeds that all arms have, and compared on those that the two have; a verdict needs 5 that all have,
            so a pilot that was cut short still gets an honest answer.
        val: The val rows, the same for every run.
        preset: `quick` decides nothing.
        unit: What a worker-second is called.
        resamples: Of the bootstrap.
    """
    equal = paired(arms)
    if not equal:
        text = "Nothing to compare yet: no seed has finished its runs at equal step-seconds."
        return Verdict(text=text, decided=False, winner=None, rival=None, top1_gain=None, speedup=None)
    top1 = {name: fmean(run.top1 for run in runs) for name, runs in equal.items()}
    num_seeds = len(next(iter(equal.values())))  # that all have: on these the rival is picked
    if len(equal) == 1:
        name = next(iter(equal))
        text = (
            f"Only {name} was run: {words.percent(top1[name])} top-1 ({words.plural(num_seeds, 'seed')}, "
            f"{words.count(val.num)} val images). A verdict needs an arm to compare it with."
        )
        return Verdict(text=text, decided=False, winner=name, rival=None, top1_gain=None, speedup=None)
    pair = _pair(arms, equal, top1, val, resamples)
    decided = num_seeds >= MIN_SEEDS and preset == "full"
    faster = speedup(arms[pair.lead], arms[pair.rival]) if decided else None
    parts = [_finding(pair) if decided else _undecided(pair, preset), _equality(pair)]
    if decided and len({run.length for run in arms[pair.lead]}) > 1:
        parts.append(_speed(pair, faster, _seeds_of_speed(arms[pair.lead], arms[pair.rival])))
        parts += _elsewhere(pair.lead, arms, val, resamples)
    parts.append(_cost(pair, arms, unit))
    if "mix" not in equal:
        parts.append(f"mix was not compared: {pair.lead} was picked after seeing the results, which favours it.")
    return Verdict(
        text=" ".join(parts),
        decided=decided,
        winner=pair.winner,
        rival=pair.rival,
        top1_gain=pair.gain,
        speedup=faster,
        detectable=pair.detectable if pair.seeds > 1 else None,
    )


def paired(arms: Arms, length: float = 1.0) -> dict[str, tuple[PilotRun, ...]]:
    """Of each arm that has some, its runs of a length, by default T, of the seeds that all these arms have.

    {}: there is no such seed.
    """
    equal = {name: runs for name, all_runs in arms.items() if (runs := at_length(all_runs, length))}
    seeds = set.intersection(*({run.seed for run in runs} for runs in equal.values())) if equal else set()
    return {name: tuple(run for run in runs if run.seed in seeds) for name, runs in equal.items()} if seeds else {}


def _pair(arms: Arms, equal: Arms, top1: dict[str, float], val: Judged, resamples: int) -> _Pair:
    """mix, or else the best arm, against the best of the others; of equals, the one that was named first.

    Both are picked on `equal`, the seeds that all arms have, and compared on all that the two have.
    """
    lead = "mix" if "mix" in equal else max(equal, key=lambda name: top1[name])
    rival = max((name for name in equal if name != lead), key=lambda name: top1[name])
    both = paired({name: arms[name] for name in (lead, rival)})
    d = differences(both[lead], both[rival], val)
    return _Pair(
        lead=lead,
        rival=rival,
        num_others=len(equal) - 1,
        seeds=d.shape[0],
        common=len(equal[lead]),
        num_val=val.num,
        top1={name: fmean(run.top1 for run in runs) for name, runs in both.items()},
        seconds={name: fmean(run.planned_seconds for run in runs) for name, runs in both.items()},
        gain=interval_of(d, resamples),
        detectable=detectable_in(d),
    )


def _finding(pair: _Pair) -> str:
    gain = pair.gain
    interval = f"95 % interval {words.point_interval(gain)}; n = {pair.seeds} paired seeds, {_images(pair)}"
    if gain.low > 0:
        return f"{pair.lead} wins: {words.points(gain.value)} points of top-1 over {_rival(pair)} ({interval})."
    if gain.high < 0:
        return f"{pair.lead} loses: {words.points(gain.value)} points of top-1 against {_rival(pair)} ({interval})."
    return (
        f"No difference above {pair.detectable:.2f} points detectable with {pair.seeds} seeds between {pair.lead} and "
        f"{_rival(pair)}: {words.points(gain.value)} points of top-1 ({interval})."
    )


def _undecided(pair: _Pair, preset: str) -> str:
    seeds = words.plural(pair.common, "seed") + (" that all arms have" if pair.common < pair.seeds else "")
    why = f"{seeds}, preset quick" if preset == "quick" else seeds
    over = "over images alone, as one seed has no spread" if pair.seeds == 1 else "over seeds and images"
    return (
        f"This decides nothing ({why}; a verdict needs {MIN_SEEDS} seeds or more and preset full). So far: "
        f"{pair.lead} has {words.points(pair.gain.value)} points of top-1 against {_rival(pair)} "
        f"(95 % interval {over}: {words.point_interval(pair.gain)}; {_images(pair)})."
    )


def _rival(pair: _Pair) -> str:
    if pair.num_others == 1:
        return f"{pair.rival}, the only other arm"
    return f"{pair.rival}, the best of the {pair.num_others} other arms"


def _images(pair: _Pair) -> str:
    return f"{words.count(pair.num_val)} val images"


def _equality(pair: _Pair) -> str:
    lead, rival = pair.seconds[pair.lead], pair.seconds[pair.rival]
    against = f"Top-1 {words.percent(pair.top1[pair.lead])} against {words.percent(pair.top1[pair.rival])}"
    if abs(lead - rival) <= EQUAL_WITHIN * rival:
        return f"{against}, at equal step-seconds (clock A, T = {words.seconds(rival)})."
    return f"{against}, at step-seconds that are not equal: {words.seconds(lead)} and {words.seconds(rival)} (clock A)."


def _seeds_of_speed(lead: tuple[PilotRun, ...], rival: tuple[PilotRun, ...]) -> int:
    """The seeds that a speed-up is told over: those of the rival at T that the lead has at every length."""
    by_length = [{run.seed for run in at_length(lead, length)} for length in {run.length for run in lead}]
    return len({run.seed for run in at_length(rival, 1.0)}.intersection(*by_length))


def _speed(pair: _Pair, faster: Interval | None, num_seeds: int) -> str:
    if faster is None:
        return f"No speed-up told: {pair.lead} does not reach the accuracy of {pair.rival} at any length compared."
    what = "Speed-up" if faster.low > 1 else "Slower" if faster.high < 1 else "No speed-up detectable"
    return (
        f"{what} at equal accuracy: {pair.lead} reaches what {pair.rival} has at T in "
        f"{words.seconds(pair.seconds[pair.rival] / faster.value)} of step-seconds, "
        f"{words.speedup(faster)}, clock A" + (f" (n = {num_seeds})." if num_seeds != pair.seeds else ".")
    )


def _elsewhere(lead: str, arms: Arms, val: Judged, resamples: int) -> list[str]:
    """What the verdict's arm has at the other lengths, where the answer may be another one."""
    told = []
    for length in sorted({run.length for run in arms[lead]} - {1.0}):
        equal = paired(arms, length)
        others = {name: fmean(run.top1 for run in runs) for name, runs in equal.items() if name != lead}
        if len(equal.get(lead, ())) < MIN_SEEDS or not others:
            continue
        rival = max(others, key=others.__getitem__)
        gain = paired_interval(equal[lead], equal[rival], val, resamples)
        best = f"{rival}, the best other arm there" if len(others) > 1 else rival
        told.append(
            f"At {words.times(length)} {lead} has {words.points(gain.value)} points against {best} "
            f"({words.point_interval(gain)})."
        )
    return told


def _cost(pair: _Pair, arms: Arms, unit: str) -> str:
    both = paired({name: arms[name] for name in (pair.lead, pair.rival)})
    lead, rival = both[pair.lead], both[pair.rival]
    held = [fmean(run.billed_worker_seconds for run in runs) for runs in (lead, rival)]
    costs = [[run.cost for run in runs if run.cost is not None] for runs in (lead, rival)]
    billed = f"A run of {pair.lead} was billed {words.count(held[0])} {unit}, of {pair.rival} {words.count(held[1])}"
    if not all(costs):
        return f"{billed} (clock B); {words.PRICE_NOT_SET}."
    return f"{billed} (clock B), a cost of {words.money(fmean(costs[0]))} and {words.money(fmean(costs[1]))}."
