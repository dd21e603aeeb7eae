"""Example plans, histories and reports, small but whole, for the tests of reports and sinks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from raymix.plan import Decision, Facts, Kind, Plan, resolve
from raymix.policy import next_segment
from raymix.report.beside import Beside, Foretold, Samples, samples_of
from raymix.report.compare import detectable, pack_correct, verdict
from raymix.report.forecast import forecast
from raymix.report.history import History, Rates, SegmentReport
from raymix.report.judging import Judged
from raymix.report.known import Entry, Key, Seen
from raymix.report.ledger import Spent, booked, ledger
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.run import BudgetReport, Final, RunReport, Status, Totals, cost_of, curve, phase_reports, rows_report
from raymix.spec import JobSpec

STEP_SECONDS: dict[Kind, float] = {"ssl": 0.1, "mix": 0.15, "sl": 0.2, "sl_drop": 0.1}
NOW = 1_800_000_000.0
ENVIRONMENT = {"raymix": "0.1.0", "torch": "2.11.0", "gpu": "none", "commit": "abc <b>bold</b> & co"}


def make_spec(name: str = "demo", price: float | None = None, workers: int = 2) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": name,
            "data": {"train": {"format": "digits"}, "image_size": 8},
            "backbone": {"type": "vit", "size": "nano", "patch": 2},
            "schedule": {"policy": "fixed", "ssl_epochs": 20, "sl_epochs": 20, "weight": {"start": 0.5, "end": 0.5}},
            "optim": {"batch": 64},
            "cluster": {"workers": workers, "price_per_worker_hour": price},
        }
    )


def make_plan(name: str = "demo", price: float | None = None) -> Plan:
    facts = Facts(
        num_train=1200, num_labelled=800, num_select=90, num_val=300, class_names=tuple(str(i) for i in range(10))
    )
    return resolve(make_spec(name, price), facts)


def make_reports(plan: Plan, slower: float = 1.0) -> list[SegmentReport]:
    """The reports of a whole run in which losses fall and accuracy rises."""
    history, reports = History(rates=Rates(step_seconds=STEP_SECONDS)), []
    while (segment := next_segment(plan, history)) is not None:
        seconds = slower * sum(STEP_SECONDS[kind] * steps for kind, steps in segment.pattern)
        images = segment.steps * plan.spec.optim.batch
        done = segment.progress[1]
        supervised = segment.kind != "ssl"
        report = SegmentReport(
            segment=segment,
            seconds=seconds,
            data_seconds=0.05 * seconds,
            images=images,
            labelled=images if segment.kind == "sl" else images * 2 // 3 if supervised else 0,
            ssl_loss=0.4 + math.exp(-3 * done) if segment.kind != "sl" else None,
            sl_loss=0.3 + 2 * math.exp(-2 * done) if supervised else None,
            train_top1=60 * done if supervised else None,
            select_top1=70 * done if segment.evaluate and supervised else None,
            evaluate_seconds=0.05 if segment.evaluate else 0.0,
        )
        reports.append(report)
        history = history.add(report)
    return reports


def make_history(plan: Plan, num_segments: int | None = None) -> History:
    reports = make_reports(plan)
    return History(rates=Rates(step_seconds=STEP_SECONDS, prepare_seconds=3.0), reports=tuple(reports[:num_segments]))


def make_run(
    name: str = "demo",
    status: Status = "done",
    price: float | None = None,
    device: str = "cpu",
    environment: dict[str, str] | None = None,
) -> RunReport:
    plan = make_plan(name, price)
    history = make_history(plan, None if status == "done" else 5)
    trained = sum(report.seconds for report in history.reports)
    right = [i % 7 > 1 for i in range(300)]
    final = Final(
        top1=71.3,
        num_val=300,
        correct=pack_correct(right),
        select_top1=69.0,
        by_class=tuple((30, sum(right[digit::10])) for digit in range(10)),
    )
    held = 2 * (trained + 9.0)
    return RunReport(
        name=name,
        status=status,
        seed=0,
        device=device,
        workers=2,
        price_per_worker_hour=price,
        final=final if status == "done" else None,
        phases=phase_reports(plan, history),
        rows=rows_report(plan.facts, {"not an image": 2, "truncated": 1}, {"all": 24_000, "labelled": 8_000}, {}),
        totals=Totals(
            wall_seconds=trained + 21.0,
            worker_seconds=held,
            cost=cost_of(held, price),
            step_seconds=0.95 * trained,
            data_seconds=0.05 * trained,
            evaluate_seconds=1.1,
            checkpoint_seconds=0.4,
            startup_seconds=12.0,
        ),
        step_seconds=dict(STEP_SECONDS),
        curve=curve(history),
        class_names=plan.facts.class_names,
        environment=ENVIRONMENT if environment is None else environment,
    )


def make_entry(plan: Plan, ratios: Sequence[float | None] = (0.98, 1.0, 1.04)) -> Entry:
    """What runs of a plan's kind measured, the last of them two days before NOW."""
    rates = Rates(step_seconds=STEP_SECONDS, row_seconds=0.001, checkpoint_seconds=0.2, prepare_seconds=3.0)
    seen = tuple(
        Seen(at=NOW - 86400 * (2 + age), rates=rates, ratio=ratio, startup_seconds=12.0, ray_seconds=4.0)
        for age, ratio in reversed(list(enumerate(ratios)))
    )
    return Entry(key=Key.of(plan), device="cpu", device_name="CPU", seen=seen)


def make_course(num_decisions: int = 3, price: float | None = None, **changes: Any) -> RunReport:
    """A run with a budget, that changed its plan on the way, tried what SSL had brought, and kept books."""
    report = make_run(price=price)
    history, totals = make_history(make_plan()), report.totals
    spent = Spent(
        wall_seconds=totals.wall_seconds,
        worker_seconds=totals.worker_seconds,
        workers=2,
        began_seconds=17.0,
        prepare_seconds=3.0,
        trained=booked(history.reports),
        after={"evaluation": 1.0},
        closed=True,
    )
    tried = {"trial_half_top1": 21.5, "trial_top1": 34.5}
    update = {
        "ended": "budget",
        "budget": BudgetReport(currency="wall", asked=100.0, spent=98.5),
        "planned": ("ssl", "mix", "sl"),
        "decisions": tuple(
            Decision(step=10 * number, steps=(100 + number, 40, 90), reason=f"reason number {number}.")
            for number in range(num_decisions)
        ),
        "curve": (*report.curve[:2], report.curve[2].model_copy(update=tried), *report.curve[3:]),
        "ledger": ledger(history, [spent], 2, price),
    }
    return report.model_copy(update={**update, **changes})


def make_samples(num: int = 4, side: int = 8) -> Samples:
    """Rows whose pictures are noise; every third is taken for another class."""
    rng = np.random.default_rng(0)
    names = ("image", "masked", "reconstructed")
    pictures = {name: rng.integers(0, 256, (num, side, side, 3), dtype=np.uint8) for name in names}
    labels = np.arange(num) % 10
    predicted = np.where(np.arange(num) % 3 == 2, (labels + 1) % 10, labels)
    return samples_of(labels, predicted, pictures, tuple(str(i) for i in range(10)), "Rows of val.")


def make_beside(price: float | None = None, **changes: Any) -> Beside:
    """A job, what was foretold of it and sample images."""
    told = forecast(make_plan(price=price), make_entry(make_plan(price=price)), NOW)
    assert told.costs is not None
    foretold = Foretold(costs=told.costs, source=told.source)
    return Beside("name: demo\nseed: 0\n", foretold, make_samples())._replace(**changes)


def make_answers(
    top1: Sequence[float], num_seeds: int, num_val: int, seed_sd: float = 0.0, rng_seed: int = 0
) -> list[np.ndarray]:
    """For each arm a table (num_seeds, num_val) of right and wrong answers; hard images are hard for every arm.

    Args:
        top1: Percent that each arm gets right in expectation.
        seed_sd: Points by which a seed moves an arm.
    """
    rng = np.random.default_rng(rng_seed)
    ease = rng.beta(0.6, 0.6, num_val)[None, :]  # share of models that get an image right: mostly near 0 or 1
    tables = []
    for percent in top1:
        shift = np.log(percent / (100 - percent)) * 1.6 + 0.01 * seed_sd * rng.normal(0, 6, (num_seeds, 1))
        chance = 1 / (1 + np.exp(-(np.log(ease / (1 - ease)) + shift)))
        tables.append(rng.random((num_seeds, num_val)) < chance)
    return tables


def make_pilot_run(correct: np.ndarray, seed: int, length: float = 1.0, price: float | None = None) -> PilotRun:
    seconds = 42.7 * length
    held = 2 * seconds + 30
    return PilotRun(
        seed=seed,
        length=length,
        top1=100 * float(correct.mean()),
        correct=pack_correct(correct),
        worker_seconds=2 * seconds,
        billed_worker_seconds=held,
        cost=cost_of(held, price),
        planned_seconds=seconds,
        step_seconds=1.01 * seconds,
        ssl_epochs=100 * length,
        sl_epochs=100 * length,
        steps=round(4000 * length),
        images=round(1_024_000 * length),
        labelled=round(512_000 * length),
        labelled_tokens=round(32_768_000 * length),
        flops=3e14 * length,
        report=f"runs/seed{seed}-{length:g}/report.json",
    )


def make_arm(correct: np.ndarray, length: float = 1.0, price: float | None = None) -> tuple[PilotRun, ...]:
    """A run for each row of a table (seeds, images)."""
    return tuple(make_pilot_run(row, seed, length, price) for seed, row in enumerate(correct))


def make_arms(
    top1: dict[str, float], num_seeds: int = 5, num_val: int = 2000, seed_sd: float = 0.0, rng_seed: int = 0
) -> dict[str, tuple[PilotRun, ...]]:
    """Arms at length 1 with about these accuracies."""
    tables = make_answers(list(top1.values()), num_seeds, num_val, seed_sd, rng_seed)
    return {name: make_arm(table) for name, table in zip(top1, tables, strict=True)}


@cache  # its verdict is a bootstrap, and it is frozen
def make_pilot(
    num_seeds: int = 5, gain: float = 2.0, price: float | None = None, lengths: tuple[float, ...] = (1 / 1.29, 1.0, 2.0)
) -> PilotReport:
    """A pilot of five arms at three lengths in which mix is `gain` points ahead of ssl_sl."""
    base = {"sl": 15.6, "ssl_sl": 19.6, "ssl_sl_one": 19.3, "ssl_sl_drop": 19.0, "mix": 19.6 + gain}
    arms: dict[str, tuple[PilotRun, ...]] = dict.fromkeys(base, ())
    for length in lengths:
        shifted = [percent + 2.5 * math.log2(length) for percent in base.values()]
        tables = make_answers(shifted, num_seeds, 2000, 0.3, rng_seed=int(100 * length))
        for name, table in zip(base, tables, strict=True):
            arms[name] += make_arm(table, length, price)
    quick = num_seeds == 1
    return PilotReport(
        name="demo-pilot",
        status="done",
        preset="quick" if quick else "full",
        device="cpu",
        workers=2,
        price_per_worker_hour=price,
        unit_seconds=42.7,
        lengths=lengths,
        seeds=tuple(range(num_seeds)),
        num_val=2000,
        num_labelled=5120,
        arms=arms,
        verdict=verdict(arms, Judged(2000), "quick" if quick else "full"),
        tried=1,
        detectable=detectable(2000, num_seeds),
        step_seconds=dict(STEP_SECONDS),
        wall_seconds=3600.0,
        environment=ENVIRONMENT,
    )
