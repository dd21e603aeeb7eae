"""The area under the ROC curve as a mean over rows: its value, its variance, its intervals, and a run judged by it."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from raymix.jobfile import load_spec
from raymix.report.intervals import own_interval, paired_interval
from raymix.report.judging import judged, pack_counts, unpack_counts
from raymix.report.pilot import PilotRun
from raymix.report.ranking import placements
from raymix.spec import JobError
from tests.report.factory import make_pilot_run

LABELS = np.repeat([0, 1], [160, 40])
VAL = judged("auroc", LABELS)


def run_of(scores: np.ndarray, labels: np.ndarray, seed: int) -> PilotRun:
    """A run that answered these scores of class 1."""
    counts = placements(np.stack([-scores, scores], 1), labels)
    run = make_pilot_run(scores > 0, seed)
    return run.model_copy(update={"top1": 100 * counts.mean(), "counts": pack_counts(counts)})


@pytest.mark.parametrize("digits", [9, 1])
def test_the_mean_is_the_area(digits: int) -> None:
    """Scores to one digit have many ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    scores = rng.normal(size=(300, 4)) + np.eye(4)[labels]
    scores = np.round(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), digits)
    each = [roc_auc_score(labels == label, scores[:, label]) for label in range(4)]
    assert placements(scores, labels).mean() == pytest.approx(np.mean(each))
    assert placements(scores[:, :2], np.minimum(labels, 1)).mean() == pytest.approx(
        np.mean([roc_auc_score(np.minimum(labels, 1) == label, scores[:, label]) for label in (0, 1)])
    )


def test_classes_without_rows_have_no_part() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = np.stack([-labels + rng.normal(size=50), labels + rng.normal(size=50), rng.normal(size=50)], 1)
    assert placements(scores, labels).mean() == pytest.approx(placements(scores[:, :2], labels).mean())
    assert placements(scores, np.zeros(50, dtype=int)).tolist() == [0.5] * 50
    assert placements(scores[:0], labels[:0]).tolist() == []


def test_the_variance_is_delongs() -> None:
    """Of both sides' placements, each pair compared by itself."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200) + LABELS
    own, others = scores[LABELS == 1], scores[LABELS == 0]
    pairs = (own[:, None] > others[None, :]).astype(float)
    delong = pairs.mean(1).var() / len(own) + pairs.mean(0).var() / len(others)
    counts = placements(np.stack([-scores, scores], 1), LABELS)
    assert counts.var() / len(counts) == pytest.approx(delong)
    interval = own_interval([run_of(scores, LABELS, 0)], VAL)
    assert interval.value == pytest.approx(100 * pairs.mean())
    assert interval.high - interval.low == pytest.approx(2 * 100 * 1.972 * delong**0.5, rel=0.01)


def test_intervals_of_a_difference_cover_the_truth() -> None:
    """Images drawn anew 400 times, two arms, five seeds; scores of an image go together over arms and seeds."""
    rng, hits = np.random.default_rng(1), 0
    truth = 100 * (NormalDist().cdf(1.5 / 2**0.5) - NormalDist().cdf(1.2 / 2**0.5))
    for _ in range(400):
        image = rng.normal(size=200)
        arms = [
            [run_of(d * LABELS + (image + rng.normal(size=200)) / 2**0.5, LABELS, seed) for seed in range(5)]
            for d in (1.5, 1.2)
        ]
        found = paired_interval(*arms, VAL, resamples=200)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.99, hits


def test_what_rows_count_is_kept() -> None:
    counts = np.random.default_rng(0).normal(size=9)
    assert unpack_counts(pack_counts(counts), 9) == pytest.approx(counts)
    with pytest.raises(ValueError, match="9 counts cannot be those of 8 rows"):
        unpack_counts(pack_counts(counts), 8)


def test_a_run_and_a_pilot_are_judged_by_it(digits_job: dict[str, Any], tmp_path: Any) -> None:
    from raymix.api import pilot
    from raymix.runner import run

    job = {
        **digits_job,
        "storage": str(tmp_path / "runs"),
        "schedule": {"ssl_epochs": 1, "sl_epochs": 3, "mix_ratio": 0.5},
        "evaluate": {"every": 0.3, "max_share": 1},
        "metric": "auroc",
    }
    final = run(load_spec(job), quiet=True).final
    assert final is not None
    assert final.metric == "auroc"
    assert final.classes == ""
    counts = unpack_counts(final.counts, final.num_val)
    assert final.top1 == pytest.approx(100 * counts.mean(), abs=1e-4)
    right = 100 * sum(hits for _, hits in final.by_class) / final.num_val
    assert right < final.top1 < 100, "classes are told apart before the right one comes first"
    assert final.select_top1 is not None
    assert final.select_top1 > 50
    found = pilot({**job, "name": "arms", "pilot": {"preset": "quick", "arms": ["sl", "mix"]}}, quiet=True)
    assert found.metric == "auroc"
    assert found.verdict is not None
    assert "stands for AUROC" in found.note
    assert all(run.counts for runs in found.arms.values() for run in runs)


def test_top5_of_few_classes_is_refused(digits_job: dict[str, Any], tmp_path: Any) -> None:
    from raymix.runner import check

    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(60) % 5)
    data = {"train": {"format": "npz", "path": str(tmp_path / "few.npz")}, "image_size": 8}
    job = {**digits_job, "storage": str(tmp_path), "data": data, "optim": {"batch": 16}, "metric": "top5"}
    with pytest.raises(JobError, match=r"^metric: of 5 classes the first 5 are all"):
        check(load_spec(job))
