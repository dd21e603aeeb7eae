"""What each row counts by a metric that asks for the probabilities of all classes: a table, a line a metric.

The more the better, so a loss is told as what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raymix.report.ranking import placements, precisions, recalls
from raymix.spec import Metric, ReportSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = Callable[[Any, Any, ReportSpec, tuple[str, ...]], NDArray[np.float64]]


def brier(p_NC: Any, y_N: Any) -> NDArray[np.float64]:
    """What each row counts by the Brier score: 1 - B / 2, in [0, 1], B = sum over classes of (p_c - [y = c])² (1950).

    A proper score: it is best, in the mean, for probabilities that are true (Gneiting and Raftery 2007). So it asks for
    calibration and for telling classes apart, and has no bias with few rows as the calibration error has.
    """
    import numpy as np

    p_NC = np.asarray(p_NC, dtype=np.float64)
    true_N = p_NC[np.arange(len(y_N)), y_N]
    found: NDArray[np.float64] = 1 - ((p_NC**2).sum(1) - 2 * true_N + 1) / 2
    return found


# p_NC the probabilities, y_N the classes of N rows, the job's `report`, the names of the C classes
# -> what the rows count, float64 (N,), with the metric as its mean
COUNTS: dict[Metric, Counts] = {
    "auroc": lambda p_NC, y_N, asked, names: placements(p_NC, y_N),
    "average_precision": lambda p_NC, y_N, asked, names: precisions(p_NC, y_N),
    "recall_at_false_alarms": lambda p_NC, y_N, asked, names: recalls(p_NC, y_N, asked.false_alarms),
    "brier": lambda p_NC, y_N, asked, names: brier(p_NC, y_N),
}
