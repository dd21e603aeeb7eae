"""The ledger: whatever became of a run, its accounts sum to wall time times workers."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from raymix.report.history import History, Rates, SegmentReport
from raymix.report.ledger import ACCOUNTS, STEPS, Ledger, Spent, booked, ledger
from raymix.report.run import RunReport
from tests.report.factory import STEP_SECONDS, make_plan, make_reports, make_run

RATES = Rates(step_seconds=STEP_SECONDS, workers=2, prepare_seconds=3.0)
BETWEEN = 0.01  # seconds between two segments


def group(reports: list[SegmentReport]) -> tuple[SegmentReport, ...]:
    """The reports as one worker group tells them: each with the seconds since its first step."""
    told, elapsed = [], 0.0
    for report in reports:
        saved = 0.1 if len(told) % 3 == 2 else 0.0
        elapsed += report.cost_seconds + saved + BETWEEN
        told.append(report.model_copy(update={"checkpoint_seconds": saved, "elapsed": elapsed}))
    return tuple(told)


REPORTS = make_reports(make_plan())


def attempt(reports: tuple[SegmentReport, ...], closed: bool = True, more: float = 1.5, **told: Any) -> Spent:
    """A command of 2 workers, held from its 4th second on, that came to its first step after 12 s."""
    after = {"evaluation": 0.5, "checkpoints": 0.2, "idle": 0.3} if closed else {}
    wall = 12.0 + (reports[-1].elapsed if reports else 0.0) + more
    values = {
        "wall_seconds": wall,
        "worker_seconds": 2 * (wall - 4.0),
        "workers": 2,
        "began_seconds": 12.0,
        "prepare_seconds": 3.0,
        "trained": booked(reports),
        "after": after,
        "closed": closed,
    }
    return Spent.model_validate({**values, **told})


def history_of(*groups: tuple[SegmentReport, ...]) -> History:
    """A run that went on from every report of every group."""
    history = History(rates=RATES)
    for reports in groups:
        history = history.begin(None)
        for report in reports:
            history = history.add(report)
    return history


def assert_sums(found: Ledger, attempts: list[Spent], price: float | None = None) -> None:
    assert [entry.account for entry in found.entries] == list(ACCOUNTS)
    assert found.worker_seconds == pytest.approx(sum(a.wall_seconds * (a.workers or 2) for a in attempts))
    assert all(entry.worker_seconds >= 0 for entry in found.entries)
    costs = [entry.cost for entry in found.entries]
    if price is None:
        assert set(costs) == {None}
    else:
        held = sum(a.worker_seconds for a in attempts)
        assert sum(cost or 0 for cost in costs) == pytest.approx(held / 3600 * price)


@pytest.mark.parametrize("price", [None, 7.2])
def test_one_attempt(price: float | None) -> None:
    reports = group(REPORTS)
    one = attempt(reports)
    found = ledger(history_of(reports), [one], 2, price)
    assert_sums(found, [one], price)
    assert found.of("before workers") == pytest.approx(2 * 4)
    assert found.of("start-up") == pytest.approx(2 * (12 - 4 - 3))
    assert found.of("prepare") == pytest.approx(2 * 3)
    assert found.of("evaluation") == pytest.approx(2 * (0.5 + sum(r.evaluate_seconds for r in reports)))
    assert found.of("checkpoints") == pytest.approx(2 * (0.2 + sum(r.checkpoint_seconds for r in reports)))
    assert found.of("data wait") == pytest.approx(2 * sum(r.data_seconds for r in reports))
    for kind in ("ssl", "mix", "sl"):
        steps = sum(r.seconds - r.data_seconds for r in reports if r.segment.kind == kind)
        assert found.of(STEPS[kind]) == pytest.approx(2 * steps)
    assert found.of("idle") == pytest.approx(2 * (0.3 + BETWEEN * len(reports)))
    assert found.of("lost work") == 0
    assert found.of("other") == pytest.approx(2 * 0.5), "1.5 s came after the last report, 1 s of it is booked"


def test_two_attempts_each_pay_for_their_start() -> None:
    first, second = group(REPORTS[:5]), group(REPORTS[5:])
    attempts = [attempt(first), attempt(second)]
    found = ledger(history_of(first, second), attempts, 2, None)
    assert_sums(found, attempts)
    assert found.of("start-up") == pytest.approx(2 * 2 * 5)
    assert found.of("lost work") == 0


def test_a_command_that_was_killed_loses_what_was_not_saved() -> None:
    first, second = group(REPORTS[:6]), group(REPORTS[4:])
    attempts = [attempt(first, closed=False, more=0.7), attempt(second)]
    found = ledger(history_of(first[:4], second), attempts, 2, None)
    assert_sums(found, attempts)
    lost = first[5].elapsed - first[3].elapsed
    assert found.of("lost work") == pytest.approx(2 * (lost + 0.7)), "two segments, and what was under way"
    steps = sum(r.seconds - r.data_seconds for r in REPORTS)
    assert sum(found.of(account) for account in ("ssl steps", "mix steps", "sl steps")) == pytest.approx(2 * steps)


def test_a_worker_that_died_costs_its_work_and_the_restart() -> None:
    first, second = group(REPORTS[:6]), group(REPORTS[4:])
    trained = {name: value + booked(second)[name] for name, value in booked(first).items()}
    wall = 12 + first[-1].elapsed + 9 + second[-1].elapsed + 1
    one = attempt(second, trained=trained, restart_seconds=9.0, wall_seconds=wall, worker_seconds=2 * (wall - 4))
    found = ledger(history_of(first[:4], second), [one], 2, 1.0)
    assert_sums(found, [one], 1.0)
    assert found.of("lost work") == pytest.approx(2 * (9 + first[5].elapsed - first[3].elapsed))
    assert found.of("other") == pytest.approx(0, abs=1e-6)


def test_attempts_may_have_other_numbers_of_workers() -> None:
    first, second = group(REPORTS[:5]), group(REPORTS[5:])
    two, three = attempt(first), attempt(second)
    three = three.model_copy(update={"workers": 3, "worker_seconds": 3 * (three.wall_seconds - 4)})
    history = history_of(first).begin(None, RATES.model_copy(update={"workers": 3}))
    for report in second:
        history = history.add(report)
    found = ledger(history, [two, three], 3, None)
    assert_sums(found, [two, three])
    assert found.of("start-up") == pytest.approx((2 + 3) * 5)
    assert found.of("lost work") == 0


def test_turns_that_alternate_are_steps_of_the_mix_phase() -> None:
    mixed = next(report for report in REPORTS if report.segment.kind == "mix")
    segment = mixed.segment.model_copy(update={"pattern": (("ssl", 1), ("sl", mixed.segment.steps - 1))})
    found = booked(group([mixed.model_copy(update={"segment": segment})]))
    assert (found["ssl steps"], found["sl steps"]) == (0, 0)
    assert found["mix steps"] == pytest.approx(mixed.seconds - mixed.data_seconds)


def test_no_step_and_no_first_step() -> None:
    spent = [attempt((), more=1.0)]
    found = ledger(history_of(()), spent, 2, None)
    assert_sums(found, spent)
    failed = [attempt((), closed=False, began_seconds=None, prepare_seconds=0.0)]
    found = ledger(History(rates=RATES), failed, 2, None)
    assert_sums(found, failed)
    assert found.of("start-up") == pytest.approx(failed[0].worker_seconds)
    nothing = ledger(History(rates=RATES), [], 2, None)
    assert nothing.worker_seconds == 0
    assert nothing.share(nothing.entries[0]) == 0


def test_what_an_older_raymix_kept_of_an_attempt_is_not_made_up() -> None:
    reports = group(REPORTS)
    spent = [Spent(wall_seconds=20.0, worker_seconds=30.0), attempt(reports)]
    found = ledger(history_of(reports), spent, 2, None)
    assert_sums(found, spent)
    assert found.of("before workers") == pytest.approx(10 + 8)
    assert found.of("other") == pytest.approx(30 + 1)


def test_the_csv_holds_what_the_ledger_does() -> None:
    reports = group(REPORTS)
    for price in (None, 3.0):
        found = ledger(history_of(reports), [attempt(reports)], 2, price)
        lines = list(csv.DictReader(io.StringIO(found.csv())))
        assert [line["account"] for line in lines] == list(ACCOUNTS)
        assert list(lines[0]) == ["account", "worker_seconds", "share", "cost"]
        assert sum(float(line["worker_seconds"]) for line in lines) == pytest.approx(found.worker_seconds, abs=0.01)
        assert sum(float(line["share"]) for line in lines) == pytest.approx(1, abs=1e-4)
        assert all((line["cost"] == "") == (price is None) for line in lines)


def test_a_report_of_an_older_raymix_has_none() -> None:
    text = make_run().model_dump_json(exclude={"ledger", "planned"})
    assert RunReport.model_validate_json(text).ledger is None
