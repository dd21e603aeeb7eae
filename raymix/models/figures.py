"""Figures of logits against labels, each with an interval over the images; shares in percent.

N images, K classes, C of them with an image (`present`); p_NK probabilities, y_N classes, c_KK images by class and by
what they were taken for, w_N how often a resample has each image.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.report.evaluation import Bin, ClassFigures, Judged
from raymix.report.intervals import LEVEL, share_interval

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_RANKED = 200_000_000  # probabilities that are gone through, at most, for the intervals of what sorts them
_ALIKE = 1e-9
_LEAST = 100  # resamples: fewer say nothing of a 95 % interval


class Ranking(NamedTuple):
    """A class against the rest, in percent but for the threshold; nan: what cannot be told."""

    auroc: float
    average_precision: float
    recall_at: float
    threshold: float


def wilson(right: NDArray[np.bool_]) -> Judged:
    """The share of images that are right."""
    found = share_interval(float(right.sum()), len(right))
    return Judged(value=found.value, low=found.low, high=found.high, interval="wilson", n=len(right))


def resampled(num: int, resamples: int, seed: int = 0) -> Iterator[Ints]:
    """How often each of `num` images is in a resample of as many, w_N; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, num, num), minlength=num)


def bootstrap(
    figures: Callable[[Ints], Floats], values: Floats, num: int, resamples: int, highest: float = 100.0
) -> list[Judged]:
    """Percentile intervals of several `values`, of which `figures` gives those of a resample; it may hold nan.

    The percentiles are moved by as much as the resamples' mean is off the value. An image that is drawn twice is a tie,
    and ties raise average precision (by 1.4 points for 25 images of a class among 5,000) and the calibration error:
    that is the resampling's doing and not chance. Fewer than 100 resamples give no interval, and neither do resamples
    that are all alike: those of a figure at its limit, as 100 % of few images, do not say how much less it may be.
    """
    if resamples < _LEAST:
        limits = np.full((2, len(values)), np.nan)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of few images a resample may have one class alone
            drawn = np.array([figures(w_N) for w_N in resampled(num, resamples)])
            moved = drawn - np.nanmean(drawn, axis=0) + values
            limits = np.nanquantile(moved, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0)
        limits[:, limits[1] - limits[0] < _ALIKE] = np.nan
    every = zip(values.tolist(), limits[0].tolist(), limits[1].tolist(), strict=True)
    return [_judged(value, low, high, num, highest) for value, low, high in every]


def _judged(value: float, low: float, high: float, num: int, highest: float) -> Judged:
    if math.isnan(low):
        return Judged(value=value, low=None, high=None, interval="bootstrap", n=num)
    low, high = max(0.0, min(value, low)), min(highest, max(value, high))
    return Judged(value=value, low=low, high=high, interval="bootstrap", n=num)


# ---- decisions --------------------------------------------------------------------------------------------------


def confusion(y_N: Ints, predicted_N: Ints, num_classes: int, w_N: Ints | None = None) -> NDArray[np.float64]:
    """c_KK."""
    both = np.bincount(y_N * num_classes + predicted_N, w_N, minlength=num_classes**2)
    found: NDArray[np.float64] = both.astype(np.float64).reshape(num_classes, num_classes)
    return found


def macro(c_KK: Floats) -> Floats:
    """Balanced accuracy and mean F1, of the classes that have an image: what scikit-learn calls macro."""
    present = c_KK.sum(1) > 0
    right = np.diag(c_KK)[present]
    recall = right / c_KK.sum(1)[present]
    f1 = 2 * right / (c_KK.sum(1) + c_KK.sum(0))[present]
    return 100 * np.array([recall.mean(), f1.mean()])


# ---- calibration ------------------------------------------------------------------------------------------------


def bin_of(confidence_N: Floats, num_bins: int) -> Ints:
    """The place of the bin (low, high] of equal width that each confidence lies in."""
    places: Ints = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    return places


def calibration_error(bin_N: Ints, confidence_N: Floats, right_N: NDArray[np.bool_], w_N: Ints) -> float:
    """ECE = sum over bins of images / N * |top-1 - mean confidence|, in percent (Guo et al. 2017, equation 3)."""
    gap = np.bincount(bin_N, w_N * (right_N - confidence_N))
    return float(100 * np.abs(gap).sum() / w_N.sum())


def bins(bin_N: Ints, confidence_N: Floats, right_N: NDArray[np.bool_], num_bins: int) -> tuple[Bin, ...]:
    """Every bin, the empty ones too."""
    images = np.bincount(bin_N, minlength=num_bins)
    confidence = np.bincount(bin_N, confidence_N, minlength=num_bins)
    right = np.bincount(bin_N, right_N, minlength=num_bins)
    return tuple(
        Bin(
            low=place / num_bins,
            high=(place + 1) / num_bins,
            images=int(num),
            confidence=confidence[place] / num if num else None,
            top1=100 * right[place] / num if num else None,
        )
        for place, num in enumerate(images)
    )


# ---- ranking ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Sorted:
    """The images by falling probability of a class, sorted once for all resamples.

    Attributes:
        order_N: places of the images.
        is_N: whether each, in that order, is of the class.
        ends: places in the order at which an equal probability is the last one: a threshold cannot cut through.
        thresholds: the probabilities there.
    """

    order_N: NDArray[np.int32]
    is_N: NDArray[np.bool_]
    ends: NDArray[np.int32]
    thresholds: Floats

    @classmethod
    def of(cls, p_N: Floats, is_N: NDArray[np.bool_]) -> Sorted:
        """`p_N` the probabilities of the class."""
        order = np.argsort(-p_N, kind="stable").astype(np.int32)
        falling = p_N[order]
        ends = np.flatnonzero(np.append(np.diff(falling) != 0, True)).astype(np.int32)
        return cls(order, is_N[order], ends, falling[ends])

    def ranking(self, w_N: Ints, false_alarms: float) -> Ranking:
        """Of a resample; nan where it has no image of the class, or no other.

        scikit-learn's `roc_auc_score`, `average_precision_score` and `roc_curve`, less what they check each time: a
        resample of 200 classes would take seconds.
        """
        w = w_N[self.order_N]
        hits = np.cumsum(w * self.is_N)[self.ends]
        taken = np.cumsum(w)[self.ends]
        alarms = taken - hits
        if not hits[-1] or not alarms[-1]:
            return NONE
        recall, rate = hits / hits[-1], alarms / alarms[-1]
        auroc = float((np.diff(rate, prepend=0.0) * (recall + np.append(0.0, recall[:-1]))).sum() / 2)
        average = float((np.diff(recall, prepend=0.0) * hits / np.maximum(taken, 1)).sum())
        allowed = int(np.searchsorted(rate, false_alarms, side="right"))
        best = float(recall[allowed - 1]) if allowed else 0.0
        highest = float(self.thresholds[np.searchsorted(recall, best)]) if best else np.nan  # that gives as much
        return Ranking(100 * auroc, 100 * average, 100 * best, highest)


NONE = Ranking(np.nan, np.nan, np.nan, np.nan)


def ranked(p_NK: Floats, y_N: Ints, false_alarms: float) -> list[Ranking]:
    """Every class of the model against the rest."""
    once = np.ones(len(y_N), dtype=np.int64)
    return [Sorted.of(p_NK[:, k], y_N == k).ranking(once, false_alarms) for k in range(p_NK.shape[1])]


def rankings(
    p_NK: Floats, y_N: Ints, each: list[Ranking], false_alarms: float, resamples: int
) -> tuple[list[Judged], int]:
    """Macro AUROC, average precision and recall at a false-alarm rate, and of how many resamples; [] of one class.

    The resamples are as many as sorting allows: N * C * resamples is at most 2e8.
    """
    present = np.unique(y_N)
    if len(present) < 2:
        return [], 0
    afforded = min(resamples, _RANKED // (len(y_N) * len(present)))
    afforded = afforded if afforded >= _LEAST else 0
    by_class = [Sorted.of(p_NK[:, k], y_N == k) for k in present] if afforded else []

    def figures(w_N: Ints) -> Floats:
        means: Floats = np.nanmean([one.ranking(w_N, false_alarms)[:3] for one in by_class], axis=0)
        return means

    values = np.mean([each[k][:3] for k in present], axis=0)
    return bootstrap(figures, values, len(y_N), afforded), afforded


def classes(
    each: list[Ranking], y_N: Ints, predicted_N: Ints, class_names: tuple[str, ...]
) -> tuple[ClassFigures, ...]:
    """Every class of the model against the rest; `each` is how it is ranked."""
    from sklearn.metrics import precision_recall_fscore_support

    every = np.arange(len(class_names))
    precision, recall, f1, images = precision_recall_fscore_support(y_N, predicted_N, labels=every, zero_division=0)
    predicted = np.bincount(predicted_N, minlength=len(class_names))
    found = []
    for k, name in enumerate(class_names):
        num = int(images[k])
        found.append(
            ClassFigures(
                name=name,
                images=num,
                predicted=int(predicted[k]),
                precision=100 * float(precision[k]) if predicted[k] else None,
                recall=100 * float(recall[k]) if num else None,
                recall_interval=share_interval(float(recall[k]) * num, num) if num else None,
                f1=100 * float(f1[k]) if num else None,
                **{name: None if np.isnan(value) else value for name, value in each[k]._asdict().items()},
            )
        )
    return tuple(found)
