"""The steps of a plan: their kinds, the rows they take, and the segments that hold them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from raymix.plan.curves import rate, weight
from raymix.plan.types import STREAM_OF, Kind, Plan, Segment, Stream
from raymix.spec import MIX_KINDS


def runs(plan: Plan, start: int, end: int) -> Iterator[tuple[Kind, int]]:
    """Step kinds of the global steps from `start` up to `end`, which lie in one phase, with their numbers of steps."""
    phase = plan.phases[plan.phase_at(start)]
    assert end <= phase.start + phase.steps, "a segment never crosses a phase"
    turn = bisect_right(phase.turn_ends, start - phase.start)
    while start < end:
        stop = min(end, phase.start + phase.turn_ends[turn])
        yield phase.turns[turn][0], stop - start
        start, turn = stop, turn + 1


def pattern(plan: Plan, start: int, steps: int) -> tuple[tuple[Kind, int], ...]:
    """Step kinds of the global steps [start, start + steps), which lie in one phase."""
    return tuple(runs(plan, start, start + steps))


def rows_per_step(plan: Plan, kind: Kind) -> dict[Stream, int]:
    """Rows of each stream that a step of a kind takes; they stand in the batch in this order."""
    batch, share = plan.spec.batch, plan.spec.data.labelled_share
    if kind in MIX_KINDS and share is not None:
        labelled = round(share * batch)
        return {"labelled": labelled, "unlabelled": batch - labelled}
    return {STREAM_OF[kind]: batch}


def classified_rows(plan: Plan, kind: Kind, workers: int) -> int:
    """Rows, the first ones, of the batch of a step with labels that the classifier sees: all, but for `whole_rows`.

    Worker r has the positions r, r + workers, ...: the first rows of each are the first of the batch.
    """
    batch, shared = plan.spec.batch, kind in MIX_KINDS and plan.spec.has_ssl_loss(kind)
    whole = plan.spec.num_whole(batch // workers) if shared else 0
    return workers * whole or batch


def positions(plan: Plan, step: int) -> dict[Stream, int]:
    """Rows of each stream that the steps before a global step have consumed."""
    consumed: dict[Stream, int] = {"all": 0, "labelled": 0, "unlabelled": 0}
    for phase in plan.phases:
        if not phase.turns:  # a decision left it without a step
            continue
        done = min(max(step - phase.start, 0), phase.steps)
        on_labelled = phase.labelled_steps(done)
        # what its other steps are; none in an SL phase
        other: Kind = "mix" if phase.turns[0][0] in MIX_KINDS else "ssl"
        for stream, rows in rows_per_step(plan, other).items():
            consumed[stream] += (done - on_labelled) * rows
        consumed["labelled"] += on_labelled * plan.spec.batch
    return consumed


def segment(plan: Plan, start: int, steps: int, evaluate: bool) -> Segment:
    """The segment of `steps` steps at global step `start`, which lie in one phase."""
    index, last, total = plan.phase_at(start), start + steps - 1, plan.num_steps
    return Segment(
        phase=index,
        kind=plan.phases[index].kind,
        start=start,
        steps=steps,
        pattern=pattern(plan, start, steps),
        progress=(start / total, (start + steps) / total),
        lr=(rate(plan, start), rate(plan, last)),
        weight=(weight(plan, start), weight(plan, last)),
        evaluate=evaluate,
    )
