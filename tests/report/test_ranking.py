"""Metrics of probabilities as means over rows: value, derivative, variance, intervals, and a run judged by each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from raymix.jobfile import load_spec
from raymix.models.costs import cost_figures
from raymix.plan import Plan
from raymix.report.facts import result_words
from raymix.report.intervals import foretold, own_interval, paired_interval
from raymix.report.judging import METRIC_NOTES, METRIC_WORDS, judged, pack_counts, unpack_counts
from raymix.report.pilot import PilotRun
from raymix.report.scoring import COUNTS, cost_per_row
from raymix.spec import JobError, Metric, ReportSpec
from tests.report.factory import make_pilot_run

NAMES = ("a", "b", "c", "d")
# two of the 40 rows that are not of class 0
ASKED = ReportSpec(false_alarms=0.05, costs={"b": {"a": 5.0}})
LABELS = np.repeat([0, 1], [160, 40])


def macro(of_class: Callable[..., float]) -> Callable[..., float]:
    """The mean of a figure of scikit-learn over the classes, each against all others."""

    def figure(p_NC: np.ndarray, y_N: np.ndarray, w_N: np.ndarray | None = None) -> float:
        each = [of_class(y_N == label, p_NC[:, label], sample_weight=w_N) for label in np.unique(y_N)]
        return float(np.mean(each))

    return figure


def recall_at(y_N: np.ndarray, p_N: np.ndarray, sample_weight: None) -> float:
    """The largest recall at no more than the false-alarm rate."""
    rate, recall, _ = roc_curve(y_N, p_N, drop_intermediate=False)
    return float(recall[rate <= ASKED.false_alarms].max())


def brier_left(p_NC: np.ndarray, y_N: np.ndarray, w_N: np.ndarray | None = None) -> float:
    """Of two classes sklearn's score is half of the sum over the classes."""
    each = [brier_score_loss(y_N == label, p_N, sample_weight=w_N) for label, p_N in enumerate(p_NC.T.astype(float))]
    return 1 - float(np.sum(each)) / 2


def cost_saved(p_NC: np.ndarray, y_N: np.ndarray, w_N: np.ndarray | None = None) -> float:
    """Of a table of costs in which to take b for a costs 5."""
    C = 1 - np.eye(p_NC.shape[1])
    C[1, 0] = 5
    told = np.average(C[y_N, (p_NC @ C).argmin(1)], weights=w_N)
    return 1 - float(told / np.average(C[y_N], axis=0, weights=w_N).min())


# what the mean must be; by the metric, in [0, 1], of probabilities, labels, and rows that are there so often
FIGURES: dict[Metric, Callable[..., float]] = {
    "auroc": macro(roc_auc_score),
    "average_precision": macro(average_precision_score),
    "recall_at_false_alarms": macro(recall_at),
    "brier": brier_left,
    "cost": cost_saved,
}
METRICS = tuple(FIGURES)


def shares(scores: np.ndarray) -> np.ndarray:
    """Their softmax, float32 as models give it."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def normed(p_NC: np.ndarray) -> np.ndarray:
    """Shares of a row that sum to 1; ties between rows stay such where the sum is the same."""
    found: np.ndarray = p_NC / p_NC.sum(1, keepdims=True)
    return found


def counts_of(metric: Metric, p_NC: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    return COUNTS[metric](p_NC, y_N, ASKED, NAMES[: p_NC.shape[1]])


def run_of(metric: Metric, scores: np.ndarray, labels: np.ndarray, seed: int) -> PilotRun:
    """A run that answered these scores of class 1."""
    counts = counts_of(metric, shares(np.stack([-scores, scores], 1) / 2), labels)
    run = make_pilot_run(scores > 0, seed)
    return run.model_copy(update={"top1": 100 * counts.mean(), "counts": pack_counts(counts)})


def test_each_has_its_row_here_and_its_words() -> None:
    assert set(FIGURES) == set(COUNTS)
    assert METRIC_WORDS.keys() == METRIC_NOTES.keys() >= COUNTS.keys()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("digits", [9, 1])
def test_the_mean_is_the_figure(metric: Metric, digits: int) -> None:
    """Scores to one digit have many ties."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    p_NC = normed(np.round(shares(rng.normal(size=(300, 4)) + np.eye(4)[labels]), digits))
    assert counts_of(metric, p_NC, labels).mean() == pytest.approx(FIGURES[metric](p_NC, labels))
    both, two = normed(p_NC[:, :2] + 0.01), np.minimum(labels, 1)
    assert counts_of(metric, both, two).mean() == pytest.approx(FIGURES[metric](both, two))


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"recall_at_false_alarms"}))
def test_what_a_row_counts_is_what_more_of_it_changes(metric: Metric) -> None:
    """The figure with a row there a little more often, which scikit-learn takes as a weight."""
    rng, little = np.random.default_rng(0), 1e-6
    labels = rng.integers(0, 3, 90)
    p_NC = normed(np.round(shares(rng.normal(size=(90, 3)) + np.eye(3)[labels]), 2))
    counts, whole = counts_of(metric, p_NC, labels), FIGURES[metric](p_NC, labels)
    for row in range(0, 90, 7):
        more = FIGURES[metric](p_NC, labels, 1 + little * (np.arange(90) == row))
        assert whole + 90 * (more - whole) / little == pytest.approx(counts[row], abs=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_the_rows_vary_as_much_as_the_figure_does(metric: Metric) -> None:
    """Of one run, over images drawn anew: what stands in for it where a derivative cannot be taken of so few rows."""
    rng, figures, errors = np.random.default_rng(0), list[float](), list[float]()
    for _ in range(400):
        scores = 1.5 * LABELS + rng.normal(size=200)
        counts = counts_of(metric, shares(np.stack([-scores, scores], 1) / 2), LABELS)
        figures.append(counts.mean())
        errors.append(counts.var() / 200)
    assert np.mean(errors) ** 0.5 == pytest.approx(np.std(figures), rel=0.15)


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "recall_at_false_alarms"])
def test_classes_without_rows_have_no_part(metric: Metric) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = np.stack([-labels + rng.normal(size=50), labels + rng.normal(size=50), rng.normal(size=50)], 1)
    assert counts_of(metric, scores, labels).mean() == pytest.approx(counts_of(metric, scores[:, :2], labels).mean())
    alone = counts_of(metric, scores, np.zeros(50, dtype=int))
    assert alone.tolist() == [0.5 if metric == "auroc" else 1.0] * 50
    assert counts_of(metric, scores[:0], labels[:0]).tolist() == []


def test_the_variance_of_the_auroc_is_delongs() -> None:
    """Of both sides' placements, each pair compared by itself."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=200) + LABELS
    own, others = scores[LABELS == 1], scores[LABELS == 0]
    pairs = (own[:, None] > others[None, :]).astype(float)
    delong = pairs.mean(1).var() / len(own) + pairs.mean(0).var() / len(others)
    counts = counts_of("auroc", np.stack([-scores, scores], 1), LABELS)
    assert counts.var() / len(counts) == pytest.approx(delong)
    interval = own_interval([run_of("auroc", scores, LABELS, 0)], judged("auroc", LABELS))
    assert interval.value == pytest.approx(100 * pairs.mean())
    assert interval.high - interval.low == pytest.approx(2 * 100 * 1.972 * delong**0.5, rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_of_a_difference_cover_the_truth(metric: Metric) -> None:
    """Images drawn anew 400 times, two arms, five seeds; scores of an image go together over arms and seeds."""
    rng, hits, val = np.random.default_rng(1), 0, judged(metric, LABELS)
    many = np.repeat(LABELS, 2000)
    noise = rng.normal(size=len(many))
    better, worse = (run_of(metric, apart * many + noise, many, 0).top1 for apart in (1.5, 1.2))
    if metric == "auroc":
        truth = 100 * (NormalDist().cdf(1.5 / 2**0.5) - NormalDist().cdf(1.2 / 2**0.5))
        assert better - worse == pytest.approx(truth, abs=0.1)
    for _ in range(400):
        image = rng.normal(size=200)
        arms = [
            [
                run_of(metric, apart * LABELS + (image + rng.normal(size=200)) / 2**0.5, LABELS, seed)
                for seed in range(5)
            ]
            for apart in (1.5, 1.2)
        ]
        found = paired_interval(*arms, val, resamples=200)
        hits += found.low <= better - worse <= found.high
    print(f"{metric}: {hits} of 400 intervals hold the difference of {better - worse:.2f}")
    assert 0.92 <= hits / 400 <= 0.99, hits


def test_what_rows_count_is_kept() -> None:
    counts = np.random.default_rng(0).normal(size=9)
    assert unpack_counts(pack_counts(counts), 9) == pytest.approx(counts)
    with pytest.raises(ValueError, match="9 counts cannot be those of 8 rows"):
        unpack_counts(pack_counts(counts), 8)


def job_of(digits_job: dict[str, Any], tmp_path: Path, metric: Metric) -> dict[str, Any]:
    return {
        **digits_job,
        "storage": str(tmp_path / "runs"),
        "schedule": {"ssl_epochs": 1, "sl_epochs": 3, "mix_ratio": 0.5},
        "evaluate": {"every": 0.3, "max_share": 1},
        "metric": metric,
        "report": {"costs": {"3": {"8": 5}}},
    }


@pytest.mark.parametrize("metric", METRICS)
def test_a_run_is_judged_by_it(digits_job: dict[str, Any], tmp_path: Path, metric: Metric) -> None:
    from raymix.runner import run

    job = job_of(digits_job, tmp_path, metric)
    report = run(load_spec({**job, "checkpoint": {"best": True}, "goal": {"top1": 5.0}}), quiet=True)
    final = report.final
    assert final is not None
    assert (final.metric, final.classes) == (metric, "")
    counts = unpack_counts(final.counts, final.num_val)
    assert final.top1 == pytest.approx(100 * counts.mean(), abs=1e-4)
    right = 100 * sum(hits for _, hits in final.by_class) / final.num_val
    assert final.top1 != right
    assert final.top1 < 100
    assert final.select_top1 is not None
    assert final.select_top1 >= 5, "the goal that ended it"
    assert result_words(final).startswith(METRIC_WORDS[metric])
    assert (final.cost is not None) == (metric == "cost")


def test_what_is_saved_of_what_is_spent_blindly() -> None:
    """Nothing is 0, all is 100, and harm is less than nothing, in intervals, too."""
    asked, labels = ReportSpec(costs={"b": {"a": 9.0}}), np.repeat([0, 1], [90, 10])

    def saved(p_b: np.ndarray) -> np.ndarray:
        return COUNTS["cost"](np.stack([1 - p_b, p_b], 1), labels, asked, NAMES[:2])

    assert saved(np.full(100, 0.05)).mean() == pytest.approx(0), "all pass: 10 times 9 of 100, as dear as 90 alarms"
    assert saved(labels.astype(float)).mean() == 1
    harm = saved(1 - labels.astype(float))
    assert harm.mean() == pytest.approx(1 - (90 + 90) / 90)
    run = make_pilot_run(labels > 1, 0).model_copy(update={"counts": pack_counts(harm)})
    found = own_interval([run], judged("cost", labels))
    assert found.value == pytest.approx(-100)
    assert found.low < found.value < found.high
    job = {"name": "a", "data": {"train": {"format": "digits"}}, "metric": "cost"}
    spec = load_spec({**job, "report": {"costs": asked.costs}})
    told = cost_figures(np.array([[0, 1], [9, 0.0]]), np.stack([labels, 1.0 - labels], 1), labels, NAMES[:2], 100)
    assert told.cheapest.value == pytest.approx(1.8)
    assert cost_per_row(-100.0, labels, spec, NAMES[:2]) == pytest.approx(1.8)


def test_a_pilot_is_judged_by_it(digits_job: dict[str, Any], tmp_path: Path) -> None:
    from raymix.api import pilot

    job = job_of(digits_job, tmp_path, "auroc")
    found = pilot({**job, "pilot": {"preset": "quick", "arms": ["sl", "mix"]}}, quiet=True)
    assert found.metric == "auroc"
    assert found.verdict is not None
    assert "stands for AUROC" in found.note
    facts = Plan.model_validate_json(next(tmp_path.rglob("plan.json")).read_bytes()).facts
    assert found.detectable == foretold(load_spec(job), facts, 1), "as was told before it began"
    assert all(run.counts for runs in found.arms.values() for run in runs)


@pytest.mark.parametrize(
    ("metric", "asked", "said"),
    [
        ("top5", {}, r"^metric: of 5 classes the first 5 are all"),
        (
            "recall_at_false_alarms",
            {},
            r"^report\.false_alarms: 0\.01 of about 5 val images that are not of the largest class is less than one "
            r"\(raise it to 0\.21, or keep more val images\)",
        ),
        ("cost", {"costs": {"9": {"1": 2}}}, r"^report\.costs: the model has no class 9 \(it has 0, 1, 2, 3, 4\)"),
        (
            "cost",
            {"costs": {label: {"1": 0} for label in "0234"}},
            r"^report\.costs: to take every image for 1 costs nothing, so there is nothing to save",
        ),
    ],
)
def test_what_the_rows_cannot_tell_is_refused(
    digits_job: dict[str, Any], tmp_path: Path, metric: Metric, asked: dict[str, Any], said: str
) -> None:
    from raymix.runner import check

    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(60) % 5)
    data = {"train": {"format": "npz", "path": str(tmp_path / "few.npz")}, "image_size": 8}
    job = {**digits_job, "storage": str(tmp_path), "data": data, "optim": {"batch": 16}, "metric": metric}
    job["report"] = asked
    with pytest.raises(JobError, match=said):
        check(load_spec(job))


def test_costs_must_be_named_where_they_judge(digits_job: dict[str, Any]) -> None:
    with pytest.raises(JobError, match=r"^report\.costs: metric cost judges by it \(set it, as in"):
        load_spec({**digits_job, "metric": "cost"})
