"""What ends trials and searches early: ASHA, budgets, signals; and what a torn journal costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymix.search.board import Board
from raymix.search.halving import goes_on, rung_of
from raymix.search.journal import JOURNAL_FILE, Journal
from raymix.search.trial import Trial
from raymix.spec import Asha, JobError
from tests.search.worlds import board_of, run, section, trained


def told(trial: Trial, top1: float, seconds: float, planned: float = 100.0) -> Trial:
    return trial.model_copy(update={"select_top1": top1, "worker_seconds": seconds, "planned": planned})


def begun(board: Board) -> Trial:
    trial = board.next()
    assert trial is not None
    return trial


@pytest.mark.parametrize(
    ("seconds", "rung"), [(0, None), (9.9, None), (10, "0.1"), (29, "0.1"), (30, "0.3"), (500, "0.3")]
)
def test_a_trial_is_at_the_highest_rung_that_it_has_come_to(seconds: float, rung: str | None) -> None:
    assert rung_of(Asha(), 100.0, seconds) == rung


def test_the_upper_part_goes_on() -> None:
    others = [Trial(number=n, values={}, rungs={"0.1": top1}) for n, top1 in enumerate((10, 20, 30, 40))]
    assert goes_on(Asha(), "0.3", 0.0, others), "the first to come there"
    assert goes_on(Asha(keep=0.5), "0.1", 25.0, others)
    assert not goes_on(Asha(keep=0.5), "0.1", 24.9, others)


def test_asha_ends_what_is_behind_at_equal_worker_seconds(tmp_path: Path) -> None:
    board = board_of(section(asha={"rungs": [0.1, 0.5], "keep": 0.5}), tmp_path)
    first, second = begun(board), begun(board)
    assert not board.hear(told(first, 50, 5)), "no rung yet"
    assert not board.hear(told(first, 60, 12))
    # its own plan is ten times as long, and the rungs are where the first trial's are
    assert not board.hear(told(second, 1, 9, planned=1000))
    assert board.hear(told(second, 59, 11, planned=1000))
    assert board.must_end(second.number)
    over = board.finish(told(second, 59, 11).model_copy(update={"status": "interrupted"}))
    assert (over.status, over.rungs) == ("stopped", {"0.1": 59})
    done = board.finish(trained(first))
    assert (done.status, done.rungs, done.planned) == ("done", {"0.1": 60}, 100)


def test_rungs_outlive_the_driver(tmp_path: Path) -> None:
    tune = section(asha={"rungs": [0.1], "keep": 0.5})
    board = board_of(tune, tmp_path)
    first = begun(board)
    board.hear(told(first, 60, 12))
    board = board_of(tune, tmp_path)
    again, second = begun(board), begun(board)
    assert again.number == first.number
    assert not board.hear(told(again, 10, 13)), "it has passed that rung"
    assert board.hear(told(second, 59, 11))


def test_seconds_of_a_whole_trial_may_be_given(tmp_path: Path) -> None:
    board = board_of(section(asha={"rungs": [0.1], "keep": 0.5, "worker_seconds": 20}), tmp_path)
    first, second = begun(board), begun(board)
    board.hear(told(first, 60, 2))
    assert board.hear(told(second, 59, 2))


def test_stop_lets_nothing_begin_and_keeps_what_was_under_way(tmp_path: Path) -> None:
    board = board_of(section(), tmp_path)
    run(board, most=2)
    trial = begun(board)
    board.stop()
    assert board.next() is None
    assert board.hear(told(trial, 1, 1))
    board.finish(trial.model_copy(update={"status": "interrupted"}))
    assert board.ended is None
    again = board_of(section(), tmp_path)
    assert not again.over
    assert begun(again).number == trial.number


@pytest.mark.parametrize(
    ("budget", "ends_after"),
    [({"wall": 35}, 4), ({"worker_hours": 35 / 3600}, 4), ({"money": 2 * 35 / 3600}, 4), ({"worker_hours": 1}, 12)],
)
def test_a_budget_of_the_whole_search(budget: dict[str, float], ends_after: int, tmp_path: Path) -> None:
    tune, seconds = section(budget=budget), [0.0]
    board = board_of(tune, tmp_path, seconds=lambda: seconds[0], price=2.0)
    done = 0
    while (trial := board.next()) is not None:
        board.finish(trained(trial).model_copy(update={"billed_worker_seconds": 10.0}))
        seconds[0] += 10
        done += 1
    assert done == ends_after
    assert board.ended == ("budget" if ends_after < 12 else "complete")
    more = section(budget=None)
    assert board_of(more, tmp_path).over == (ends_after == 12), "with more to spend it goes on"


def test_what_trials_under_way_have_cost_counts(tmp_path: Path) -> None:
    board = board_of(section(budget={"worker_hours": 1}), tmp_path)
    trial = begun(board)
    assert not board.spent()
    board.hear(told(trial, 1, 1).model_copy(update={"billed_worker_seconds": 3600.0}))
    assert board.spent()


def test_a_trial_without_an_outcome_has_failed(tmp_path: Path) -> None:
    board = board_of(section(), tmp_path)
    trial = begun(board)
    assert board.fail(trial.number, "its process died").status == "failed"
    assert board_of(section(), tmp_path).trials[0].error == "its process died"


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_is_cut_off(cut: int, tmp_path: Path) -> None:
    run(board_of(section(), tmp_path), most=3)
    file = tmp_path / JOURNAL_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    board = board_of(section(), tmp_path)
    assert [trial.status for trial in board.trials] == ["done", "done", "running"]
    assert len(run(board)) == 10
    assert len(Journal(tmp_path).trials) == 12


def test_a_journal_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text('{"at": 1}\n')
    with pytest.raises(JobError, match=r"line 1 is not one of this raymix \(start anew: --overwrite\)"):
        Journal(tmp_path)
