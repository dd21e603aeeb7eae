"""How a plan is cut into segments: about two seconds each, shorter where a budget ends."""

from __future__ import annotations

import math

from raymix.plan import Kind, Plan, Segment, runs, segment
from raymix.policy.adaptive import trial_steps
from raymix.policy.costs import Outlook, known
from raymix.report.history import History

SEGMENT_SECONDS = 2.0
_SHARE_OF_REST = 0.25  # of what a budget has left that a segment may take: the end is met in ever smaller steps


def next_of_plan(outlook: Outlook) -> Segment | None:
    """The next segment: it ends at its phase's end, at an evaluation mark, before parts of the backbone are masked, or
    when its time is over.
    """
    plan, history = outlook.plan, outlook.history
    start = history.next_step
    if start >= plan.num_steps:
        return None
    phase = plan.phases[plan.phase_at(start)]
    mark = _next_mark(plan, start)
    ends = [phase.start + phase.steps, mark]
    if plan.shrinks_at is not None and plan.shrinks_at > start:
        ends.append(plan.shrinks_at)
    limit = min(ends) - start
    seconds, rest = SEGMENT_SECONDS, outlook.left
    if rest is not None and not outlook.in_flops:
        seconds = min(seconds, max(0.0, _SHARE_OF_REST * rest))
    steps = _steps_within(plan, history.rates.step_seconds, start, limit, seconds)
    end = start + steps
    # at its end a run is judged by val, and one without val by its select rows, whatever that costs
    last = end == plan.num_steps
    judged = not plan.facts.num_val and bool(plan.facts.num_select) and phase.kind != "ssl"
    evaluate = judged if last else end == mark and _may_evaluate(plan, history)
    named = segment(plan, start, steps, evaluate)
    trial = 0 if plan.extension else trial_steps(outlook, named)
    return named.model_copy(update={"trial": trial}) if trial else named


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


def _steps_within(plan: Plan, price: dict[Kind, float], start: int, limit: int, seconds: float) -> int:
    """Steps from `start` that fit into a segment's seconds: at least one, at most `limit`."""
    steps = 0
    for kind, count in runs(plan, start, start + limit):
        cost = price[kind]
        fit = count if cost * count <= seconds else int(seconds / cost)
        steps, seconds = steps + fit, seconds - fit * cost
        if fit < count:
            break
    return max(steps, 1)


def _may_evaluate(plan: Plan, history: History) -> bool:
    """Whether evaluations have stayed within their share of the training seconds so far."""
    reports = known(history)
    trained = sum(report.seconds for report in reports)
    spent = sum(report.evaluate_seconds for report in reports)
    last = next((r.evaluate_seconds for r in reversed(reports) if r.evaluate_seconds), 0.0)
    return not spent or spent + last <= plan.spec.evaluate.max_share * trained
