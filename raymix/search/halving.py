"""ASHA (Li et al. 2020, arXiv 1810.05934), with worker-seconds for its resource: a trial that is behind ends early."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from raymix.search.trial import Trial
from raymix.spec import Asha


def rung_of(asha: Asha, whole: float, worker_seconds: float) -> str | None:
    """The highest rung that a trial has come to after so many of `whole` worker-seconds; None: none yet."""
    reached = [share for share in asha.rungs if worker_seconds >= share * whole]
    return f"{reached[-1]:g}" if reached else None


def goes_on(asha: Asha, rung: str, top1: float, others: Iterable[Trial]) -> bool:
    """Whether a trial that comes to a rung with `top1` goes on, by what other trials had when they came there.

    Nobody waits for anybody: the first to come goes on, and so do the upper `keep` of those that are there.
    """
    before = [trial.rungs[rung] for trial in others if rung in trial.rungs]
    return not before or top1 >= float(np.quantile(before, 1 - asha.keep))
