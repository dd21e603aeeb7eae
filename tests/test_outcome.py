"""A run's figures in a pilot: of one that trained beside others, what is comparable and what it held."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymix.arms import seconds_of
from raymix.outcome import pilot_run
from tests.report.factory import make_history, make_plan, make_run


@pytest.mark.parametrize(("packed", "share"), [(None, 1.0), (1.0, 1.0), (0.25, 0.25)])
def test_a_packed_run_has_the_planned_clock_and_pays_its_part_of_a_gpu(packed: float | None, share: float) -> None:
    plan = make_plan(price=3.6)
    rates = make_history(plan).rates
    report = make_run(price=3.6).model_copy(update={"packed": packed})
    run = pilot_run(report, plan, 1.0, rates, Path("runs/demo"))
    planned = seconds_of(plan, rates)
    trained = report.totals.trained_seconds if packed is None else planned
    assert run.packed == (packed is not None)
    assert run.planned_seconds == planned
    assert run.worker_seconds == trained * report.workers
    assert run.billed_worker_seconds == share * report.totals.worker_seconds
    assert run.cost == pytest.approx(run.billed_worker_seconds * 3.6 / 3600)
