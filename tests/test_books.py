"""The driver's books: what it hears of a run, kept where a kill leaves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raymix.books import Books, Clock
from raymix.local import LocalSession
from raymix.plan import Decision
from raymix.report.history import History, Rates, SegmentReport
from raymix.report.ledger import ledger
from raymix.runfolder import Attempt
from raymix.runner import run
from raymix.session import Bill
from raymix.spec import JobSpec
from raymix.train.task import Outcome
from raymix.watch import Sinks
from raymix.watch.trouble import Tell, unheard
from tests.report.factory import STEP_SECONDS, make_plan, make_reports
from tests.report.test_ledger import group

REPORTS = make_reports(make_plan())


class Folder:
    """Keeps attempts in memory."""

    path = Path("nowhere")

    def __init__(self) -> None:
        self.kept: dict[int, Attempt] = {}

    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(self.kept.values())

    def write_attempt(self, number: int, attempt: Attempt) -> None:
        self.kept[number] = attempt


def books_of(folder: Any, started: float, tell: Tell = unheard) -> Books:
    """Books of a command with 2 workers that was started some seconds ago and has held them since."""
    clock: Any = SimpleNamespace(seconds=started, started_at=time.time() - started)
    session: Any = SimpleNamespace(worker_seconds=2 * started, groups=1, startup={"ray": 1.0}, holds=())
    return Books(folder, session, clock, True, 2, tell)


def test_a_group_that_dies_costs_its_work_and_the_time_until_the_next() -> None:
    folder, plan, first, second = Folder(), make_plan(), group(REPORTS[:6]), group(REPORTS[4:])
    trained = first[-1].elapsed + second[-1].elapsed
    books = books_of(folder, 10 + trained + 7 + 1)
    start = books.clock.started_at + 10
    rates = Rates(step_seconds=STEP_SECONDS, workers=2, prepare_seconds=3.0)
    history = History(rates=rates).begin(None, began_at=start)
    books.begin("run", plan, history)
    for report in first:
        books.segment("run", report)
        history = history.add(report)
    saved = history.reported(4, ()).begin(None, began_at=start + first[-1].elapsed + 7)
    books.begin("run", plan, saved)
    for report in second:
        books.segment("run", report)
        saved = saved.add(report)
    assert books.history == saved
    spent = books.now()
    assert not spent.closed
    assert spent.restart_seconds == pytest.approx(7, abs=1e-3)
    assert spent.startup == {"ray": 1.0, "prepare": 3.0}
    finished = time.time() - 0.4
    books.settle(Outcome("run", saved, "complete", evaluate_seconds=0.6, finished_at=finished, first_step_at=0))
    found = ledger(books.history, books.all(), 2, None)
    assert found.worker_seconds == pytest.approx(2 * books.clock.seconds)
    lost = 7 + first[5].elapsed - first[3].elapsed
    assert found.of("lost work") == pytest.approx(2 * lost, abs=0.01)
    assert found.of("start-up") == pytest.approx(2 * (10 - 3), abs=0.01)
    assert found.of("other") == pytest.approx(0, abs=0.1)


def test_a_run_that_fails_leaves_its_decisions() -> None:
    books, plan = books_of(Folder(), 1.0), make_plan()
    history = History(rates=Rates(step_seconds=STEP_SECONDS)).begin(None)
    decision = Decision(step=0, steps=(50, 40, 30), reason="less")
    books.begin("run", plan, history)
    books.decided("run", decision)
    books.segment("run", REPORTS[0])
    assert books.history == history.decide(decision).add(REPORTS[0])


def test_they_are_written_when_they_are_opened_and_closed() -> None:
    folder: Any = Folder()
    with books_of(folder, 3.0):
        assert folder.kept[1].began_seconds is None
    assert list(folder.kept) == [1]
    with books_of(folder, 4.0) as second:
        assert len(second.all()) == 2
    assert [attempt.wall_seconds for attempt in folder.kept.values()] == [3.0, 4.0]


def test_a_clock_goes_on() -> None:
    clock = Clock()
    assert 0 <= clock.seconds <= clock.seconds
    assert clock.started_at <= time.time()


def test_books_that_cannot_be_written_end_nothing() -> None:
    folder, told = Folder(), list[str]()
    books = books_of(folder, 1.0, told.append)
    write = folder.write_attempt

    def full(number: int, attempt: Attempt) -> None:
        raise OSError(28, "No space left on device")

    folder.write_attempt = full  # type: ignore[method-assign]
    with books:
        books.begin("run", make_plan(), History(rates=Rates(step_seconds=STEP_SECONDS)).begin(None))
        books.segment("run", REPORTS[0])
    assert folder.kept == {}
    (line,) = told
    assert (
        line
        == "the attempt's costs could not be written (No space left on device); it is tried again, training goes on"
    )
    folder.write_attempt = write  # type: ignore[method-assign]
    books.write()
    assert list(folder.kept) == [1]


def test_what_a_session_exports_hears_the_run_and_its_bill(
    spec_of: Callable[..., JobSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    bills, ended = list[Bill](), list[str]()

    class Shown(Sinks):
        def __init__(self, bill: Callable[[], Bill]) -> None:
            super().__init__([])
            self._bill = bill

        def segment(self, run: str, report: SegmentReport) -> None:
            bills.append(self._bill())

        def close(self) -> None:
            ended.append("closed")

    monkeypatch.setattr(LocalSession, "exports", lambda session, bill: (Shown(bill),))
    cluster = {"workers": 0, "price_per_worker_hour": 3600}
    report = run(spec_of(cluster=cluster, budget={"wall": 3600}), quiet=True)
    assert ended == ["closed"]
    spent = [bill.worker_seconds for bill in bills]
    assert 0 < spent[0] < spent[-1] <= report.totals.worker_seconds
    assert [bill.cost for bill in bills] == pytest.approx(spent)
    assert 0 < (bills[-1].budget_share or 0) <= report.totals.wall_seconds / 3600
