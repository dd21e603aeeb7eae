"""What stands beside the figures of runs that were packed, and of runs that failed."""

from __future__ import annotations

from raymix.report import facts
from raymix.report.formats import as_markdown
from raymix.report.notes import MOST_NAMED, failed_note, not_finite_note, packed_note
from raymix.report.pilot import FailedRun
from tests.report.factory import make_history, make_pilot, make_plan


def failed(seed: int) -> FailedRun:
    return FailedRun(name=f"mix-seed{seed}-T2.00", arm="mix", seed=seed, length=2.0, attempts=2, why="killed")


def test_failed_runs_are_named_with_why_the_first_of_many() -> None:
    assert failed_note([]) == ""
    one = failed_note([failed(3)])
    assert one.startswith("1 run failed for good and is left out: mix, seed 3, 2T: killed. Arms are compared")
    many = failed_note([failed(seed) for seed in range(MOST_NAMED + 4)])
    assert f"{MOST_NAMED + 4} runs failed for good and are left out" in many
    assert f"seed {MOST_NAMED - 1}," in many
    assert f"seed {MOST_NAMED}," not in many
    assert "; and 4 more, which pilot.json names." in many


def test_seconds_of_packed_runs_are_not_held_against_the_plan() -> None:
    report = make_pilot(2, lengths=(1.0,))
    assert packed_note(report.arms) == ""
    assert not report.packed
    mix = tuple(run.model_copy(update={"packed": True}) for run in report.arms["mix"])
    packed = report.model_copy(update={"arms": {**report.arms, "mix": mix}})
    assert packed.packed
    assert packed_note(packed.arms).startswith("2 of 10 runs trained side by side with others: the seconds they took")
    cells = {line.arm: facts.cost_cells(line) for line in facts.arm_lines(packed)}
    assert cells["mix"][1:3] == ["side by side", "-"]
    assert cells["sl"][1:3] == ["42.7", "+0.0 %"]
    assert "side by side" in as_markdown(packed)


def test_workers_that_were_held_are_counted_as_often_as_they_were() -> None:
    report = make_pilot(1)
    assert report.held == report.wall_seconds * report.workers
    assert report.model_copy(update={"held_worker_seconds": 14_400.0}).held == 14_400.0


def test_what_was_not_finite_is_told_beside_the_figures() -> None:
    history = make_history(make_plan(), 3)
    assert not_finite_note(history) == ""
    first = history.reports[0].model_copy(update={"skipped": 2})
    skipped = history.reported(0, (first, *history.reports[1:]))
    assert not_finite_note(skipped) == "2 steps skipped: loss or gradient not finite."
    back = history.rolled_back(history, "the loss is not finite in steps 7 to 9")
    step = history.done_steps
    assert not_finite_note(back) == (
        f"Rolled back, at half the rate each time: back to step {step} (the loss is not finite in steps 7 to 9)."
    )
