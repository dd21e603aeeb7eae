"""What a reader is told of a pilot that was extended after a look at it."""

from __future__ import annotations

from raymix.report.requests import Request, requests_note

FIRST = Request(seeds={"sl": 5, "mix": 5}, lengths={"T": 5})


def test_seeds_fixed_beforehand_need_no_word() -> None:
    assert requests_note([FIRST]) == ""
    assert requests_note([FIRST, FIRST.model_copy(update={"seeds": {"sl": 5, "mix": 8}})]) == "", "nothing was seen yet"


def test_seeds_raised_after_a_look_are_told_with_what_was_seen() -> None:
    more = Request(seeds={"sl": 5, "mix": 8, "hot": 5}, lengths={"T": 5, "2T": 5}, seen=5, measured=("hot",))
    told = requests_note([FIRST, more])
    assert "it was raised from 5 to 8 (mix) after 5 seeds had been seen" in told
    assert "Added after 5 seeds had been seen: hot, length 2T." in told
    assert "Step times measured later than those of the other arms: hot." in told


def test_what_was_asked_for_and_is_left_out_is_told() -> None:
    less = Request(seeds={"sl": 5}, lengths={"T": 5}, seen=5)
    assert requests_note([FIRST, less]) == "Of mix more was asked for earlier than is shown."
    again = requests_note([FIRST, less, FIRST.model_copy(update={"seen": 5})])
    assert again == "", "an arm that comes back was not added"


def test_a_start_that_was_not_kept_is_told() -> None:
    assert "before 5 seeds had been seen was not kept" in requests_note([FIRST.model_copy(update={"seen": 5})])


def test_merged_runs_are_told() -> None:
    assert requests_note([FIRST], 1).startswith("1 run was made by another copy of this pilot")
