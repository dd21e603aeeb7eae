"""The digits, decoded once for all tests of raymix.train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ranks import RUNS, Ranks, asked, few_labels, spawn
from small_runs import Digits, digits_of

from tests.conftest import JOB

torch.set_num_threads(1)  # small models are quickest on one thread, most of all beside other tests


@pytest.fixture(scope="session")
def all_digits() -> Digits:
    return digits_of()


@pytest.fixture(scope="session")
def ranks(all_digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Whatever several ranks are wanted for, done by one group of them."""
    runs = {name: few_labels(all_digits.asked(asked(JOB, sections))) for name, sections in RUNS.items()}
    whole = all_digits.asked({**JOB, "optim": {"batch": 24}})
    normed = [whole.with_splits(replace(whole.splits, train=whole.splits.train[:rows])) for rows in (1200, 50)]
    return spawn(runs, "adapted, to be shrunk", normed, tmp_path_factory.mktemp("ranks"))


@pytest.fixture
def digits(all_digits: Digits, digits_job: dict[str, Any]) -> Callable[..., Digits]:
    """`digits(schedule={...}, ...)`: the digits job with other sections, on few rows unless `data` says otherwise."""

    def make(data: dict[str, Any] | None = None, **sections: Any) -> Digits:
        few = {"fraction": 0.15, "holdout": 0.1, "select": 0.1}
        small = {"optim": {"batch": 24, "lr": 2e-3}, **sections}
        return all_digits.asked(
            {**digits_job, **small, "data": {**digits_job["data"], **(few if data is None else data)}}
        )

    return make
