"""A run that repeats another: its segments and decisions are named as they were, whatever steps cost now."""

from __future__ import annotations

from raymix.plan import Decision, Plan, Replay, Segment, changed, segment
from raymix.report.history import History


def repeated(plan: Plan, replay: Replay, history: History) -> tuple[Segment | None, Decision | None]:
    """The segment that followed, None after the last, and the decision that was taken before it, if one was."""
    start = history.next_step
    decision = next((one for one in replay.decisions[len(history.decisions) :] if one.step == start), None)
    if decision is not None:
        plan = changed(plan, decision)
    follows = next(((end, judged, trial) for end, judged, trial in replay.segments if end > start), None)
    if follows is None:
        return None, decision
    end, judged, trial = follows
    named = segment(plan, start, end - start, judged)
    return named.model_copy(update={"trial": trial}) if trial else named, decision
