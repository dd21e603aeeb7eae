"""The area under the ROC curve as a mean over the rows, so that intervals of means hold for it, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def placements(scores_NC: Any, labels_N: Any) -> NDArray[np.float64]:
    """What each row counts; their mean is the AUROC, over the classes each against all others (macro), in [0, 1].

    The AUROC is the share of pairs of a row of the class and one of no such class that the class's score puts in the
    right order, ties as half. The placement of a row is that share among its own pairs, and

        c_i = A + N / n_i (placement_i - A),     n_i: rows on the side of row i, of N

    has the mean A, and its variance over N is DeLong's of A (DeLong et al. 1988), whose S10 / m + S01 / n adds up the
    two sides. The mean over classes of such c_i is again a mean over rows, so rows may be paired and resampled.

    Args:
        scores_NC: of each class, larger for more likely; any order-preserving ones.
        labels_N: int64 in [0, C). A class without a row, or without one of another class, has no part; where no class
            is left all rows count 0.5, which is chance.

    Returns:
        float64 (N,).
    """
    import numpy as np

    scores_NC, labels_N = np.asarray(scores_NC), np.asarray(labels_N)
    counts, num = np.zeros(len(labels_N)), 0
    for label in np.unique(labels_N):
        own = labels_N == label
        if own.all():
            continue
        num += 1
        counts += _of_class(scores_NC[:, label], own)
    return counts / num if num else np.full(len(labels_N), 0.5)


def _of_class(scores_N: Any, own_N: NDArray[np.bool_]) -> NDArray[np.float64]:
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
