"""Who gets compute next: pure functions (Plan, History) -> what is named next, and why nothing is.

A policy only decides. It runs without torch and Ray, in microseconds, and gives the same answer to the same question,
so a restarted worker group that asks with the same history goes on as it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from raymix.plan import Decision, Plan, Segment, changed
from raymix.policy.costs import Outlook, at_price, known
from raymix.policy.extend import extended, is_cut, lengths
from raymix.policy.replay import repeated
from raymix.policy.segments import SEGMENT_SECONDS, next_of_plan
from raymix.policy.wants import DECIDE
from raymix.report.history import History, Rates, SegmentReport, select_of

__all__ = ["SEGMENT_SECONDS", "End", "Named", "Policy", "name_next", "next_segment", "planned", "unroll"]

End = Literal["complete", "budget", "goal", "patience"]
Policy = Callable[[Plan, History], "Named"]


class Named(NamedTuple):
    """What a policy answers."""

    segment: Segment | None  # None: the run is over
    decision: Decision | None = None  # changes the plan before it
    end: End | None = None  # why it is over


def name_next(plan: Plan, history: History) -> Named:
    """What follows, by the job's policy, budget and goal. `plan` is as the decisions so far have left it."""
    if plan.replay is not None:
        again, taken = repeated(plan, plan.replay, history)
        return Named(again, taken, None if again else plan.replay.ended)
    outlook = Outlook(plan, history)
    if (end := _ended(outlook)) is not None:
        return Named(None, None, end)
    decision = _decision(outlook)
    if decision is not None:
        outlook = Outlook(changed(plan, decision), history)
    segment = next_of_plan(outlook)
    if segment is not None:
        return Named(segment, decision)
    decisions = history.decide(decision).decisions
    return Named(None, decision, "budget" if is_cut(outlook.plan, decisions) else "complete")


def next_segment(plan: Plan, history: History) -> Segment | None:
    """The next segment alone."""
    return name_next(plan, history).segment


def planned(plan: Plan, rates: Rates, allowance: float | None) -> Plan:
    """The plan as it will be when steps cost what `rates` say and may cost `allowance` in all."""
    decision = name_next(plan, History(rates=rates).begin(allowance)).decision
    return plan if decision is None else changed(plan, decision)


def follow(
    plan: Plan, rates: Rates, allowance: float | None = None, slower: float = 1.0
) -> Iterator[tuple[Plan, History, Named]]:
    """What comes of a plan if every step takes `slower` times what `rates` say: each answer, with what it was given."""
    history = History(rates=rates).begin(allowance)
    while True:
        named = name_next(plan, history)
        yield plan, history, named
        history = history.decide(named.decision)
        plan = plan if named.decision is None else changed(plan, named.decision)
        if named.segment is None:
            return
        seconds = slower * at_price(named.segment, rates.step_seconds)
        elapsed = seconds + (history.reports[-1].elapsed if history.reports else 0.0)
        history = history.add(
            SegmentReport(
                segment=named.segment, seconds=seconds, data_seconds=0, images=0, labelled=0, ssl_loss=None,
                sl_loss=None, elapsed=elapsed,
            )
        )  # fmt: skip


def unroll(plan: Plan, rates: Rates, allowance: float | None = None, slower: float = 1.0) -> list[Segment]:
    """The segments that follow if every step takes `slower` times what `rates` say."""
    return [named.segment for _, _, named in follow(plan, rates, allowance, slower) if named.segment is not None]


def _decision(outlook: Outlook) -> Decision | None:
    """What the policy changes; where its plan is over or was extended, that is the same for all of them."""
    if outlook.history.next_step >= outlook.plan.num_steps > 0:
        return extended(outlook)
    return (lengths if outlook.plan.extension else DECIDE[outlook.plan.spec.schedule.policy])(outlook)


def _ended(outlook: Outlook) -> End | None:
    """Whether goal, patience or budget end the run here."""
    plan, history = outlook.plan, outlook.history
    goal = plan.spec.goal
    if goal is not None:
        weights = plan.spec.evaluate.weights
        reached = [select_of(report, weights) for report in known(history)]
        found = [top1 for top1 in reached if top1 is not None]
        if goal.top1 is not None and found and found[-1] >= goal.top1:
            return "goal"
        patience = goal.patience
        if patience is not None and len(found) > patience and max(found[-patience:]) <= max(found[:-patience]):
            return "patience"
    if outlook.left is not None and history.next_step < plan.num_steps:
        cheapest = min(outlook.price[kind] for kind in plan.kinds)
        if outlook.left < (cheapest if outlook.in_flops else cheapest / 2):
            return "budget"
    return None
