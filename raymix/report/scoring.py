"""What each row counts by a metric that asks for the probabilities of all classes: a table, a line a metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raymix.report.ranking import placements, precisions, recalls
from raymix.spec import Metric, ReportSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = Callable[[Any, Any, ReportSpec, tuple[str, ...]], NDArray[np.float64]]

# p_NC the probabilities, y_N the classes of N rows, the job's `report`, the names of the C classes
# -> what the rows count, float64 (N,), with the metric as its mean
COUNTS: dict[Metric, Counts] = {
    "auroc": lambda p_NC, y_N, asked, names: placements(p_NC, y_N),
    "average_precision": lambda p_NC, y_N, asked, names: precisions(p_NC, y_N),
    "recall_at_false_alarms": lambda p_NC, y_N, asked, names: recalls(p_NC, y_N, asked.false_alarms),
}
