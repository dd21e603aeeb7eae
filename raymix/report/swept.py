"""From the pilots of a sweep to what it says: each cell's figures, crossovers, labels saved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from operator import attrgetter
from statistics import fmean
from typing import NamedTuple

from raymix.report.crossing import Change, Draw, Place, Resampled, changes, reached
from raymix.report.intervals import at_length, own_interval, paired_interval, unpack
from raymix.report.judging import Judged
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.sweep import AtLength, Cell, Crossover, Edge, Gain, Line, Saved, Turns, Within
from raymix.spec import PRETRAINED, SWEEP_AXES, SweepAxis

Arms = dict[str, tuple[PilotRun, ...]]


class Swept(NamedTuple):
    """A cell and its pilot, as far as that has come."""

    cell: Cell
    pilot: PilotReport | None = None


def filled(cell: Cell, pilot: PilotReport) -> Swept:
    """The cell with what its pilot found."""
    runs = [run for of in pilot.arms.values() for run in of]
    costs = [run.cost for run in runs if run.cost is not None]
    update = {
        "status": pilot.status,
        "unit_seconds": pilot.unit_seconds,
        "seeds": pilot.seeds,
        "at": tuple(at for length in sorted(pilot.lengths) if (at := _at(pilot, length))),
        "verdict": pilot.verdict,
        "wall_seconds": pilot.wall_seconds,
        "worker_seconds": sum(run.billed_worker_seconds for run in runs),
        "cost": sum(costs) if costs else None,
    }
    return Swept(cell.model_copy(update=update), pilot)


def decides(cells: Sequence[Swept]) -> bool:
    """Whether the pilots of all cells that there are decide: they have the seeds and the preset of a verdict."""
    pilots = [one.pilot for one in cells if one.pilot is not None]
    return bool(pilots) and all(one.verdict.decided for one in pilots)


def lines_of(cells: Sequence[Swept], lengths: Sequence[float]) -> tuple[Line, ...]:
    """Every row and every column of the grid that has two cells or more with runs, at T first."""
    found = []
    for length in sorted(lengths, key=lambda length: (length != 1.0, length)):
        for axis, other in ((SWEEP_AXES[1], SWEEP_AXES[0]), SWEEP_AXES):
            for held in sorted({one.cell.share(other) for one in cells}, reverse=True):
                here = [one for one in cells if one.cell.share(other) == held and _equal(one.pilot, length)]
                if len(here) > 1 and (line := _line(axis, held, length, here, decides(cells))):
                    found.append(line)
    return tuple(found)


# ---- one cell -----------------------------------------------------------------------------------------------------


def _equal(pilot: PilotReport | None, length: float) -> Arms:
    """The arms at a length, with the seeds that all of them have; {}: there is no such seed."""
    found = {name: here for name, runs in (pilot.arms if pilot else {}).items() if (here := at_length(runs, length))}
    seeds = set.intersection(*({run.seed for run in runs} for runs in found.values())) if found else set()
    return {name: tuple(run for run in runs if run.seed in seeds) for name, runs in found.items()} if seeds else {}


def _at(pilot: PilotReport, length: float) -> AtLength | None:
    arms = _equal(pilot, length)
    if not arms:
        return None
    pairs = {name: _gain(arms, pair, pilot.judged) for name, pair in _pairs(arms).items()}
    tops = {arm: own_interval(runs, pilot.judged) for arm, runs in arms.items()}
    return AtLength(length=length, arms=tops, mixing=pairs.get("mixing"), ssl=pairs.get("ssl"))


def _pairs(arms: Arms) -> dict[str, tuple[str, str]]:
    """What is compared with what: mix with the best other arm, the best arm with SSL (mix apart) with sl."""

    def best(names: list[str]) -> str | None:
        return max(names, key=lambda name: fmean(run.top1 for run in arms[name]), default=None)

    others = best([name for name in arms if name != "mix"])
    ssl = best([name for name in arms if name not in ("mix", "sl", PRETRAINED) and arms[name][0].ssl_epochs])
    found = {}
    if "mix" in arms and others is not None:
        found["mixing"] = ("mix", others)
    if "sl" in arms and ssl is not None:
        found["ssl"] = (ssl, "sl")
    return found


def _gain(arms: Arms, pair: tuple[str, str], val: Judged) -> Gain:
    arm, rival = pair
    return Gain(arm=arm, rival=rival, points=paired_interval(arms[arm], arms[rival], val))


# ---- along an axis ------------------------------------------------------------------------------------------------


def _line(axis: SweepAxis, held: float, length: float, cells: Sequence[Swept], decided: bool) -> Line | None:
    """None: there is no seed that all its cells have."""
    cells = sorted(cells, key=lambda one: one.cell.share(axis))
    arms = [_equal(one.pilot, length) for one in cells]
    seeds = set.intersection(*({run.seed for run in next(iter(of.values()))} for of in arms))
    if not seeds:
        return None
    tables = {
        (place, arm): unpack(sorted((r for r in runs if r.seed in seeds), key=attrgetter("seed")), one.pilot.judged)
        for place, (one, of) in enumerate(zip(cells, arms, strict=True))
        for arm, runs in of.items()
        if one.pilot is not None
    }
    drawn = Resampled(tables)
    shares = [one.cell.share(axis) for one in cells]
    at = [next(at for at in one.cell.at if at.length == length) for one in cells]
    return Line(
        axis=axis,
        held=held,
        length=length,
        seeds=tuple(sorted(seeds)),
        shares=tuple(shares),
        labels=tuple(one.cell.num_labelled for one in cells),
        mixing=_turns(shares, [one.mixing for one in at], drawn, decided),
        ssl=_turns(shares, [one.ssl for one in at], drawn, decided),
        saved=_saved([one.cell.num_labelled for one in cells], drawn),
    )


def _turns(shares: Sequence[float], gains: Sequence[Gain | None], drawn: Resampled, decided: bool) -> Turns | None:
    there = [gain for gain in gains if gain is not None]
    if len(there) < len(shares):
        return None
    curve = [drawn.difference((place, gain.arm), (place, gain.rival)) for place, gain in enumerate(there)]
    signs = tuple(gain.sign if decided else 0 for gain in there)
    found = changes([math.log(share) for share in shares], curve)
    return Turns(
        signs=signs,
        ahead=tuple(draw.value > 0 for draw in curve),
        crossovers=tuple(_crossover(change, shares, signs) for change in found),
    )


def _crossover(change: Change, shares: Sequence[float], signs: Sequence[int]) -> Crossover:
    wanted = -1 if change.rises else 1
    return Crossover(
        at=_within(change.place),
        between=(shares[change.before], shares[change.after]),
        rises=change.rises,
        told=wanted in signs[: change.before + 1] and -wanted in signs[change.after :],
    )


def _saved(labels: Sequence[int], drawn: Resampled) -> tuple[Saved, ...]:
    """For each cell the labels with which sl comes to what mix has there, on sl's curve over the cells."""
    cells = range(len(labels))
    if any((place, arm) not in drawn.tables for place in cells for arm in ("sl", "mix")):
        return ()
    if any(after <= before for before, after in itertools.pairwise(labels)):
        return ()
    logs = [math.log(number) for number in labels]
    found = []
    for target in cells:
        curve: list[Draw] = [drawn.difference((place, "sl"), (target, "mix")) for place in cells]
        found.append(Saved(labels=labels[target], needed=_within(reached(logs, curve))))
    return tuple(found)


def _within(place: Place) -> Within:
    """The place, its logarithm undone."""

    def edge(value: float) -> Edge:
        return math.exp(value) if math.isfinite(value) else "above" if value > 0 else "below"

    return Within(value=edge(place.value), low=edge(place.low), high=edge(place.high))
