"""Three ranks compute what one process does, wherever the labels lie, and a restarted group what the unbroken one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import NUM, Steps, spawn, steps_of
from small_runs import Digits
from test_resume import hashes

SIMCLR = {"type": "simclr", "projector_width": 32, "output_width": 16}
RUNS: dict[str, dict[str, Any]] = {
    "mae masked": {},
    "mae full, sl_drop": {"schedule": {"shared_pass": "full", "sl_drop": 0.5}},
    "mae separate": {"schedule": {"shared_pass": "separate"}},
    "mae masked, in parts, clipped": {"optim": {"accumulate": 2, "clip": 0.5, "ema": "10%"}},
    "simclr full": {"objective": SIMCLR},
    "simclr separate": {"objective": SIMCLR, "schedule": {"shared_pass": "separate"}},
}


@pytest.fixture(scope="module")
def ranks(
    all_digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Digits], list[dict[str, Steps]], Path]:
    """All runs in one group of processes: each of them imports torch, which takes seconds."""
    from tests.conftest import JOB

    runs = {name: few_labels(all_digits.asked(asked(JOB, sections))) for name, sections in RUNS.items()}
    folder = tmp_path_factory.mktemp("ranks")
    return runs, spawn(runs, "mae masked", folder), folder


def asked(job: dict[str, Any], sections: dict[str, Any]) -> dict[str, Any]:
    """Three steps of ssl, six of mix and three of sl."""
    schedule = {"ssl_epochs": 1.5, "sl_epochs": 7, "mix_ratio": 1 / 7, **sections.get("schedule", {})}
    optim = {"batch": 12, "lr": 0.01, "warmup": 0, **sections.get("optim", {})}
    data = {**job["data"], "fraction": 0.08, "select": 0, "augment": {"crop": [0.5, 1], "color": 0.3}}
    return {**job, "evaluate": {"every": 0}, **sections, "data": data, "schedule": schedule, "optim": optim}


def few_labels(digits: Digits) -> Digits:
    """72 training rows, 6 of them labelled: most ranks have none in most steps."""
    train = digits.splits.train[:72]
    labels = digits.splits.labels.copy()
    labels[np.setdiff1d(train, train[::12])] = -1
    return digits.with_splits(replace(digits.splits, train=train, labels=labels))


@pytest.mark.parametrize("name", RUNS)
def test_three_ranks_are_one_process(ranks: tuple[dict[str, Digits], list[dict[str, Steps]], Path], name: str) -> None:
    runs, found, _ = ranks
    digits = runs[name]
    kinds = [kind for phase in digits.plan.phases for kind, count in phase.turns for _ in range(count)]
    assert {"ssl", "mix", "sl"} <= set(kinds)
    one = steps_of(digits, digits.runtime())
    several = found[0][name]
    assert torch.equal(several.labelled.sum(0), one.labelled[0]), "the same batches, shared out"
    mixed = several.labelled[:, [kind == "mix" for kind in kinds]]
    assert (mixed.sum(0) > 0).any()
    assert ((mixed == 0).any(0) & (mixed > 0).any(0)).any(), "some ranks have labels where others have none"
    torch.testing.assert_close(several.stats, one.stats, rtol=2e-5, atol=2e-5)
    for key, value in one.tensors.items():
        torch.testing.assert_close(several.tensors[key], value, rtol=1e-4, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")
    before = {key: value for key, value in digits.state().snapshot().items() if key.startswith("model.")}
    moved = {key for key, value in before.items() if not torch.equal(value, one.tensors[key])}
    assert moved == set(before), "every weight was trained"


@pytest.mark.parametrize("name", RUNS)
def test_all_ranks_hold_the_same_bits(ranks: tuple[dict[str, Digits], list[dict[str, Steps]], Path], name: str) -> None:
    _, found, _ = ranks
    for rank in range(1, NUM):
        for key, value in found[0][name].tensors.items():
            assert torch.equal(found[rank][name].tensors[key], value), key


def test_a_restarted_group_computes_the_same_bits(
    ranks: tuple[dict[str, Digits], list[dict[str, Steps]], Path],
) -> None:
    """DDP rebuilds its buckets after its first backward, which changes the order of a sum over three ranks."""
    _, _, folder = ranks
    assert hashes(folder / "parts") == hashes(folder / "whole")
