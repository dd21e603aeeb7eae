"""The report of a run, of what came of it and what its books say."""

from __future__ import annotations

import os
import platform
from collections import Counter

import numpy as np

from raymix.books import Books
from raymix.data.order import orders
from raymix.data.splits import group_rows
from raymix.job import Job
from raymix.plan import Asked, Plan, followed, positions
from raymix.report import known
from raymix.report.history import History, select_of
from raymix.report.intervals import pack_correct
from raymix.report.judging import judged, pack_classes, pack_counts
from raymix.report.ledger import cost_of, ledger
from raymix.report.notes import not_finite_note
from raymix.report.run import (
    BudgetReport,
    Final,
    ImagesReport,
    RunReport,
    SourceRows,
    Status,
    curve,
    groups_of,
    phase_reports,
    rows_report,
    totals,
)
from raymix.report.scoring import cost_per_row
from raymix.report.start import Start
from raymix.runfolder import Attempt
from raymix.session import Bill, Session
from raymix.spec import JobSpec
from raymix.train.task import Outcome


def report_of(job: Job, session: Session, outcome: Outcome, books: Books) -> RunReport:
    """Of a run that came to its end, or was interrupted."""
    status: Status = "done" if outcome.complete else "interrupted"
    final = None
    if outcome.correct:
        weights = job.plan.spec.evaluate.weights
        correct = outcome.correct[weights]
        selects = [select_of(report, weights) for report in outcome.history.reports]
        labels, metric = job.splits.labels[job.splits.val], job.plan.spec.metric
        val, counts = judged(metric, labels), outcome.counts or outcome.correct
        scores = {name: val.score(found) for name, found in counts.items()}
        final = Final(
            top1=scores[weights],
            metric=metric,
            classes=pack_classes(labels) if val.factors is not None else "",
            num_val=len(correct),
            correct=pack_correct(correct),
            counts=pack_counts(counts[weights]) if val.graded else "",
            select_top1=next((top1 for top1 in reversed(selects) if top1 is not None), None),
            weights=weights,
            cost=cost_per_row(scores[weights], labels, job.plan.spec, job.plan.facts.class_names),
            by_weights=scores,
            by_class=_by_class(job, correct),
        )
    return _build(job, session, books, status, final, outcome.history, outcome)


def failed_report(job: Job, session: Session, books: Books) -> RunReport:
    """Of a run that came to no outcome."""
    return _build(job, session, books, "failed", None, books.history, None)


def _by_class(job: Job, correct: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Of each class its val rows, and how many of them are right."""
    labels, num = job.splits.labels[job.splits.val], job.plan.facts.num_classes
    counts = (np.bincount(of, minlength=num).tolist() for of in (labels, labels[correct]))
    return tuple(zip(*counts, strict=True))


def _build(
    job: Job,
    session: Session,
    books: Books,
    status: Status,
    final: Final | None,
    history: History,
    outcome: Outcome | None,
) -> RunReport:
    cluster, attempts = job.plan.spec.cluster, books.all()
    plan = followed(job.plan, history.decisions)
    skipped = Counter(session.skipped.values())
    return RunReport(
        name=job.folder.path.name,
        status=status,
        seed=job.plan.spec.seed,
        device=session.device,
        workers=cluster.num_replicas,
        price_per_worker_hour=cluster.price_per_worker_hour,
        final=final,
        phases=phase_reports(plan, history),
        ended=outcome.ended if outcome else None,
        decisions=history.decisions,
        planned=tuple(phase.kind for phase in plan.phases),
        asked=Asked.of(plan.spec),
        budget=_budget(plan, history, attempts),
        goal=plan.spec.goal,
        rows=rows_report(
            job.plan.facts,
            dict(skipped),
            positions(plan, history.done_steps),
            _sources(job, plan, history),
            group_rows(job.rows, job.splits),
            job.near,
        ),
        images=ImagesReport(
            kept=session.kept,
            size=session.frame.size,
            channels=session.frame.channels,
            bytes=_image_bytes(job, session),
        ),
        totals=totals(history, attempts, cluster.price_per_worker_hour),
        ledger=ledger(history, attempts, cluster.num_replicas, cluster.price_per_worker_hour),
        step_seconds=dict(history.rates.step_seconds),
        curve=curve(history),
        class_names=job.plan.facts.class_names,
        attempts=sum(attempt.groups for attempt in attempts),
        groups=groups_of(attempts),
        packed=job.packed,
        start=job.start if job.start != Start() else None,
        skipped=history.skipped,
        roll_backs=history.roll_backs,
        environment=environment(session),
        note=" ".join(filter(None, (note_on(job.plan.spec), not_finite_note(history)))),
    )


def bill_of(job: Job, books: Books) -> Bill:
    """What the run has cost so far."""
    attempts, history, price = books.all(), books.history, job.plan.spec.cluster.price_per_worker_hour
    held = sum(attempt.worker_seconds for attempt in attempts)
    budget = _budget(job.plan, history, attempts)
    return Bill(held, cost_of(held, price), budget.spent / budget.asked if budget else None)


def _budget(plan: Plan, history: History, attempts: tuple[Attempt, ...]) -> BudgetReport | None:
    """What was asked to be spent, and what was."""
    budget = plan.spec.budget
    if budget is None:
        return None
    held = sum(attempt.worker_seconds for attempt in attempts)
    flops = history.rates.step_flops
    spent = {
        "wall": sum(attempt.wall_seconds for attempt in attempts),
        "training": history.training_seconds,
        "worker_hours": held / 3600,
        "money": cost_of(held, plan.spec.cluster.price_per_worker_hour) or 0.0,
        "flops": sum(flops.get(kind, 0.0) * n for r in history.reports for kind, n in r.segment.pattern),
    }[budget.currency]
    asked = getattr(budget, budget.currency)
    return BudgetReport(currency=budget.currency, asked=asked, spent=spent)


def note_on(spec: JobSpec) -> str:
    """What a reader must know of the data before believing a figure."""
    if spec.data.train.format == "digits":
        return "1,797 digits of 8x8 pixels: this shows the tool running and says nothing about other images."
    return ""


def environment(session: Session) -> dict[str, str]:
    """Versions and machine."""
    packages = ("raymix", "torch", "torchvision", "ray", "numpy")
    return {
        "device": session.device_name,
        "cpus": str(os.cpu_count()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: known.installed(name) for name in packages},
    }


def _image_bytes(job: Job, session: Session) -> int:
    """Bytes of the run's images, decoded."""
    return job.plan.facts.num_images * session.frame.nbytes


def _sources(job: Job, plan: Plan, history: History) -> dict[str, SourceRows]:
    """The images of data.train and, where there is one, of data.unlabelled: how many train, and how often."""
    second = (job.rows.source_of > 0) & ~job.rows.is_val
    tiles = np.repeat(second, plan.facts.tiles)
    found, consumed = orders(plan, job.splits), positions(plan, history.done_steps)
    seen = sum(order.count(consumed[stream], tiles) for stream, order in found.items()) if second.any() else 0
    rows = int(np.count_nonzero(second[job.splits.train]))
    sources = {"train": SourceRows(rows=len(job.splits.train) - rows, seen=sum(consumed.values()) - seen)}
    if job.plan.spec.data.unlabelled is not None:
        sources["unlabelled"] = SourceRows(rows=rows, seen=seen, shared=job.rows.num_shared)
    return sources
