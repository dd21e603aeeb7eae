"""What a pilot makes of its runs: a run's figures, and the report of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raymix.arms import epochs_of, flops_of, seconds_of
from raymix.books import Clock
from raymix.data.splits import Splits
from raymix.errands import Errand
from raymix.freeze import Compared, Frozen
from raymix.plan import Plan
from raymix.report.compare import verdict
from raymix.report.folder import RUN_FILE
from raymix.report.history import Rates
from raymix.report.intervals import foretold
from raymix.report.judging import METRIC_NOTES, judged, pack_classes
from raymix.report.notes import failed_note, packed_note
from raymix.report.pilot import FailedRun, PilotReport, PilotRun
from raymix.report.requests import requests_note
from raymix.report.run import RunReport, Status, unit_on
from raymix.report.work import labelled_tokens
from raymix.runreport import environment, note_on
from raymix.session import Failure, Session


def pilot_run(report: RunReport, plan: Plan, length: float, rates: Rates, path: Path) -> PilotRun:
    """A run's figures. What a packed one took is not comparable: its clock A is as planned."""
    assert report.final is not None
    planned, share = seconds_of(plan, rates), 1.0 if report.packed is None else report.packed
    trained = report.totals.trained_seconds if report.packed is None else planned
    return PilotRun(
        seed=report.seed,
        length=length,
        top1=report.final.top1,
        correct=report.final.correct,
        counts=report.final.counts,
        worker_seconds=trained * report.workers,
        billed_worker_seconds=report.totals.worker_seconds * share,
        cost=None if report.totals.cost is None else report.totals.cost * share,
        planned_seconds=planned,
        step_seconds=report.totals.step_seconds,
        ssl_epochs=epochs_of(plan.spec).ssl_epochs,
        sl_epochs=epochs_of(plan.spec).sl_epochs,
        steps=sum(phase.steps for phase in report.phases),
        images=sum(phase.images for phase in report.phases),
        labelled=sum(phase.labelled for phase in report.phases),
        labelled_tokens=labelled_tokens(plan),
        flops=flops_of(plan, rates),
        report=str(path / RUN_FILE),
        packed=report.packed is not None,
    )


def failed_run(errand: Errand, attempts: int, failure: Failure) -> FailedRun:
    """What is kept of a run that failed for good."""
    return FailedRun(
        name=errand.name, arm=errand.arm, seed=errand.seed, length=errand.length, attempts=attempts, why=failure.why
    )


def report_of(
    whole: Compared,
    frozen: Frozen,
    splits: Splits,
    session: Session,
    done: dict[str, list[PilotRun]],
    status: Status,
    clock: Clock,
    failed: tuple[FailedRun, ...],
    held_workers: float,
) -> PilotReport:
    """The report of all runs; this attempt has held so many workers until now."""
    seconds, metric = clock.seconds, whole.spec.metric
    val_labels = splits.labels[splits.val]
    val, known = judged(metric, val_labels), whole.checked[whole.spec.seed].plan.facts
    cluster, preset = whole.spec.cluster, whole.spec.pilot.preset
    arms: dict[str, Any] = {arm: tuple(runs) for arm, runs in done.items()}
    tried = whole.spec.pilot.tried_of(arms)
    notes = (
        note_on(whole.spec),
        METRIC_NOTES[metric],
        requests_note(frozen.requests, len(frozen.merged)),
        packed_note(arms),
        failed_note(failed),
    )
    return PilotReport(
        name=whole.spec.name,
        status=status,
        preset=preset,
        device=session.device,
        workers=cluster.num_replicas,
        price_per_worker_hour=cluster.price_per_worker_hour,
        unit_seconds=frozen.unit_seconds,
        lengths=whole.lengths,
        seeds=tuple(whole.checked),
        num_val=val.num,
        metric=metric,
        val_classes=pack_classes(val_labels) if val.factors is not None else "",
        num_labelled=len(splits.labelled) * whole.spec.data.num_tiles,
        arms=arms,
        verdict=verdict(arms, val, preset, unit_on(session.device)),
        tried=max(tried.values(), default=1),
        tried_of=tried,
        detectable=foretold(whole.spec, known, min(whole.spec.pilot.pairs(tuple(whole.arms)).values())),
        step_seconds=dict(frozen.rates.step_seconds),
        wall_seconds=whole.earlier_seconds + seconds,
        held_worker_seconds=whole.earlier_held + held_workers * seconds,
        failed=failed,
        own_step_seconds={arm: dict(rates.step_seconds) for arm, rates in frozen.own_rates.items()},
        defined={arm: of.words for arm, of in frozen.define.items() if arm in arms},
        environment=environment(session),
        note=" ".join(filter(None, notes)),
        requests=frozen.requests,
        merged=frozen.merged,
    )
