"""What each row counts by a metric that asks for the probabilities of all classes: a table, a line a metric.

The more the better, so a loss is told as what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raymix.plan import cost_matrix
from raymix.report.ranking import placements, precisions, recalls
from raymix.spec import JobSpec, Metric, ReportSpec

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


def savings(p_NC: Any, y_N: Any, C: Any) -> NDArray[np.float64]:
    """What each row counts by what decisions cost: their mean is A = 1 - cost / blind, the share that is saved.

    `cost` is per row, of the decision that minimises the expected one, argmin p C, as in `raymix evaluate`; `blind` of
    the best decision that is the same for all of these rows. This is the relative value of Richardson 2000: 1 where
    nothing costs, 0 where the model is worth nothing, below where it does harm. Both are means over rows, so

        c_i = A - (cost_i - (1 - A) blind_i) / blind,     as in `raymix.report.ranking`

    Returns:
        float64 (N,).
    """
    import numpy as np

    y_N, C = np.asarray(y_N), np.asarray(C)
    if not len(y_N):
        return np.zeros(0)
    decided_N, (blind_N, blind) = (np.asarray(p_NC, dtype=np.float64) @ C).argmin(1), _blind(y_N, C)
    cost_N = C[y_N, decided_N]
    saved = 1 - cost_N.mean() / blind
    found: NDArray[np.float64] = saved - (cost_N - (1 - saved) * blind_N) / blind
    return found


def _blind(y_N: Any, C: Any) -> tuple[NDArray[np.float64], float]:
    """What each row costs by the best decision that is the same for all, and the mean.

    1 each where it costs nothing, as with rows of one class: then what is saved is 1 - cost.
    """
    import numpy as np

    cost_NC = np.asarray(C)[np.asarray(y_N)]
    blind_N = cost_NC[:, cost_NC.mean(0).argmin()]
    blind = float(blind_N.mean())
    return (blind_N, blind) if blind else (np.ones(len(cost_NC)), 1.0)


def cost_per_row(score: float, y_N: Any, spec: JobSpec, class_names: tuple[str, ...]) -> float | None:
    """What a row costs, of which `score` percent are saved; None where another metric judges."""
    if spec.metric != "cost":
        return None
    _, blind = _blind(y_N, cost_matrix(spec.report.costs or {}, class_names, "report.costs"))
    return (1 - score / 100) * blind


# p_NC the probabilities, y_N the classes of N rows, the job's `report`, the names of the C classes
# -> what the rows count, float64 (N,), with the metric as its mean
COUNTS: dict[Metric, Counts] = {
    "auroc": lambda p_NC, y_N, asked, names: placements(p_NC, y_N),
    "average_precision": lambda p_NC, y_N, asked, names: precisions(p_NC, y_N),
    "recall_at_false_alarms": lambda p_NC, y_N, asked, names: recalls(p_NC, y_N, asked.false_alarms),
    "brier": lambda p_NC, y_N, asked, names: brier(p_NC, y_N),
    "cost": lambda p_NC, y_N, asked, names: savings(p_NC, y_N, cost_matrix(asked.costs or {}, names, "report.costs")),
}
