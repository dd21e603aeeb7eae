"""The only training loop: ask for a segment, run it, report it."""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from raymix.method import optim
from raymix.plan import Plan, Segment, changed, rate, weight
from raymix.policy import End
from raymix.report.history import SegmentReport
from raymix.report.judging import judged
from raymix.train import compiling
from raymix.train.evaluate import evaluate_all, settle_all
from raymix.train.feed import Feed
from raymix.train.guard import NOTHING, Skipped
from raymix.train.runtime import Runtime
from raymix.train.saving import Checkpoints
from raymix.train.shrink import shrink_if_due
from raymix.train.state import TrainState
from raymix.train.stepper import Stepper
from raymix.train.trial import with_trial
from raymix.train.waiting import data_wait


def train(
    plan: Plan, state: TrainState, step: Stepper, feed: Feed, runtime: Runtime, checkpoints: Checkpoints
) -> End | None:
    """Runs the segments that the policy names until it names none; returns why it does not, None: asked to stop.

    Everything that is not a step (stopping, saving, evaluating, reporting) happens at the end of a segment.

    Raises:
        FloatingPointError: a loss or gradient is not finite, or more steps were left out for that than the job allows;
            on every rank, and what was saved was saved before that segment.
    """
    began, saved, last = time.perf_counter(), 0.0, state.history.done_steps
    while True:
        named = runtime.name_next(state.history)
        if named.segment is not None and state.history.done_steps > last:  # at the end it is saved in any case
            checkpoints.save_if_due(state, runtime.leaving())
        if named.decision is not None:
            plan, state.history = changed(plan, named.decision), state.history.decide(named.decision)
            feed.plan = plan
            runtime.decided(named.decision)
        if named.segment is None:
            return named.end
        runtime.pulse.enter_steps(named.segment, state.history.rates.step_seconds, runtime.device.type != "cpu")
        report = run_segment(plan, named.segment, state, step, feed, runtime)
        runtime.pulse.enter("between")
        if named.segment.evaluate:
            with step.between():
                report = _with_select(plan, report, state, feed, runtime)
            check(state, named.segment.start + named.segment.steps)
        if named.segment.trial:
            report = with_trial(plan, report, state, step, feed, runtime)
        saving, saved = checkpoints.seconds - saved, checkpoints.seconds
        report = report.model_copy(update={"checkpoint_seconds": saving, "elapsed": time.perf_counter() - began})
        state.history = state.history.add(report)
        runtime.report(report)
        if state.history.skipped > plan.spec.failures.max_skipped:
            told = f"{state.history.skipped} steps were left out since loss or gradient was not finite"
            raise FloatingPointError(f"{told}, more than failures.max_skipped={plan.spec.failures.max_skipped}")


def run_segment(
    plan: Plan, segment: Segment, state: TrainState, step: Stepper, feed: Feed, runtime: Runtime
) -> SegmentReport:
    """The steps of one segment, without a word to anyone in between."""
    phase = plan.phases[segment.phase]
    if plan.spec.optim.restart == "phase" and segment.start == phase.start:
        optim.restart(state.optimizer)
    state.model.train()
    if compiling.draws(state.model):
        _seed(plan.spec.seed, runtime.rank, segment.start)
    numbers = range(segment.start, segment.start + segment.steps)
    lr_T = torch.tensor([rate(plan, number) for number in numbers], device=runtime.device)
    w_T = torch.tensor([weight(plan, number) for number in numbers], device=runtime.device)
    sums, before = torch.zeros(3, device=runtime.device), (feed.labelled, feed.labelled_steps)
    if step.guard is not None:
        step.guard.clear()
    started = time.perf_counter()
    if plan.shrinks_at is not None:
        with step.between():
            shrink_if_due(plan, segment, state, feed, runtime)
    wait = data_wait(runtime.device)
    wait.begin()
    for (kind, batch), lr, w in zip(feed.batches(segment), lr_T, w_T, strict=True):
        wait.end()
        sums += step(kind, batch, lr, w)
        wait.begin()
    local = [*sums.tolist(), 0.0, 0.0, 0.0, 0.0]
    local[4] = time.perf_counter() - started  # after tolist(), which waits for the device
    local[3] = wait.seconds()
    local[5] = 0.0 if state.is_finite() else 1.0
    local[6] = torch.cuda.max_memory_reserved() if runtime.device.type == "cuda" else 0.0
    totals = np.array(runtime.gather(local))
    skipped = NOTHING if step.guard is None else step.guard.skipped()
    return _report(plan, segment, totals, feed.labelled - before[0], feed.labelled_steps - before[1], skipped)


def _seed(*of: int) -> None:
    """Where torch's generator begins, which dropout draws from, as a function of seed, rank and step.

    So a run that is resumed at a segment's start draws what the unbroken one drew.
    """
    torch.manual_seed(int(np.random.SeedSequence(of).generate_state(1, np.uint64)[0]))


def _report(
    plan: Plan, segment: Segment, totals: np.ndarray, labelled: int, labelled_steps: int, skipped: Skipped
) -> SegmentReport:
    """The report of a segment from each rank's (SSL loss sum, SL loss sum, hits, data seconds, seconds, 1 if broken,
    bytes held on its GPU).

    `labelled` rows fed the supervised loss, in `labelled_steps` of the steps, but for those that were `skipped`; a
    batch without labels has no CE.

    Raises:
        FloatingPointError: a loss is not finite, or what came of a gradient.
    """
    ssl, sl, _, waited, seconds, broken, _ = totals.mean(0).tolist()
    hits = totals[:, 2].sum()
    if broken or not math.isfinite(ssl + sl):
        what = "a gradient" if math.isfinite(ssl + sl) else "the loss"
        steps = f"in steps {segment.start} to {segment.start + segment.steps - 1}"
        raise FloatingPointError(f"{what} is not finite {steps}: a lower optim.lr may help")
    ssl_steps = sum(steps for kind, steps in segment.pattern if plan.spec.has_ssl_loss(kind)) - skipped.with_ssl
    labelled, labelled_steps = labelled - skipped.labelled, labelled_steps - skipped.with_sl
    return SegmentReport(
        segment=segment,
        seconds=seconds,
        data_seconds=waited,
        images=segment.steps * plan.spec.batch,
        labelled=labelled,
        ssl_loss=ssl / ssl_steps if ssl_steps else None,
        sl_loss=sl / labelled_steps if labelled_steps else None,
        train_top1=100 * hits / labelled if labelled else None,
        gpu_bytes=int(totals[:, 6].max()) or None,
        skipped=skipped.steps,
    )


def check(state: TrainState, done: int) -> None:
    """Looks at the whole state after so many steps, with the statistics that were just estimated.

    Raises:
        FloatingPointError: it is not finite; on every rank, since all hold the same.
    """
    if not state.is_finite(thoroughly=True):
        raise FloatingPointError(f"weights or BatchNorm's statistics are not finite after {done} steps")


def _with_select(plan: Plan, report: SegmentReport, state: TrainState, feed: Feed, runtime: Runtime) -> SegmentReport:
    started = time.perf_counter()
    settle_all(plan, state, feed.splits, runtime)
    found = evaluate_all(plan, state, feed.splits, feed.splits.select, runtime)
    rows = judged(plan.spec.metric, feed.splits.labels[feed.splits.select])
    top1 = {name: rows.score(answers.judged) for name, answers in found.items()}
    seconds = max(runtime.gather(time.perf_counter() - started))
    update = {"select_top1": top1["raw"], "select_ema_top1": top1.get("ema"), "evaluate_seconds": seconds}
    return report.model_copy(update=update)
