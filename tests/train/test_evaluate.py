"""Evaluation counts right: each row against its own label, in order, and without changing the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, top_k_accuracy_score
from small_runs import Digits, in_quarters, trained

from raymix.models.figures import ranked
from raymix.report.judging import METRIC_WORDS
from raymix.train import evaluate as module
from raymix.train.evaluate import Answers, evaluate
from raymix.train.state import TrainState

DigitsOf = Callable[..., Digits]


@pytest.mark.parametrize("batch", [1024, 7])
def test_every_row_is_held_against_its_own_label(digits: DigitsOf, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(module, "_at_once", lambda plan, world: batch)
    asked = digits()
    state, runtime = asked.state(), asked.runtime()
    trained(asked, state, runtime, steps=25)
    ids, before = asked.splits.val, state.snapshot()
    assert len(ids) > 100
    correct = evaluate(asked.plan, state.model, ids, asked.splits.labels, runtime).correct
    for row, found in list(zip(ids, correct, strict=True))[::9]:
        image = torch.from_numpy(asked.images.pixels[asked.images.slots[row]])[None]
        assert (int(state.model.classify(image).argmax()) == asked.rows.labels[row]) == found
    assert all(torch.equal(value, before[name]) for name, value in state.tensors().items())


def test_a_model_that_always_says_three(digits: DigitsOf) -> None:
    asked = digits()
    state = asked.state()
    with torch.no_grad():
        state.model.h.linear.bias[3] = 1
    ids = asked.splits.val
    correct = evaluate(asked.plan, state.model, ids, asked.splits.labels, asked.runtime()).correct
    assert np.array_equal(correct, asked.rows.labels[ids] == 3)
    assert 0.05 < correct.mean() < 0.15


def recall_at(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Of each class among the others the largest recall at 1 % false alarms; the mean over the classes."""
    each = ranked(probabilities, labels, 0.01)
    return float(np.mean([one.recall_at for one in each])) / 100


def test_nothing_to_evaluate(digits: DigitsOf) -> None:
    asked = digits()
    none = np.zeros(0, dtype=np.int64)
    for metric in METRIC_WORDS:
        asked = digits(metric=metric, report={"costs": {"3": {"8": 5}}})
        found = evaluate(asked.plan, asked.state().model, none, asked.splits.labels, asked.runtime())
        assert len(found.correct) == len(found.judged) == 0


def test_ranks_share_the_rows(digits: DigitsOf) -> None:
    """Each rank computes every third row; put together they are the whole, also where 3 does not divide it."""
    asked = digits()
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=20)
    ids = asked.splits.val[:101]
    whole = evaluate(asked.plan, state.model, ids, asked.splits.labels, asked.runtime()).correct
    for rank in range(3):
        parts: list[np.ndarray] = []

        def gather(value: np.ndarray, parts: list[np.ndarray] = parts) -> list[np.ndarray]:
            parts.append(value)
            return [whole[other::3, None] for other in range(3)]

        runtime = asked.runtime()
        runtime.rank, runtime.world, runtime.gather = rank, 3, gather  # type: ignore[method-assign]
        assert np.array_equal(evaluate(asked.plan, state.model, ids, asked.splits.labels, runtime).correct, whole)
        assert np.array_equal(parts[0][:, 0], whole[rank::3])


@pytest.mark.parametrize(
    ("optim", "rows"), [({"batch": 200}, 100), ({"batch": 24}, 64), ({"batch": 180, "accumulate": 2}, 64)]
)
def test_half_as_many_rows_at_once_as_a_pass_of_a_step_has(digits: DigitsOf, optim: dict[str, int], rows: int) -> None:
    asked = digits(optim=optim)
    state, seen = asked.state(), []
    state.model.f.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    evaluate(asked.plan, state.model, asked.splits.train, asked.splits.labels, asked.runtime())
    assert max(seen) == rows
    assert sum(seen) == len(asked.splits.train)


@pytest.mark.parametrize("metric", ["top5", "auroc", "average_precision", "recall_at_false_alarms", "brier", "cost"])
def test_graded_answers_are_the_metric_on_any_number_of_ranks(digits: DigitsOf, metric: str) -> None:
    asked = digits(metric=metric, report={"costs": {"3": {"3": 0}}})  # a mistake costs 1
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=20)
    ids, labels = asked.splits.val[:101], asked.splits.labels
    whole = evaluate(asked.plan, state.model, ids, labels, asked.runtime())
    slots = asked.images.slots[ids]
    probabilities = state.model.classify(torch.from_numpy(asked.images.pixels[slots])).softmax(1).numpy()
    expected = {
        "top5": lambda y, p: top_k_accuracy_score(y, p, k=5, labels=range(10)),
        "auroc": lambda y, p: roc_auc_score(y, p, multi_class="ovr"),
        "recall_at_false_alarms": recall_at,
        "cost": lambda y, p: 1 - (1 - top_k_accuracy_score(y, p, k=1)) / (1 - np.bincount(y).max() / len(y)),
        "brier": lambda y, p: 1 - sum(brier_score_loss(y == label, p[:, label]) for label in range(10)) / 2,
        "average_precision": lambda y, p: average_precision_score(np.eye(10)[y], p),
    }[metric](labels[ids], probabilities)
    assert whole.judged.mean() == pytest.approx(expected, abs=1e-6)
    assert {"recall_at_false_alarms": 0.05, "cost": -0.2}.get(metric, 0.1) < expected < 1
    assert np.array_equal(whole.correct, probabilities.argmax(1) == labels[ids])
    for found in on_three_ranks(asked, state, ids):
        assert np.array_equal(found.correct, whole.correct)
        assert np.array_equal(found.judged, whole.judged)


def on_three_ranks(asked: Digits, state: TrainState, ids: np.ndarray) -> list[Answers]:
    """What each of three ranks comes to, each having computed its share of what one computes."""
    told: list[np.ndarray] = []

    def keep(value: np.ndarray) -> list[np.ndarray]:
        told.append(value)
        return [value]

    runtime, labels = asked.runtime(), asked.splits.labels
    runtime.gather = keep  # type: ignore[assignment,method-assign]
    evaluate(asked.plan, state.model, ids, labels, runtime)
    found = []
    for rank in range(3):

        def gather(value: np.ndarray, rank: int = rank) -> list[np.ndarray]:
            assert value == pytest.approx(told[0][rank::3], abs=1e-5)
            return [told[0][other::3] for other in range(3)]

        runtime = asked.runtime()
        runtime.rank, runtime.world, runtime.gather = rank, 3, gather  # type: ignore[assignment,method-assign]
        found.append(evaluate(asked.plan, state.model, ids, labels, runtime))
    return found


@pytest.mark.parametrize("metric", ["top1", "top5", "auroc"])
@pytest.mark.parametrize(("pool", "at_once"), [("mean", 1024), ("mean", 7), ("mean", 2), ("max", 7)])
def test_images_are_judged_by_their_pooled_tiles_on_any_number_of_ranks(
    digits: DigitsOf, monkeypatch: pytest.MonkeyPatch, metric: str, pool: Literal["mean", "max"], at_once: int
) -> None:
    """Quarters of the digits, also where a pass holds fewer rows than an image has tiles."""
    monkeypatch.setattr(module, "_at_once", lambda plan, world: at_once)
    asked = in_quarters(digits(metric=metric, schedule={"ssl_epochs": 0, "sl_epochs": 4}), pool)
    state = asked.state()
    trained(asked, state, asked.runtime(), steps=100)
    ids, labels = asked.splits.val[:50], asked.splits.labels
    tiles = torch.from_numpy(asked.images.pixels[asked.images.slots[ids]])
    of_tiles = state.model.classify(tiles.flatten(0, 1)).softmax(1).reshape(50, 4, 10).numpy()
    shares = of_tiles.mean(1) if pool == "mean" else of_tiles.max(1) / of_tiles.max(1).sum(1, keepdims=True)
    one = evaluate(asked.plan, state.model, ids, labels, asked.runtime())
    for found in (one, *on_three_ranks(asked, state, ids)):
        assert np.array_equal(found.correct, shares.argmax(1) == labels[ids])
        assert np.array_equal(found.judged, one.judged)
    expected = {
        "top1": float(np.mean(shares.argmax(1) == labels[ids])),
        "top5": float(top_k_accuracy_score(labels[ids], shares, k=5, labels=range(10))),
        "auroc": float(roc_auc_score(labels[ids], shares, multi_class="ovr")),
    }[metric]
    assert one.judged.mean() == pytest.approx(expected, abs=1e-6)
    assert 0.2 < expected < 1
