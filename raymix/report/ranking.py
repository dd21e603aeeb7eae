"""Figures of how a class is ranked as means over the rows, so that intervals of means hold for them, too.

Such a figure A is the same whether all rows are there once or twice, so with rows that have weights w_i, all 1,

    c_i = A + N dA/dw_i

has the mean A (Euler), and its variance over N is that of A by the infinitesimal jackknife (Efron 1982, chapter 6):
what each row counts. The mean over classes of such c_i is again a mean over rows, so rows may be paired and resampled.
Scores (N, C) are of each class, larger for more likely; any order-preserving ones. Labels are int64 in [0, C). A class
without a row, or without one of another class, has no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    OfClass = Callable[[Any, NDArray[np.bool_]], NDArray[np.float64]]


def placements(scores_NC: Any, labels_N: Any) -> NDArray[np.float64]:
    """What each row counts by the AUROC, over the classes each against all others (macro), in [0, 1].

    The AUROC is the share of pairs of a row of the class and one of no such class that the class's score puts in the
    right order, ties as half. The placement of a row is that share among its own pairs, and

        c_i = A + N / n_i (placement_i - A),     n_i: rows on the side of row i, of N

    has the variance of DeLong et al. 1988, whose S10 / m + S01 / n adds up the two sides.

    Returns:
        float64 (N,); where no class has a part all rows count 0.5, which is chance.
    """
    return _macro(_placed, scores_NC, labels_N, 0.5)


def precisions(scores_NC: Any, labels_N: Any) -> NDArray[np.float64]:
    """What each row counts by the average precision, macro, in [0, 1].

    A = 1/m sum over the m rows j of the class of P_j, P_j = H_j / T_j being the precision among the T_j rows that score
    as high as j or higher, H_j of them of the class: scikit-learn's `average_precision_score`. Its derivative is

        m dA/dw_i = y_i (P_i - A) + sum over rows j of the class that score as i or lower of (y_i - P_j) / T_j,

    y_i being 1 in the class, else 0.

    Returns:
        float64 (N,); where no class has a part all rows count 1: all are of one class.
    """
    return _macro(_precise, scores_NC, labels_N, 1.0)


def recalls(scores_NC: Any, labels_N: Any, false_alarms: float) -> NDArray[np.float64]:
    """What each row counts by the recall at a false-alarm rate, macro, in [0, 1].

    A is the largest share of the m rows of the class that are above a threshold with at most the share `false_alarms`
    of the n others above it, which is F. A row of the class moves A, one of the others the threshold:

        m dA/dw_i = [i above] - A,    n dA/dw_i = -s ([i above] - F),

    with the slope s of the ROC curve there (Pepe 2003, section 5.2.4), taken as the rise between as many others before
    and behind the threshold as the root of those above it, two at least.

    Returns:
        float64 (N,); where no class has a part all rows count 1: there is nothing to raise a false alarm.
    """
    return _macro(lambda scores_N, own_N: _recalled(scores_N, own_N, false_alarms), scores_NC, labels_N, 1.0)


def _macro(of_class: OfClass, scores_NC: Any, labels_N: Any, otherwise: float) -> NDArray[np.float64]:
    """The mean over the classes of what a row counts by each."""
    import numpy as np

    scores_NC, labels_N = np.asarray(scores_NC), np.asarray(labels_N)
    counts, num = np.zeros(len(labels_N)), 0
    for label in np.unique(labels_N):
        own = labels_N == label
        if own.all():
            continue
        num += 1
        counts += of_class(scores_NC[:, label], own)
    return counts / num if num else np.full(len(labels_N), otherwise)


def _placed(scores_N: Any, own_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    import numpy as np

    own, others = np.sort(scores_N[own_N]), np.sort(scores_N[~own_N])
    placed = np.empty(len(scores_N))
    placed[own_N] = _share_below(scores_N[own_N], others)
    placed[~own_N] = 1 - _share_below(scores_N[~own_N], own)
    area = placed[own_N].mean()
    sides = np.where(own_N, len(own), len(others))
    found: NDArray[np.float64] = area + len(scores_N) / sides * (placed - area)
    return found


def _share_below(values: Any, others: Any) -> NDArray[np.float64]:
    """Of the sorted others, those below each value, equal ones as half."""
    import numpy as np

    both: NDArray[np.float64] = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return both / (2 * len(others))


def _precise(scores_N: Any, own_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    import numpy as np

    falling, place_N = np.unique(-scores_N, return_inverse=True)  # rows of one score have one place
    own = np.bincount(place_N, own_N, len(falling))
    taken = np.cumsum(np.bincount(place_N, minlength=len(falling)))
    precision = np.cumsum(own) / taken
    average = (own * precision).sum() / own.sum()
    gained, lost = (np.cumsum((part / taken)[::-1])[::-1][place_N] for part in (own, own * precision))
    slope_N = own_N * (precision[place_N] - average + gained) - lost
    found: NDArray[np.float64] = average + len(scores_N) / own.sum() * slope_N
    return found


def _recalled(scores_N: Any, own_N: NDArray[np.bool_], false_alarms: float) -> NDArray[np.float64]:
    import numpy as np

    own, others = scores_N[own_N], np.sort(scores_N[~own_N])[::-1]
    allowed = int(np.searchsorted(np.arange(len(others) + 1) / len(others), false_alarms, "right")) - 1
    above_N = scores_N > others[allowed]
    recall, rate = above_N[own_N].mean(), above_N[~own_N].mean()
    reach = max(2, math.ceil(math.sqrt(allowed)))
    before, behind = others[max(0, allowed - reach)], others[min(len(others) - 1, allowed + reach)]
    rise, run = ((side > behind).mean() - (side > before).mean() for side in (own, others))
    moved_N = np.where(own_N, (above_N - recall) / len(own), -(rise / (run or 1.0)) * (above_N - rate) / len(others))
    found: NDArray[np.float64] = recall + len(scores_N) * moved_N
    return found
