"""What a search found: the best trial, and the Pareto front of accuracy against worker-seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raymix.search.trial import Trial


def finished(trials: Iterable[Trial]) -> list[Trial]:
    """Those that trained to their end and were judged."""
    return [trial for trial in trials if trial.status == "done" and trial.select_top1 is not None]


def best(trials: Iterable[Trial]) -> Trial | None:
    """The one with the highest accuracy on select rows; of equals, the one of fewer worker-seconds, then the first."""
    return max(
        finished(trials),
        key=lambda trial: (trial.select_top1 or 0.0, -trial.worker_seconds, -trial.number),
        default=None,
    )


def front(trials: Iterable[Trial]) -> list[Trial]:
    """Those that no other beats in accuracy and worker-seconds both, the cheapest first."""
    kept: list[Trial] = []
    for trial in sorted(finished(trials), key=lambda trial: (trial.worker_seconds, -(trial.select_top1 or 0.0))):
        if not kept or (trial.select_top1 or 0.0) > (kept[-1].select_top1 or 0.0):
            kept.append(trial)
    return kept


def num_tried(trials: Sequence[Trial]) -> int:
    """Configurations that trained, whatever came of them."""
    return sum(trial.status not in ("refused", "running") for trial in trials)
