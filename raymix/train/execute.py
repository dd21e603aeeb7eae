"""What a worker does with a task. The same code under Ray and without."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from raymix.method.backbones import How
from raymix.plan import Plan, followed, kinds_to_come, positions
from raymix.report.history import History, Rates
from raymix.spec import Weights
from raymix.train import compiling, full
from raymix.train.batch import largest
from raymix.train.begin import begin
from raymix.train.checkpoint import NotSaved
from raymix.train.device import choose_attention, name_of, repeat_exactly
from raymix.train.evaluate import Answers, evaluate_all, settle_all
from raymix.train.feed import Feed
from raymix.train.full import DeviceFull
from raymix.train.loop import check, train
from raymix.train.prepare import prepare
from raymix.train.restore import restore, roll_back
from raymix.train.runtime import Runtime
from raymix.train.samples import samples
from raymix.train.saving import Checkpoints
from raymix.train.state import TrainState
from raymix.train.stepper import Stepper
from raymix.train.task import Outcome, Task

CLOSING_SECONDS = 0.5  # from the last step to the report, beside evaluation and checkpoint


def execute(task: Task, runtime: Runtime) -> Outcome:
    """Trains a task to its end, from its newest checkpoint where there is one, and reads val once at the end.

    Raises:
        FloatingPointError: a loss or gradient is not finite, and the job has it end the run; on every rank.
        DeviceFull: a step does not fit into the device's memory; on the ranks of which that is true.
        NotSaved: the last checkpoint could not be written; on every rank.
        NotBegun: the weights to begin with are not there any more; on every rank.
    """
    try:
        return _executed(task, runtime)
    except RuntimeError as error:
        told = full.said(error)
        if told is None:
            raise
    # after the exception is gone, and with it all that its frames held
    runtime.pulse.enter("preparing")  # smaller batches are tried, which takes longer than a step may
    full.let_go(runtime.device)
    if task.largest:
        raise DeviceFull(f"optim.batch: {told}")
    raise DeviceFull(full.explain(told, task.plan, task.splits, runtime, How(task.allow_import)))


def _executed(task: Task, runtime: Runtime) -> Outcome:
    started = time.perf_counter()
    runtime.pulse.enter("preparing")
    compiling.forget(runtime.device)
    # before anything is computed: cuBLAS takes its workspace once, and other kernels take other memory
    repeat_exactly(task.plan.spec.speed.deterministic, runtime.device)
    if task.largest:
        batch = largest(task.plan, task.splits, runtime, How(task.allow_import), task.largest)
        return Outcome(task.run, History(rates=Rates(step_seconds={})), None, batch=batch)
    state = TrainState.fresh(task.plan, runtime.device, How(task.allow_import))
    feed = Feed(task.plan, task.splits, runtime)
    try:
        if task.measure:
            _, rates = prepare(task.plan, task.measure, state, feed, runtime, None, count=True)
            return Outcome(task.run, History(rates=rates), None, seconds=time.perf_counter() - started)
        outcome = _trained(task, state, feed, runtime)
    finally:
        feed.close()
    return replace(outcome, seconds=time.perf_counter() - started)


def _trained(task: Task, state: TrainState, feed: Feed, runtime: Runtime) -> Outcome:
    newest = restore(task, state, runtime)
    if newest is None:
        begin(state, task, runtime)
    plan = feed.plan = _followed(task, state)
    resumed = bool(state.history.reports)
    news = _news(state.history.rates, runtime) if resumed else ""
    kinds = tuple(dict.fromkeys((*task.plan.kinds, *kinds_to_come(plan))))
    known = state.history.rates if resumed else task.rates
    if resumed and (news or not set(kinds) <= set(state.history.rates.step_seconds)):
        known = None
    folder = Path(task.profile) if task.profile and runtime.rank == 0 else None
    saves = Path(task.checkpoints) if task.checkpoints and runtime.rank == 0 else None
    in_flops = plan.spec.budget is not None and plan.spec.budget.currency == "flops"
    # by the plan as it began: what averaged weights keep at a step must not change when a run is resumed
    step, rates = prepare(
        task.plan, kinds, state, feed, runtime, known, profiled=bool(task.profile), folder=folder, checkpoints=saves,
        count=in_flops,
    )  # fmt: skip
    feed.begin(state.history.done_steps)  # after prepare, whose measurement reading would disturb
    if not resumed:
        state.history = History(rates=rates, roll_backs=state.history.roll_backs)
    rolled_back = False
    while True:
        state.history = state.history.begin(_allowance(task, state, rates, runtime), rates, news, time.time())
        saved = Checkpoints.of(plan, task.checkpoints, runtime.rank, runtime.note, newest, task.bucket)
        with saved as checkpoints:
            try:
                return _run(task, state, step, feed, runtime, checkpoints, rolled_back)
            except FloatingPointError as error:
                trouble = error
        # once the checkpoint that was being written is there
        newest, news, rolled_back = roll_back(task, state, feed, runtime, trouble), "", True


def _run(
    task: Task, state: TrainState, step: Stepper, feed: Feed, runtime: Runtime, checkpoints: Checkpoints, anew: bool
) -> Outcome:
    """Trains from where the state stands to the end, or until it is stopped.

    `anew`: what a checkpoint does not hold was decided, so one is written now.

    Raises:
        FloatingPointError: as `train`; or the last statistics of BatchNorm are not finite.
    """
    runtime.begin(task.run, feed.plan, state.history)
    first_step_at = time.time()
    if anew:
        checkpoints.start(state)
    ended = train(feed.plan, state, step, feed, runtime, checkpoints)
    plan = feed.plan
    before_settling = time.perf_counter()
    with step.between():
        settle_all(plan, state, task.splits, runtime)  # what is saved last is what will be classified with
    check(state, state.history.done_steps)
    settling = time.perf_counter() - before_settling
    _save(checkpoints, state, runtime)
    answers, before_val = dict[Weights, Answers](), time.perf_counter()
    # after SSL alone the classifier is still zero, and what it says is no result
    trained = any(kind != "ssl" for report in state.history.reports for kind, _ in report.segment.pattern)
    with step.between():
        if ended and trained and len(task.splits.val):
            answers = evaluate_all(plan, state, task.splits, task.splits.val, runtime)
        shown = samples(plan, state, task.splits, runtime) if runtime.rank == 0 else None
    return Outcome(
        run=task.run,
        history=state.history,
        ended=ended,
        correct={name: of.correct for name, of in answers.items()},
        counts={name: of.counts for name, of in answers.items() if of.counts is not None},
        evaluate_seconds=settling + time.perf_counter() - before_val,
        checkpoint_seconds=checkpoints.seconds,
        first_step_at=first_step_at,
        finished_at=time.time(),
        seen=positions(plan, state.history.done_steps),
        samples=shown,
    )


def _followed(task: Task, state: TrainState) -> Plan:
    """The plan as the history has left it."""
    return followed(task.plan, state.history.decisions, (one.step for one in state.history.roll_backs))


def _news(rates: Rates, runtime: Runtime) -> str:
    """What is not as it was when the rates were measured; '': all is, or nobody said what it was."""
    device = name_of(runtime.device)
    if not rates.workers or (rates.workers, rates.device) == (runtime.world, device):
        return ""
    return f"{runtime.world} x {device} instead of {rates.workers} x {rates.device}"


def _allowance(task: Task, state: TrainState, rates: Rates, runtime: Runtime) -> float | None:
    """What may be spent from now on: FLOPs in all, or seconds, less those of what comes after; None: anything."""
    budget = task.plan.spec.budget
    if budget is None:
        return None
    if budget.flops is not None:
        return budget.flops
    if budget.training is not None:
        return max(0.0, budget.training - state.history.training_seconds)
    assert task.deadline is not None
    weights = 1 if task.plan.spec.optim.ema is None else 2
    saving = 2 * rates.checkpoint_seconds  # the last one, and another that may be on its way to the disk by then
    after = weights * rates.row_seconds * len(task.splits.val) + saving + CLOSING_SECONDS
    seconds: float = runtime.gather(task.deadline - time.time() - after)[0]  # rank 0's clock
    return max(0.0, seconds)


def _save(checkpoints: Checkpoints, state: TrainState, runtime: Runtime) -> None:
    """Saves the last checkpoint.

    Raises:
        NotSaved: it could not be written; on every rank, so that none waits for the others.
    """
    trouble: NotSaved | None = None
    try:
        checkpoints.save(state)
    except NotSaved as error:
        trouble = error
    told = runtime.gather(str(trouble or ""))[0]
    if told:
        raise trouble or NotSaved(told)


def set_up_process(device: torch.device, threads: int) -> None:
    """What a training process sets once: threads, and TF32 for the fp32 products that remain on a GPU."""
    torch.set_num_threads(max(1, threads))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
        choose_attention()
        compiling.begin(device)
