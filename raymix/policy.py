"""Who gets compute next: pure functions (Plan, History) -> Segment, or None when nothing is left.

A policy only decides. It runs without torch and Ray, in microseconds, and gives the same answer to the same question,
so a restarted worker group that asks with the same history goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from raymix.plan import Plan, Segment, runs, segment
from raymix.report.history import History, Rates, SegmentReport

SEGMENT_SECONDS = 2.0

Policy = Callable[[Plan, History], Segment | None]


def fixed(plan: Plan, history: History) -> Segment | None:
    """The phases as planned, in segments of about two seconds that end at phase ends and evaluation marks."""
    start = history.next_step
    if start >= plan.num_steps:
        return None
    phase = plan.phases[plan.phase_at(start)]
    mark = _next_mark(plan, start)
    limit = min(phase.start + phase.steps, mark) - start
    steps = _steps_within(plan, history.rates, start, limit)
    end = start + steps
    evaluate = end == mark and end < plan.num_steps and _may_evaluate(plan, history)
    return segment(plan, start, steps, evaluate)


POLICIES: dict[str, Policy] = {"fixed": fixed}


def next_segment(plan: Plan, history: History) -> Segment | None:
    """What the job's policy names next."""
    return POLICIES[plan.spec.schedule.policy](plan, history)


def unroll(plan: Plan, rates: Rates) -> list[Segment]:
    """The segments that follow if every step costs what `rates` say."""
    history, segments = History(rates=rates), []
    while (named := next_segment(plan, history)) is not None:
        segments.append(named)
        seconds = sum(rates.step_seconds[kind] * steps for kind, steps in named.pattern)
        history = history.add(
            SegmentReport(
                segment=named, seconds=seconds, data_seconds=0, images=0, labelled=0, ssl_loss=None, sl_loss=None
            )
        )
    return segments


def _next_mark(plan: Plan, start: int) -> int:
    """First global step after `start` at which select rows may be evaluated, or the run's end.

    None in the ssl phase, in which the classifier is still what it was at the start.
    """
    asked = plan.spec.evaluate
    if (
        plan.phases[plan.phase_at(start)].kind == "ssl"
        or not asked.every
        or not asked.max_share
        or not plan.facts.num_select
    ):
        return plan.num_steps
    every = max(1.0, asked.every * plan.num_steps)
    mark = math.floor(start / every) + 1
    while round(mark * every) <= start:
        mark += 1
    return min(round(mark * every), plan.num_steps)


def _steps_within(plan: Plan, rates: Rates, start: int, limit: int) -> int:
    """Steps from `start` that fit into a segment's seconds: at least one, at most `limit`."""
    seconds, steps = SEGMENT_SECONDS, 0
    for kind, count in runs(plan, start, start + limit):
        cost = rates.step_seconds[kind]
        fit = count if cost * count <= seconds else int(seconds / cost)
        steps, seconds = steps + fit, seconds - fit * cost
        if fit < count:
            break
    return max(steps, 1)


def _may_evaluate(plan: Plan, history: History) -> bool:
    """Whether evaluations have stayed within their share of the training seconds so far.

    The segment just before is left out even where it is reported: most often it still runs when the next one is
    named, and a worker group that asks again after a restart must get the answer that was given then.
    """
    known = history.reports if history.pending else history.reports[:-1]
    trained = sum(report.seconds for report in known)
    spent = sum(report.evaluate_seconds for report in known)
    last = next((r.evaluate_seconds for r in reversed(known) if r.evaluate_seconds), 0.0)
    return not spent or spent + last <= plan.spec.evaluate.max_share * trained
