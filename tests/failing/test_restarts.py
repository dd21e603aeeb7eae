"""Restarts: how many, after how long, and which failure is not tried again."""

from __future__ import annotations

from typing import Any

import pytest

from raymix.failing.restarts import HEALTHY_SECONDS, Cause, Tally
from raymix.jobfile import load_spec
from raymix.spec import JobError
from raymix.spec.failures import Failures
from tests.conftest import JOB

DEATH = Cause("worker 1 died: its process was killed or crashed")
ERROR = Cause("worker 0 failed with ValueError: wrong", "ValueError: wrong")


def waits(healthy: list[float], **asked: Any) -> list[float]:
    tally = Tally(Failures(max_restarts=len(healthy), **asked))
    return [tally.judge(DEATH, 0, seconds).wait for seconds in healthy]


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_healthy_stretch() -> None:
    assert waits([10.0] * 5, backoff=2, backoff_max=10) == [2, 4, 8, 10, 10]
    assert waits([10.0, 10.0, HEALTHY_SECONDS, 10.0]) == [1, 2, 1, 2]
    assert waits([10.0, 10.0], backoff=0) == [0, 0]


def test_waits_begin_anew_with_a_group_that_came_further() -> None:
    tally = Tally(Failures(max_restarts=10))
    steps = [0, 0, 30, 30, 20, 31, 60, 60]
    assert [tally.judge(DEATH, step, 10.0).wait for step in steps] == [1, 2, 1, 2, 4, 1, 1, 2]


def test_so_many_restarts_and_no_more() -> None:
    tally = Tally(Failures(max_restarts=2))
    told = [tally.judge(DEATH, 0, 10.0) for _ in range(3)]
    assert [verdict.again for verdict in told] == [True, True, False]
    assert [verdict.words for verdict in told] == [
        f"{DEATH.words}; restart 1 of 2 in 1 s",
        f"{DEATH.words}; restart 2 of 2 in 2 s",
        f"{DEATH.words}; no restart is left of 2 (failures.max_restarts)",
    ]
    assert Tally(Failures(max_restarts=0)).judge(DEATH, 0, 0).words.endswith("; failures.max_restarts is 0")


def test_what_is_nobodys_fault_is_not_counted() -> None:
    tally = Tally(Failures(max_restarts=1))
    waiting = Cause("the cluster has no room for 3 workers now", counted=False)
    assert all(tally.judge(waiting, 0, 0.0)[:2] == (True, 0.0) for _ in range(10))
    assert tally.judge(DEATH, 0, 0.0).again


@pytest.mark.parametrize(
    ("failures", "again"),
    [
        ([(ERROR, 7), (ERROR, 7)], False),
        ([(ERROR, 7), (ERROR, 8), (ERROR, 8)], False),
        ([(ERROR, 7), (ERROR, 8)], True),
        ([(ERROR, 7), (DEATH, 7), (ERROR, 7)], True),
        ([(ERROR, 7), (Cause("worker 0 failed", "ValueError: other"), 7)], True),
        ([(DEATH, 7), (DEATH, 7)], True),
    ],
)
def test_the_same_error_at_the_same_step_twice_in_a_row_ends_it(failures: list[tuple[Cause, int]], again: bool) -> None:
    tally = Tally(Failures(max_restarts=10))
    verdicts = [tally.judge(cause, step, 10.0) for cause, step in failures]
    assert all(verdict.again for verdict in verdicts[:-1])
    assert verdicts[-1].again == again
    assert again or "twice in a row after step" in verdicts[-1].words


@pytest.mark.parametrize("field", ["hang", "hang_outside"])
def test_a_hang_of_less_than_five_seconds_is_refused(field: str) -> None:
    with pytest.raises(JobError, match=rf"^failures\.{field}: 2 s is too short"):
        load_spec({**JOB, "failures": {field: "2s"}})
    assert getattr(load_spec({**JOB, "failures": {field: 0}}).failures, field) == 0
