"""What right and wrong answers on some rows come to: a mean over the rows, in which each counts as the metric says.

Balanced accuracy, the mean of the classes' recalls, is such a mean: a row of a class with n of N rows and C classes
counts N / (C * n), 1 on average. So whatever is reckoned of shares of rows holds for it, too: intervals over seeds and
images with the rows' factors held (the Horvitz-Thompson form), differences, the smallest one that can be told. For
top-5 and what is reckoned of probabilities (`raymix.report.scoring`) runs keep what each row counts beside whether it
is right: they are graded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Any

from raymix.plan import Facts, cost_matrix
from raymix.report.scoring import COUNTS
from raymix.spec import JobSpec, Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRIC_WORDS: dict[Metric, str] = {
    "top1": "top-1",
    "top5": "top-5",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "recall_at_false_alarms": "recall at false alarms",
    "brier": "1 - Brier/2",
    "cost": "cost saved",
}
METRIC_NOTES: dict[Metric, str] = {
    "top1": "",
    "top5": "Top-1 stands for top-5 here (metric): the class is among the five most likely.",
    "balanced_accuracy": "Top-1 stands for balanced accuracy here (metric): the mean of the classes' recalls.",
    "auroc": "Top-1 stands for AUROC here (metric), in percent: the mean over the classes, each against all others.",
    "average_precision": "Top-1 stands for average precision here (metric), in percent: the mean over the "
    "classes, each against all others.",
    "recall_at_false_alarms": "Top-1 stands for the recall at report.false_alarms here (metric), in percent: the mean "
    "over the classes, each against all others.",
    "brier": "Top-1 stands for the Brier score B here (metric), as 1 - B/2 in percent.",
    "cost": "Top-1 stands for the cost saved here (metric, report.costs), in percent of what the best decision costs "
    "that is the same for all images.",
}
GRADED: tuple[Metric, ...] = ("top5", *COUNTS)


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows that runs are judged on, and what each counts: float64 (num,), 1 on average; None: 1 each.

    `graded`: answers are not right or wrong, but count what a run has kept of them. `signed`: they may come to less
    than nothing.
    """

    num: int
    factors: NDArray[np.float64] | None = None
    graded: bool = False
    signed: bool = False

    @property
    def effective(self) -> float:
        """As many rows that count alike have a mean as uncertain (Kish 1965)."""
        if self.factors is None or not self.num:
            return float(self.num)
        return float(self.factors.sum() ** 2 / (self.factors**2).sum())

    def credits(self, correct: Any) -> NDArray[np.float64]:
        """What each answer counts; `correct` bool (..., num), or float64 where they are graded."""
        import numpy as np

        right = np.asarray(correct, dtype=np.float64)
        return right if self.factors is None else right * self.factors

    def score(self, correct: Any) -> float:
        """Percent; `correct` (num,), as above."""
        return 100 * float(self.credits(correct).mean())


def judged(metric: Metric, labels: Sequence[int] | NDArray[Any]) -> Judged:
    """The rows of these labels, by a metric; a class without a row has no part in it."""
    import numpy as np

    labels = np.asarray(labels)
    if metric != "balanced_accuracy" or not len(labels):
        return _alike(metric, len(labels))
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return Judged(len(labels), (len(labels) / (len(counts) * counts))[of])


def judged_as(metric: Metric, classes: str, num: int) -> Judged:
    """The rows of a report: `classes` as `pack_classes` wrote them, empty where all of the `num` rows count alike."""
    return judged(metric, unpack_classes(classes)) if classes else _alike(metric, num)


def _alike(metric: Metric, num: int) -> Judged:
    return Judged(num, graded=metric in GRADED, signed=metric == "cost")


def expected(spec: JobSpec, facts: Facts) -> int:
    """About how many val rows that count alike there will be, whose classes have the training rows' shares.

    For what ranks a class as for balanced accuracy, in which a row counts the more the fewer there are of its class; by
    what mistakes cost as if a row's dearest one were its only one.
    """
    if spec.metric in ("top1", "top5", "brier") or not (facts.num_val and facts.class_rows):
        return facts.num_val
    total = sum(facts.class_rows)
    of_each = [max(1.0, facts.num_val * rows / total) for rows in facts.class_rows]
    most = [1 / rows for rows in of_each]  # by which a row of each class moves the figure
    if spec.metric == "cost":
        matrix = cost_matrix(spec.report.costs or {}, facts.class_names, "report.costs")
        blind = min(sum(map(mul, of_each, decision)) for decision in zip(*matrix, strict=True))
        most = [max(costs) * len(of_each) / blind for costs in matrix]
    return round(len(of_each) ** 2 / sum(rows * moved**2 for rows, moved in zip(of_each, most, strict=True)))


def pack_classes(labels: Sequence[int] | NDArray[Any]) -> str:
    """The class of each row, in order, as hex of 16 bits each."""
    import numpy as np

    return np.asarray(labels, dtype=">u2").tobytes().hex()


def pack_counts(counts: Any) -> str:
    """What each row counts, in order, as hex of 32 bits each."""
    import numpy as np

    return np.asarray(counts, dtype=">f4").tobytes().hex()


def unpack_counts(text: str, num: int) -> NDArray[np.float64]:
    """What `pack_counts` wrote. Shape (num,).

    Raises:
        ValueError: the text is not hex, or holds another number of rows.
    """
    import numpy as np

    found = np.frombuffer(bytes.fromhex(text), dtype=">f4")
    if len(found) != num:
        raise ValueError(f"{len(found)} counts cannot be those of {num} rows")
    return found.astype(np.float64)


def unpack_classes(text: str) -> NDArray[np.int64]:
    """What `pack_classes` wrote.

    Raises:
        ValueError: the text is not hex.
    """
    import numpy as np

    return np.frombuffer(bytes.fromhex(text), dtype=">u2").astype(np.int64)
