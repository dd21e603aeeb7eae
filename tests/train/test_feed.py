"""The batches of a run: what the supervised loss is divided by, and which rows it is of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ranks import few_labels
from small_runs import Digits

from raymix.plan import classified_rows, segment
from raymix.train.feed import Feed


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_scale_counts_the_rows_that_are_classified(digits: Callable[..., Digits], share: float) -> None:
    """With `whole_rows` the first ones of mix batches alone; some of these have no label among them, and no CE."""
    few = few_labels(digits(schedule={"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 1, "whole_rows": share}))
    feed = Feed(few.plan, few.splits, few.runtime())
    seen = classified_rows(few.plan, "mix", 1)
    assert seen == (6 if share else 24)
    counts = []
    for kind, batch in feed.batches(segment(few.plan, 0, few.plan.phases[0].steps, False)):
        assert kind == "mix"
        counts.append(int((batch.y_B[:seen] >= 0).sum()))
        assert batch.scale == (torch.tensor(1 / counts[-1]) if counts[-1] else 0)
    assert (feed.labelled, feed.labelled_steps) == (sum(counts), sum(n > 0 for n in counts))
    assert max(counts) > 0


def test_whole_rows_are_the_same_for_any_number_of_workers_that_divides_them(digits: Callable[..., Digits]) -> None:
    plan = digits(schedule={"whole_rows": 0.5}, optim={"batch": 24}).plan
    assert [classified_rows(plan, "mix", workers) for workers in (1, 2, 3, 4, 6, 12)] == [12] * 6
    assert [classified_rows(plan, kind, 2) for kind in ("sl", "sl_drop", "ssl")] == [24] * 3
