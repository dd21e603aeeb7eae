"""Figures of planted probabilities are scikit-learn's, or what can be reckoned by hand; intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score, roc_curve

from raymix.models import figures
from raymix.models.figures import Sorted
from raymix.models.work import softmax

NAMES = ("a", "b", "c", "never")


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (300, 4), many of them equal, and classes of which the fourth has no image."""
    random = np.random.default_rng(0)
    y = random.choice(3, 300, p=(0.6, 0.3, 0.1))
    logits = random.normal(size=(300, 4)) + 1.5 * np.eye(4)[y]
    return softmax(np.round(logits, 1).astype(np.float32)), y


def test_every_class_is_as_scikit_learn_has_it_and_the_mean_is_the_headline(
    planted: tuple[np.ndarray, np.ndarray],
) -> None:
    p, y = planted
    each = figures.ranked(p, y, 0.1)
    means, afforded = figures.rankings(p, y, each, 0.1, 100)
    assert afforded == 100
    found = figures.classes(each, y, p.argmax(1), NAMES)
    assert found[3].images == 0
    assert (found[3].recall, found[3].f1, found[3].auroc, found[3].recall_at) == (None,) * 4
    for k, one in enumerate(found[:3]):
        assert one.auroc == pytest.approx(100 * roc_auc_score(y == k, p[:, k]))
        rate, recall, _ = roc_curve(y == k, p[:, k])
        assert one.recall_at == pytest.approx(100 * recall[rate <= 0.1].max())
        assert ((p[:, k] >= one.threshold) & (y == k)).sum() == pytest.approx(one.recall_at / 100 * (y == k).sum())
        assert ((p[:, k] >= one.threshold) & (y != k)).sum() <= 0.1 * (y != k).sum()
        assert one.average_precision == pytest.approx(100 * average_precision_score(y == k, p[:, k]))
    names = ("auroc", "average_precision", "recall_at")
    for name, judged in zip(names, means, strict=True):
        assert judged.value == pytest.approx(np.mean([getattr(one, name) for one in found[:3]])), name
        assert judged.low < judged.value < judged.high
    balanced, f1 = figures.macro(figures.confusion(y, p.argmax(1), 4))
    assert balanced == pytest.approx(100 * balanced_accuracy_score(y, p.argmax(1)))
    assert f1 == pytest.approx(100 * f1_score(y, p.argmax(1), labels=[0, 1, 2], average="macro"))


def test_a_resample_is_ranked_as_if_its_images_were_written_out(planted: tuple[np.ndarray, np.ndarray]) -> None:
    p, y = planted
    w = next(figures.resampled(len(y), 1, seed=3))
    written = np.repeat(np.arange(len(y)), w)
    assert len(written) == len(y)
    auroc, average, recall, _ = Sorted.of(p[:, 1], y == 1).ranking(w, 0.2)
    assert auroc == pytest.approx(100 * roc_auc_score(y[written] == 1, p[written, 1]))
    assert average == pytest.approx(100 * average_precision_score(y[written] == 1, p[written, 1]))
    rate, recalls, _ = roc_curve(y[written] == 1, p[written, 1])
    assert recall == pytest.approx(100 * recalls[rate <= 0.2].max())


def test_recall_at_a_false_alarm_rate_by_hand() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.2, 0.1])
    defect = np.array([1, 1, 0, 1, 0, 0, 0], dtype=bool)

    def at(p: np.ndarray, rate: float) -> tuple[float, float]:
        return Sorted.of(p, defect).ranking(np.ones(7, dtype=np.int64), rate)[2:]

    assert at(p, 0.1) == (pytest.approx(200 / 3), 0.8), "one alarm is a quarter already"
    assert at(p, 0.25) == (pytest.approx(200 / 3), 0.8), "no lower than it must be"
    assert at(p, 0.5) == (100.0, 0.6), "0.6 takes a defect and an alarm together"
    assert at(1 - p, 0.1) == (0.0, pytest.approx(np.nan, nan_ok=True))


def test_calibration_error_by_hand() -> None:
    confidence, right = np.array([0.95, 0.85, 0.55, 0.5]), np.array([True, False, True, False])
    place = figures.bin_of(confidence, 2)
    assert place.tolist() == [1, 1, 1, 0], "a bin is open below and closed above"
    # |(1 + 0 + 1) - (0.95 + 0.85 + 0.55)| / 4 + |0 - 0.5| / 4
    error = figures.calibration_error(place, confidence, right, np.ones(4, dtype=np.int64))
    assert error == pytest.approx(100 * (0.35 + 0.5) / 4)
    below, above = figures.bins(place, confidence, right, 2)
    assert (below.images, below.confidence, below.top1) == (1, 0.5, 0.0)
    assert (above.images, above.confidence, above.top1) == (3, pytest.approx(2.35 / 3), pytest.approx(200 / 3))


def test_ties_of_a_resample_do_not_move_the_interval_of_average_precision() -> None:
    random = np.random.default_rng(0)
    y = np.arange(600) % 24
    p = softmax((random.normal(size=(600, 24)) + 1.5 * np.eye(24)[y]).astype(np.float32))
    (_, average, _), _ = figures.rankings(p, y, figures.ranked(p, y, 0.1), 0.1, 200)
    below, above = average.value - average.low, average.high - average.value
    assert 0.5 < below / above < 2, "each draw of an image twice is a tie, and would lift all of them"


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(1), 0
    for _ in range(200):
        hit = random.random(150) < 0.7

        def share(w: np.ndarray, hit: np.ndarray = hit) -> np.ndarray:
            return np.array([100 * (w * hit).sum() / w.sum()])

        (judged,) = figures.bootstrap(share, np.array([100 * hit.mean()]), 150, 200)
        covered += judged.low <= 70 <= judged.high
    assert 0.89 <= covered / 200 <= 0.99


def test_what_cannot_vary_or_takes_too_long_to_sort_has_no_interval(
    planted: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    (judged,) = figures.bootstrap(lambda w: np.array([100.0]), np.array([100.0]), 20, 100)
    assert (judged.value, judged.low, judged.high) == (100.0, None, None)
    p, y = planted
    monkeypatch.setattr(figures, "_RANKED", 300 * 3 * 99)
    means, afforded = figures.rankings(p, y, figures.ranked(p, y, 0.1), 0.1, 1000)
    assert afforded == 0
    assert [(one.low, one.high) for one in means] == [(None, None)] * 3
