"""What will be done: JobSpec + Facts -> Plan, the pure functions of a plan, and how it is changed on the way."""

from raymix.plan.change import added_epochs, changed, followed, kinds_to_come
from raymix.plan.counts import check_fixed, worker_counts
from raymix.plan.curves import rate, weight
from raymix.plan.mistakes import cost_matrix
from raymix.plan.resolve import resolve
from raymix.plan.steps import classified_rows, pattern, positions, rows_per_step, runs, segment
from raymix.plan.types import (
    SHARDS,
    SL_KINDS,
    STREAM_OF,
    Added,
    Anchor,
    Asked,
    Decision,
    Extension,
    Facts,
    Kind,
    Phase,
    PhaseKind,
    Plan,
    Replay,
    Segment,
    Stream,
)

__all__ = [
    "SHARDS",
    "SL_KINDS",
    "STREAM_OF",
    "Added",
    "Anchor",
    "Asked",
    "Decision",
    "Extension",
    "Facts",
    "Kind",
    "Phase",
    "PhaseKind",
    "Plan",
    "Replay",
    "Segment",
    "Stream",
    "added_epochs",
    "changed",
    "check_fixed",
    "classified_rows",
    "cost_matrix",
    "followed",
    "kinds_to_come",
    "pattern",
    "positions",
    "rate",
    "resolve",
    "rows_per_step",
    "runs",
    "segment",
    "weight",
    "worker_counts",
]
