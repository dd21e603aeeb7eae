"""How many workers may share a run: equal parts of every batch, the same rows in it, the same loss."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from raymix.jobfile import load_spec
from raymix.plan import check_fixed, worker_counts
from raymix.spec import JobError, JobSpec
from tests.conftest import JOB


def spec_of(workers: Any, **sections: Any) -> JobSpec:
    return load_spec({**copy.deepcopy(JOB), **sections, "cluster": {"workers": workers}})


@pytest.mark.parametrize(
    ("workers", "sections", "run", "counts"),
    [
        ({"max": 8}, {}, 0, (1, 2, 3, 4, 6, 8)),
        ({"min": 3, "max": 8}, {}, 0, (3, 4, 6, 8)),
        ({"max": 6}, {"optim": {"batch": 96, "accumulate": 8}}, 0, (1, 2, 3, 4, 6)),
        ({"max": 4}, {"optim": {"batch": 96, "accumulate": 24}}, 0, (1, 2, 4)),
        ({"max": 10}, {"optim": {"batch": 90}}, 1, (1, 2, 3, 5, 6, 9, 10)),
        ({"max": 6}, {"optim": {"batch": 90}}, 8, (1, 2, 3, 6)),
        ({"max": 4}, {"schedule": {"whole_rows": 0.25}}, 0, (1, 2, 3, 4)),
        ({"max": 4}, {"schedule": {"whole_rows": 0.04}}, 0, (1, 2, 4)),
        (4, {}, 0, (4,)),
        (0, {}, 0, (1,)),
    ],
)
def test_allowed_counts(workers: Any, sections: dict[str, Any], run: int, counts: tuple[int, ...]) -> None:
    spec = spec_of(workers, **sections)
    assert worker_counts(spec, run) == counts
    assert all(spec.batch % (num * spec.optim.accumulate) == 0 for num in counts)


def test_labelled_rows_of_a_stream_are_shared_out_too() -> None:
    spec = spec_of({"max": 4}, data={**JOB["data"], "labelled_share": 0.25, "label_fraction": 0.5})
    assert worker_counts(spec, 0) == worker_counts(spec, 1) == (1, 2, 3, 4)
    uneven = spec_of({"max": 4}, data={**JOB["data"], "labelled_share": 1 / 12, "label_fraction": 0.5})
    assert (worker_counts(uneven, 0), worker_counts(uneven, 1)) == ((1, 2, 3, 4), (1, 2, 4))


def test_what_compares_seconds_keeps_its_workers() -> None:
    check_fixed(spec_of(4), "a pilot")
    with pytest.raises(JobError, match=r"cluster\.workers: a pilot .*cluster\.workers=4"):
        check_fixed(spec_of({"max": 4}), "a pilot")
