"""A supervised trial: a few steps from where SSL has come to, evaluated on select rows, then undone."""

from __future__ import annotations

import time

import torch

from raymix.plan import Plan
from raymix.report.history import SegmentReport
from raymix.report.judging import judged
from raymix.train.evaluate import evaluate_all, settle_all
from raymix.train.feed import Feed
from raymix.train.runtime import Runtime
from raymix.train.state import TrainState
from raymix.train.stepper import Stepper


def with_trial(
    plan: Plan, report: SegmentReport, state: TrainState, step: Stepper, feed: Feed, runtime: Runtime
) -> SegmentReport:
    """The report with what the trial after its segment reached, and what it cost.

    The trial's rate falls from the job's to 0, so that what it reaches can be read. The state is put back exactly.
    """
    started, num = time.perf_counter(), report.segment.trial
    saved, reached = state.snapshot(), dict[int, float]()
    w = torch.zeros((), device=runtime.device)
    state.model.train()
    for number in range(num):
        lr = plan.spec.optim.lr * (1 - (number + 0.5) / num)
        step("sl", feed.sample("sl", number), torch.tensor(lr, device=runtime.device), w)
        if number + 1 in (num // 2, num):
            with step.between():
                reached[number + 1] = _select_top1(plan, state, feed, runtime)
            state.model.train()
    state.load(saved)
    seconds = max(runtime.gather(time.perf_counter() - started))
    update = {"trial_half_top1": reached[num // 2], "trial_top1": reached[num], "trial_seconds": seconds}
    return report.model_copy(update=update)


def _select_top1(plan: Plan, state: TrainState, feed: Feed, runtime: Runtime) -> float:
    settle_all(plan, state, feed.splits, runtime)
    found = evaluate_all(plan, state, feed.splits, feed.splits.select, runtime)["raw"]
    return judged(plan.spec.metric, feed.splits.labels[feed.splits.select]).score(found.judged)
