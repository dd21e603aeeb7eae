"""One run as a worker sees it: a task in, an outcome out. Plain data, which the driver handles without torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from raymix.bucket import Saved
from raymix.data.splits import Splits
from raymix.plan import Kind, Plan, Stream
from raymix.policy import End
from raymix.report.history import History, Rates
from raymix.report.start import WeightsReport
from raymix.spec import Weights


@dataclass(frozen=True)
class Task:
    """A run to be trained; or step kinds to be timed (`measure`), or a batch to be found (`largest`)."""

    run: str
    plan: Plan
    splits: Splits
    rates: Rates | None = None  # None: measured before the first step
    checkpoints: str | None = None  # folder; None: none are kept
    bucket: Saved | None = None  # where they go from there; None: they stay
    measure: tuple[Kind, ...] = ()  # time these kinds and train nothing
    largest: int = 0  # find the largest batch up to this and train nothing
    profile: str | None = None  # folder for a trace of each step kind; None: none are made
    allow_import: tuple[str, ...] = ()  # factories of backbones that the command was told may run
    weights: WeightsReport | None = None  # what it begins with, where there is no checkpoint; None: what its seed draws
    held_limit: float | None = None  # what the session's `worker_seconds` may come to; None: anything
    deadline: float | None = None  # time.time() at which all must be over, for a budget of time; None: there is none


@dataclass(frozen=True)
class Samples:
    """A few rows that were never trained on, as the model sees them at the end; N of them."""

    labels: np.ndarray  # int64 (N,)
    predicted: np.ndarray | None  # int64 (N,); None: nothing was learnt with labels
    pictures: dict[str, np.ndarray]  # by name uint8 (N, H, W, C): the image first, then what the objective shows


@dataclass(frozen=True)
class Outcome:
    """What a task brought; plain data that travels from rank 0 to the driver."""

    run: str
    history: History
    ended: End | None  # why the run is over; None: it was asked to stop, and goes on when it is resumed
    # by weights a bool for each val row; none: not complete, no val, or no SL
    correct: dict[Weights, np.ndarray] = field(default_factory=dict)
    # by weights what each val row counts, float64; none: the job's metric is reckoned from `correct`
    counts: dict[Weights, np.ndarray] = field(default_factory=dict)
    evaluate_seconds: float = 0.0  # of val, and what makes the last weights ready for it
    checkpoint_seconds: float = 0.0
    first_step_at: float = 0.0  # time.time() when training began
    finished_at: float = 0.0  # time.time() when all of it was done
    seconds: float = 0.0  # the whole task
    seen: dict[Stream, int] = field(default_factory=dict)
    samples: Samples | None = None  # for the page
    batch: int = 0  # where `largest` was asked for

    @property
    def complete(self) -> bool:
        """Whether the run is over: every step done, or its budget, goal or patience."""
        return self.ended is not None
