"""One contract for all searches: what they propose is in the space, new, and the same when it is asked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymix.search import choose
from raymix.search.points import POINTS
from raymix.search.trial import Trial
from raymix.spec import JobError
from tests.search.worlds import GRID, board_of, run, section

SEARCHES = sorted(POINTS)


@pytest.mark.parametrize("search", SEARCHES)
def test_every_trial_is_new_and_in_the_space(search: str, tmp_path: Path) -> None:
    tune = section(search)
    board = board_of(tune, tmp_path)
    done = run(board)
    assert len(done) == tune.num_trials == 12
    assert board.ended == "complete"
    assert [trial.number for trial in done] == list(range(12))
    assert len({str(trial.values) for trial in done}) == 12
    for trial in done:
        assert list(trial.values) == list(tune.space)
        for path, axis in tune.space.items():
            value = trial.values[path]
            assert value in axis.values if axis.values else axis.bounds[0] <= value <= axis.bounds[1]
            assert isinstance(value, int) or axis.int is None


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_that_is_broken_off_anywhere_goes_on_as_it_would_have(search: str, tmp_path: Path) -> None:
    """Each driver begins a trial and is killed: what it had begun is begun again, with the same values."""
    tune = section(search)
    whole = run(board_of(tune, tmp_path / "whole"))
    for place in range(12):
        board = board_of(tune, tmp_path / "parts")
        if place % 3 == 2:
            run(board, most=1)
        lost = board.next()
        assert lost is None or lost.values == whole[lost.number].values
    run(board_of(tune, tmp_path / "parts"))
    assert board_of(tune, tmp_path / "parts").trials == tuple(whole)
    assert board_of(tune, tmp_path / "parts").over


@pytest.mark.parametrize("search", SEARCHES)
def test_arms_get_equally_many_trials_at_any_time(search: str, tmp_path: Path) -> None:
    tune = section(search, arms=("sl", "mix"))
    board = board_of(tune, tmp_path)
    for done in range(24):
        counts = [sum(trial.arm == arm for trial in board.trials) for arm in ("sl", "mix")]
        assert max(counts) - min(counts) == done % 2
        assert run(board, most=1)
    assert board.next() is None
    assert choose.best(trial for trial in board.trials if trial.arm == "sl")


@pytest.mark.parametrize("search", SEARCHES)
def test_values_that_the_job_refuses_together_cost_no_trial(search: str, tmp_path: Path) -> None:
    def takes(arm: str, values: dict[str, object]) -> None:
        if values["c"] == "x":
            raise JobError("c", "x is not for this job")

    board = board_of(section(search), tmp_path, takes)
    done = run(board)
    refused = [trial for trial in board.trials if trial.status == "refused"]
    assert len(done) == (8 if search == "grid" else 12)
    assert {trial.error for trial in refused} == {"c: x is not for this job"}
    assert choose.num_tried(board.trials) == len(done)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_job_that_refuses_everything_ends_the_search(search: str, tmp_path: Path) -> None:
    def takes(arm: str, values: dict[str, object]) -> None:
        raise JobError("c", "nothing is for this job")

    board = board_of(section(search, **({} if search == "grid" else {"trials": 2})), tmp_path, takes)
    assert board.next() is None
    assert board.ended == "complete"


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_a_small_space_ends_when_all_is_tried(search: str, tmp_path: Path) -> None:
    space = {"c": {"choice": ["x", "y", "z"]}}
    board = board_of(section(search, space=space), tmp_path)
    assert {trial.values["c"] for trial in run(board)} == {"x", "y", "z"}
    assert board.ended == "complete"


def test_a_grid_is_all_combinations_in_order(tmp_path: Path) -> None:
    done = run(board_of(section("grid"), tmp_path))
    assert [(trial.values["c"], trial.values["d"]) for trial in done] == [
        (value, whole) for value in GRID["c"]["grid"] for whole in range(1, 5)
    ]


@pytest.mark.parametrize("objectives", [("accuracy",), ("accuracy", "worker_seconds")])
def test_optuna_finds_what_is_there(objectives: tuple[str, ...], tmp_path: Path) -> None:
    """The later half of the trials is better than the first ten, which are drawn at random."""
    tune = section("optuna", trials=40, objectives=objectives)
    done = run(board_of(tune, tmp_path))
    first, last = ([trial.select_top1 or 0.0 for trial in part] for part in (done[:10], done[-20:]))
    assert sum(last) / 20 > sum(first) / 10
    assert (choose.best(done) or done[0]).select_top1 == pytest.approx(90, abs=0.5)


def test_what_earlier_searches_found_is_known_and_not_tried_again(tmp_path: Path) -> None:
    first = run(board_of(section(), tmp_path / "first"))
    board = board_of(section(), tmp_path / "second")
    for trial in first:
        board._journal.write(trial.model_copy(update={"source": "first"}), 0.0)
    second = run(board)
    assert len(second) == 12
    assert not [trial for trial in second if trial.values in [other.values for other in first]]
    assert [trial.source for trial in board.earlier] == ["first"] * 12


def test_the_front_has_no_trial_that_another_beats() -> None:
    def of(number: int, top1: float | None, seconds: float, status: str = "done") -> Trial:
        values = {"status": status, "select_top1": top1, "worker_seconds": seconds}
        return Trial(number=number, values={}).model_copy(update=values)

    trials = [of(0, 80, 10), of(1, 90, 20), of(2, 85, 30), of(3, 90, 25), of(4, 95, 40), of(5, 99, 5, "stopped")]
    trials += [of(6, 80, 10), of(7, None, 1)]
    assert [trial.number for trial in choose.front(trials)] == [0, 1, 4]
    assert choose.best(trials) == trials[4]
    assert choose.best([trials[1], trials[3]]) == trials[1]
    assert choose.best(trials[5:6]) is None
