"""What a plan will cost, before anything is spent: from what like runs measured, else from its FLOPs at a stated rate.

Training, evaluation and checkpoints follow from the plan; start-up and `prepare` stand apart, as they depend on the
machine more than on the job.
"""

from __future__ import annotations

import math
import os
import statistics
from typing import NamedTuple

from pydantic import Field

from raymix.plan import Kind, Phase, PhaseKind, Plan
from raymix.report import words, work
from raymix.report.history import Rates
from raymix.report.known import Entry
from raymix.report.pilot import Interval
from raymix.spec import JobSpec, Section

CPU_FLOPS, GPU_FLOPS = 20e9, 60e12  # what one core, one GPU is taken to reach where nothing was measured
LEAST, FEW, FEW_RUNS = 0.05, 0.15, 3  # an interval's half width at least, and where fewer runs than that were seen
GUESS = 2.0  # an estimate from FLOPs may be off by this factor, either way
RAY_SECONDS, LOCAL_SECONDS = 20.0, 4.0  # start-up where none was seen: Ray and its workers, or this process
PREPARE_STEPS = 25  # steps of each kind that `prepare` takes
DISK = 200e6  # bytes a second at which a checkpoint is taken to be written


class PhaseForecast(Section):
    """One phase of the plan and what it takes."""

    kind: PhaseKind
    epochs: float
    steps: int
    images: int
    labelled: int = Field(description="images that feed the supervised loss")
    seconds: float | None = Field(description="null: not known before the run measures it")


class Costs(Section):
    """What the whole run takes."""

    train_seconds: Interval
    evaluate_seconds: float = Field(description="select rows while training, and val at the end")
    checkpoint_seconds: float
    startup_seconds: float = Field(description="start and end of Ray and workers, reading of images")
    prepare_seconds: float = Field(description="compiling, warming up and measuring")
    wall_seconds: Interval
    worker_hours: Interval
    money: Interval | None = Field(description="null: price not set")


class Forecast(Section):
    """A plan's cost. Intervals span what like runs showed, at least 5 % either way; they are no guarantee."""

    phases: tuple[PhaseForecast, ...]
    steps: int
    images: int
    labelled: int
    costs: Costs | None = Field(description="null: `source` says why nothing is known")
    rates: Rates | None
    parameters: int | None = Field(description="null: known once the backbone is built")
    memory_bytes: int | None = Field(description="a worker's weights, gradients and optimizer state; no activations")
    data_bytes: int = Field(description="of all images, decoded; at most, where data.store_size is auto")
    measured: bool = Field(description="False: an estimate from FLOPs")
    source: str


class _Basis(NamedTuple):
    """Rates, how far they may be off, and where they come from."""

    rates: Rates
    low: float
    high: float
    startup: float
    before_workers: float  # of the start-up, what is over when workers are first held
    measured: bool
    source: str


def forecast(plan: Plan, entry: Entry | None, now: float) -> Forecast:
    """What a plan will cost.

    Args:
        entry: What like runs measured, as `raymix.report.known.recall` gives it; None: there is none.
        now: time.time(), to say how old that is.
    """
    basis = _from_runs(plan, entry, now) if entry is not None else _from_flops(plan)
    rates = basis.rates if basis else None
    phases = tuple(_phase(plan, phase, rates) for phase in plan.phases)
    spec, num_classes = plan.spec, plan.facts.num_classes
    parameters = work.num_parameters(spec, num_classes)
    return Forecast(
        phases=phases,
        steps=plan.num_steps,
        images=sum(phase.images for phase in phases),
        labelled=sum(phase.labelled for phase in phases),
        costs=_costs(plan, basis) if basis else None,
        rates=rates,
        parameters=parameters,
        memory_bytes=None if parameters is None else work.memory_bytes(spec, parameters),
        data_bytes=_data_bytes(plan),
        measured=basis.measured if basis else False,
        source=basis.source if basis else _UNKNOWN,
    )


_UNKNOWN = (
    "seconds are not known: no like run has measured yet, and only of raymix's own ViT are the FLOPs known beforehand; "
    "the run measures before its first step"
)


def allowance(plan: Plan, told: Forecast) -> float | None:
    """What a budget leaves for the steps, in seconds or FLOPs, as far as can be told beforehand; None: anything.

    Start-up, `prepare`, evaluation and checkpoints are taken off first.
    """
    budget, costs, cluster = plan.spec.budget, told.costs, plan.spec.cluster
    if budget is None or costs is None:
        return None
    if budget.flops is not None:
        return budget.flops
    if budget.training is not None:
        return budget.training
    if budget.wall is not None:
        asked, whole = budget.wall, costs.wall_seconds.value
    else:
        hours, price = budget.worker_hours, cluster.price_per_worker_hour
        if budget.money is not None and price:
            hours = budget.money / price
        assert hours is not None
        asked, whole = 3600 * hours / cluster.num_replicas, 3600 * costs.worker_hours.value / cluster.num_replicas
    return max(0.0, asked - (whole - costs.train_seconds.value))


# ---- where the rates come from --------------------------------------------------------------------------------------


def _from_runs(plan: Plan, entry: Entry, now: float) -> _Basis:
    """The median of what like runs took for this plan's steps, and their spread."""
    seen = entry.with_kinds(plan.kinds)
    # what prepare measured, times what the run then took of it: a rate that was measured in a quiet or a busy moment
    # is put right by the whole run after it
    known = {kind: [s.rates.step_seconds[kind] * (s.ratio or 1.0) for s in seen] for kind in plan.kinds}
    totals = [sum(known[kind][i] * steps for kind, steps in _steps(plan).items()) for i in range(len(seen))]
    middle = statistics.median(totals)
    least = LEAST if sum(s.ratio is not None for s in seen) >= FEW_RUNS else FEW
    newest = seen[-1]
    rates = newest.rates.model_copy(
        update={
            "step_seconds": _scaled_to(
                {kind: statistics.median(values) for kind, values in known.items()}, plan, middle
            ),
            "row_seconds": statistics.median(s.rates.row_seconds for s in seen),
            "checkpoint_seconds": statistics.median(s.rates.checkpoint_seconds for s in seen),
            "prepare_seconds": statistics.median(s.rates.prepare_seconds for s in seen),
            "source": "cache",
        }
    )
    startups = [(s.startup_seconds, s.ray_seconds) for s in seen if s.startup_seconds is not None]
    startup, before = (
        (statistics.median(part) for part in zip(*startups, strict=True)) if startups else _startup(plan.spec)
    )
    runs = words.plural(len(seen), "run")
    source = f"measured on {entry.device_name} by {runs}, the last {words.ago(now - newest.at)}"
    low, high = (min(totals) / middle, max(totals) / middle) if middle else (1.0, 1.0)
    return _Basis(rates, min(low, 1 - least), max(high, 1 + least), startup, before, True, source)


def _scaled_to(step_seconds: dict[Kind, float], plan: Plan, total: float) -> dict[Kind, float]:
    """Rates in the same proportions under which the plan's steps take `total` seconds."""
    now = sum(step_seconds[kind] * steps for kind, steps in _steps(plan).items())
    return {kind: seconds * total / now if now else seconds for kind, seconds in step_seconds.items()}


def _from_flops(plan: Plan) -> _Basis | None:
    """FLOPs at a stated rate; None: they are not known."""
    spec, num_classes = plan.spec, plan.facts.num_classes
    flops = {kind: work.step_flops(spec, num_classes, kind) for kind in plan.kinds}
    whole = work.step_flops(spec, num_classes, "sl")
    parameters = work.num_parameters(spec, num_classes)
    if whole is None or parameters is None:
        return None
    known = {kind: count for kind, count in flops.items() if count is not None}
    rate, stated = _rate(spec)
    all_workers = rate * spec.cluster.num_replicas
    seconds = {kind: count / all_workers for kind, count in known.items()}
    weights = 3 + (spec.optim.ema is not None)  # those and AdamW's two moments; averaged ones where there are any
    rates = Rates(
        step_seconds=seconds,
        step_flops=known,
        row_seconds=whole / spec.batch / 3 / all_workers,  # forward alone
        checkpoint_seconds=parameters * work.BYTES * weights / DISK,
        prepare_seconds=PREPARE_STEPS * sum(seconds.values()),
        source="estimate",
    )
    work_of = ", ".join(f"{kind} {words.figure(count / 1e9, ',.3g')}" for kind, count in known.items())
    source = f"estimated from GFLOP a step ({work_of}) at {rate:.3g} FLOP/s a worker ({stated})"
    return _Basis(rates, 1 / GUESS, GUESS, *_startup(spec), False, source)


def _rate(spec: JobSpec) -> tuple[float, str]:
    """FLOP/s of one worker, and who says so."""
    cluster = spec.cluster
    if cluster.device_flops is not None:
        return cluster.device_flops, "cluster.device_flops"
    if cluster.gpus_per_worker:
        return GPU_FLOPS * cluster.gpus_per_worker, f"{GPU_FLOPS:.3g} a GPU, unless cluster.device_flops says otherwise"
    cores = cluster.cpus_per_worker if cluster.max_workers else float(os.cpu_count() or 1)
    return CPU_FLOPS * cores, f"{CPU_FLOPS:.3g} a CPU, unless cluster.device_flops says otherwise"


def _startup(spec: JobSpec) -> tuple[float, float]:
    """Start-up where none was seen, and what of it is over when workers are first held."""
    return (RAY_SECONDS, RAY_SECONDS / 4) if spec.cluster.max_workers else (LOCAL_SECONDS, 0.0)


# ---- what the plan takes --------------------------------------------------------------------------------------------


def _steps(plan: Plan) -> dict[Kind, int]:
    """Steps of each kind."""
    counts: dict[Kind, int] = dict.fromkeys(plan.kinds, 0)
    for phase in plan.phases:
        for kind, steps in phase.turns:
            if steps:
                counts[kind] += steps
    return counts


def _phase(plan: Plan, phase: Phase, rates: Rates | None) -> PhaseForecast:
    batch = plan.spec.batch
    labelled = sum(steps * batch * work.labelled_share(plan, kind) for kind, steps in phase.turns)
    return PhaseForecast(
        kind=phase.kind,
        epochs=phase.epochs,
        steps=phase.steps,
        images=phase.steps * batch,
        labelled=round(labelled),
        seconds=sum(rates.step_seconds[kind] * steps for kind, steps in phase.turns if steps) if rates else None,
    )


def _costs(plan: Plan, basis: _Basis) -> Costs:
    spec, rates = plan.spec, basis.rates
    train = sum(rates.step_seconds[kind] * steps for kind, steps in _steps(plan).items())
    evaluate = _evaluate_seconds(plan, rates, train)
    # those before the last one are written while training goes on
    rest = evaluate + rates.checkpoint_seconds + basis.startup + rates.prepare_seconds
    trained = Interval(value=train, low=train * basis.low, high=train * basis.high)
    wall = Interval(**{
        end: getattr(trained, end) + rest * factor
        for end, factor in (("value", 1.0), ("low", basis.low), ("high", basis.high))
    })  # fmt: skip
    hours = _times(wall, spec.cluster.num_replicas / 3600, minus=basis.before_workers)
    price = spec.cluster.price_per_worker_hour
    return Costs(
        train_seconds=trained,
        evaluate_seconds=evaluate,
        checkpoint_seconds=rates.checkpoint_seconds,
        startup_seconds=basis.startup,
        prepare_seconds=rates.prepare_seconds,
        wall_seconds=wall,
        worker_hours=hours,
        money=None if price is None else _times(hours, price),
    )


def _times(interval: Interval, factor: float, minus: float = 0.0) -> Interval:
    low, value, high = (max(0.0, part - minus) * factor for part in (interval.low, interval.value, interval.high))
    return Interval(value=value, low=low, high=high)


def _evaluate_seconds(plan: Plan, rates: Rates, train: float) -> float:
    """Select rows at the marks after the SSL phase, as far as their share of the training goes, and val at the end."""
    asked, facts = plan.spec.evaluate, plan.facts
    if plan.kinds == ("ssl",):
        return 0.0  # the classifier is as it was at the start: nothing is evaluated
    passes = 2 if plan.spec.optim.ema is not None else 1
    once = facts.num_select * rates.row_seconds * passes
    select = 0.0
    if asked.every and asked.max_share and once:
        later = sum(phase.steps for phase in plan.phases if phase.kind != "ssl")
        marks = math.ceil(later / max(1.0, asked.every * plan.num_steps)) - 1  # not at the run's end: val is read then
        select = min(marks * once, max(once, asked.max_share * train))
    return select + facts.num_val * rates.row_seconds * passes


def _data_bytes(plan: Plan) -> int:
    data, facts = plan.spec.data, plan.facts
    value_bytes = 2 if data.channels == "gray16" else 1
    num_rows = facts.num_images * facts.tiles
    return num_rows * data.largest_stored**2 * data.num_channels * value_bytes
