"""Counts from a job's numbers alone: patches of labelled rows that the classifier sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raymix.plan import Plan
from raymix.report.work import labelled_tokens

# the digits job: 8 pixels in patches of 2 are 16 patches, batch 96; mask_ratio 0.75 leaves 4 of them
MASK = {"type": "mae", "mask_ratio": 0.75, "decoder_width": 32, "decoder_depth": 1}


@pytest.mark.parametrize(
    ("schedule", "tokens"),
    [
        ({"mix_ratio": 0}, {"sl": 16}),
        ({"mix_ratio": 0, "sl_drop": 0.5}, {"sl": 16, "sl_drop": 4}),
        ({"mix_ratio": 0.5, "shared_pass": "masked"}, {"sl": 16, "mix": 4}),
        ({"mix_ratio": 0.5, "whole_rows": 0.25}, {"sl": 16, "mix": 4}),
        ({"mix_ratio": 0.5, "shared_pass": "full"}, {"sl": 16, "mix": 16}),
        ({"mix_ratio": 0.5, "shared_pass": "separate"}, {"sl": 16, "mix": 16}),
    ],
)
def test_only_what_the_classifier_sees_is_counted(
    plan_of: Callable[..., Plan], schedule: dict[str, Any], tokens: dict[str, int]
) -> None:
    plan = plan_of(960, objective=MASK, schedule={"ssl_epochs": 2, "sl_epochs": 2, **schedule})
    steps = {kind: sum(n for phase in plan.phases for name, n in phase.turns if name == kind) for kind in tokens}
    assert all(steps.values())
    assert labelled_tokens(plan) == sum(96 * steps[kind] * tokens[kind] for kind in tokens)


def test_rows_without_a_label_do_not_count(plan_of: Callable[..., Plan]) -> None:
    schedule = {"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 1, "shared_pass": "masked"}
    whole, half = (plan_of(960, labelled, objective=MASK, schedule=schedule) for labelled in (960, 480))
    mixed = sum(n for phase in half.phases for kind, n in phase.turns if kind == "mix")
    supervised = sum(n for phase in half.phases for kind, n in phase.turns if kind == "sl")
    assert labelled_tokens(half) == 96 * (mixed * 4 // 2 + supervised * 16)
    assert labelled_tokens(whole) == 96 * 4 * sum(n for phase in whole.phases for _, n in phase.turns)
