"""Balanced accuracy as a mean over the rows: what it is, what a verdict by it says, and a run that is judged by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from raymix.jobfile import load_spec
from raymix.report.intervals import judged_interval, own_interval, paired_interval, share_interval
from raymix.report.judging import Judged, judged, pack_classes, unpack_classes
from tests.report.factory import make_pilot_run

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 3], [900, 90, 10])


def answers(*shares: float) -> np.ndarray:
    """Right answers: exactly so many of each class, in a random order."""
    parts = []
    for share, rows in zip(shares, (900, 90, 10), strict=True):
        parts.append(RNG.permutation(np.arange(rows) < round(share * rows)))
    return np.concatenate(parts)


def test_it_is_the_mean_of_the_classes_recalls() -> None:
    correct = answers(0.9, 0.5, 0.2)
    found = judged("balanced_accuracy", LABELS)
    assert found.score(correct) == pytest.approx(100 * (0.9 + 0.5 + 0.2) / 3)
    predicted = np.where(correct, LABELS, 7)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        assert found.score(correct) == pytest.approx(100 * balanced_accuracy_score(LABELS, predicted))
    assert found.factors is not None
    assert found.factors.mean() == pytest.approx(1)
    plain = judged("top1", LABELS)
    assert (plain.factors, plain.score(correct)) == (None, 100 * correct.mean())
    assert judged("balanced_accuracy", LABELS[:0]).num == 0
    assert unpack_classes(pack_classes(LABELS)).tolist() == LABELS.tolist()


def test_few_rows_of_a_class_make_it_uncertain() -> None:
    """1,000 rows of which 10 are a class say as much as a few dozen that count alike."""
    found, correct = judged("balanced_accuracy", LABELS), answers(0.9, 0.5, 0.2)
    assert found.effective == pytest.approx(9 * 1 / (1 / 900 + 1 / 90 + 1 / 10))
    told = judged_interval(found.score(correct), found)
    plain = judged_interval(100 * correct.mean(), Judged(1000))
    assert told.high - told.low > 3 * (plain.high - plain.low)
    assert plain == share_interval(correct.sum(), 1000)


def test_a_gain_in_a_rare_class_counts_as_one_in_a_frequent_one() -> None:
    """One arm is better where there are 900 rows, the other where there are 100: the metrics disagree."""
    a = [make_pilot_run(answers(0.80, 0.8, 0.8), seed) for seed in range(5)]
    b = [make_pilot_run(answers(0.95, 0.5, 0.5), seed) for seed in range(5)]
    plain = paired_interval(a, b, Judged(1000))
    balanced = paired_interval(a, b, judged("balanced_accuracy", LABELS))
    assert plain.value == pytest.approx(-10.5)
    assert plain.high < 0
    assert balanced.value == pytest.approx(15)
    assert balanced.low > 0
    assert own_interval(a, judged("balanced_accuracy", LABELS)).value == pytest.approx(80)
    assert own_interval(a[:1], judged("balanced_accuracy", LABELS)).value == pytest.approx(80)


def test_balanced_intervals_cover_the_truth() -> None:
    """Images drawn anew within each class, 400 times, five seeds: 95 % intervals of a difference of 5 points."""
    rng, val = np.random.default_rng(1), judged("balanced_accuracy", LABELS)
    chance = np.repeat([0.8, 0.6, 0.4], [900, 90, 10])
    hits = 0
    for _ in range(400):
        easy = rng.random(1000)  # of an image, the same for all arms and seeds
        runs = [
            [make_pilot_run(0.5 * easy + 0.5 * rng.random(1000) < threshold(chance + gain), seed) for seed in range(5)]
            for gain in (0.05, 0.0)
        ]
        found = paired_interval(*runs, val, resamples=200)
        truth = 100 * np.mean([0.05] * 3)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.99, hits


def threshold(p: np.ndarray) -> np.ndarray:
    """Below which the mean of two uniform numbers is with probability p."""
    return np.where(p < 0.5, np.sqrt(p / 2), 1 - np.sqrt((1 - p) / 2))


def test_a_job_is_judged_by_its_metric(digits_job: dict[str, Any], tmp_path: Any) -> None:
    from raymix.runner import run

    pixels = RNG.integers(0, 255, (260, 8, 8), dtype=np.uint8)
    labels = np.repeat([0, 1], [220, 40])
    pixels[labels == 1, 2:5, 2:5] = 255
    np.savez(tmp_path / "rare.npz", images=pixels, labels=labels)
    job = {
        **digits_job,
        "storage": str(tmp_path / "runs"),
        "data": {"train": {"format": "npz", "path": str(tmp_path / "rare.npz")}, "image_size": 8, "holdout": 0.25},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 3, "mix_ratio": 0.5},
        "optim": {"batch": 16},
        "evaluate": {"every": 0.3, "max_share": 1},
        "metric": "balanced_accuracy",
    }
    final = run(load_spec(job), quiet=True).final
    assert final is not None
    (all_0, right_0), (all_1, right_1) = final.by_class
    assert final.top1 == pytest.approx(50 * (right_0 / all_0 + right_1 / all_1))
    assert final.judged.effective < final.num_val
    assert final.select_top1 is not None
    assert (final.metric, len(final.classes)) == ("balanced_accuracy", 4 * final.num_val)
    with pytest.raises(ValueError, match="metric"):
        load_spec({**job, "metric": "accuracy"})
