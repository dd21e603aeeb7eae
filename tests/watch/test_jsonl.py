"""metrics.jsonl: a row a segment and a change of plan, exact after a resume, whatever a crash left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raymix.plan import Decision
from raymix.watch.jsonl import JsonlSink
from tests.conftest import no_larger_file
from tests.report.factory import make_history, make_plan, make_reports, make_run


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, run: str, start: int, end: int, decided: tuple[int, ...] = ()) -> None:
    """The segments [start, end) of a run, as an attempt that goes on after `start` segments.

    Decisions are made before those of the numbers `decided`; a checkpoint holds those before segments it holds.
    """
    plan = make_plan()
    sink, reports = JsonlSink(path, clock=lambda: 100.0), make_reports(plan)
    decisions = {number: decision_at(reports[number].segment.start) for number in decided}
    before = tuple(decision for number, decision in decisions.items() if number < start)
    sink.begin(run, plan, make_history(plan, start).model_copy(update={"decisions": before}))
    for number in range(start, end):
        if number in decisions:
            sink.decided(run, decisions[number])
        sink.segment(run, reports[number])
    sink.close()


def decision_at(step: int) -> Decision:
    return Decision(step=step, steps=(188, 100 + step, 125), reason="steps are slower")


def test_a_row_holds_the_segment(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, "a", 0, 1)
    report = make_reports(make_plan())[0]
    (row,) = rows(path)
    assert row["run"] == "a"
    assert row["step"] == report.segment.steps
    assert row["kind"] == "ssl"
    assert row["lr"] == report.segment.lr[1]
    assert row["weight"] == 1.0
    assert row["ssl_loss"] == report.ssl_loss
    assert row["sl_loss"] is None
    assert row["images_per_second"] == report.images / report.seconds
    assert row["time"] == 100.0


def test_rows_tell_of_skipped_steps_and_of_roll_backs(tmp_path: Path) -> None:
    """A roll-back stands where the run goes on, once, however often the run begins with it."""
    path, plan = tmp_path / "metrics.jsonl", make_plan()
    history, report = make_history(plan, 2), make_reports(plan)[2].model_copy(update={"skipped": 3})
    end = history.done_steps
    rolled_back = history.add(report).rolled_back(history, "the loss is not finite in steps 7 to 9")
    sink = JsonlSink(path)
    sink.begin("a", plan, make_history(plan, 0))
    for one in (*history.reports, report):
        sink.segment("a", one)
    assert rows(path)[-1]["skipped"] == 3
    assert rows(path)[-1]["note"] == "3 steps skipped: loss or gradient not finite"
    assert "note" not in rows(path)[0]
    for _ in range(2):
        sink.begin("a", plan, rolled_back)
        told = rows(path)
        assert [row["event"] for row in told] == ["segment", "segment", "roll_back"]
        assert (told[-1]["step"], told[-1]["reason"]) == (end, "the loss is not finite in steps 7 to 9")
    sink.close()


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "new" / "metrics.jsonl")
    sink.segment("a", make_reports(make_plan())[0])
    assert len(rows(tmp_path / "new" / "metrics.jsonl")) == 1
    sink.close()


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(whole, "a", 0, 8)
    write(resumed, "a", 0, 6)
    write(resumed, "a", 4, 8)
    assert rows(resumed) == rows(whole)


def test_a_change_of_plan_is_a_row_before_the_segment_from_which_on_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, "a", 0, 6, (0, 4))
    assert [row["event"] for row in rows(path)] == ["decision", *["segment"] * 4, "decision", *["segment"] * 2]
    decision, before = rows(path)[5], rows(path)[4]
    assert decision["step"] == before["step"]
    assert (decision["steps"], decision["reason"]) == ([188, 100 + before["step"], 125], "steps are slower")


@pytest.mark.parametrize("saved", [3, 4, 5])
@pytest.mark.parametrize("written", [3, 4, 5])
def test_a_resumed_run_has_each_change_of_plan_once(tmp_path: Path, saved: int, written: int) -> None:
    """Whether the file or the checkpoint has come further."""
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(whole, "a", 0, 8, (0, 4))
    write(resumed, "a", 0, written, (0, 4))
    write(resumed, "a", saved, 8, (0, 4))
    assert rows(resumed) == rows(whole)


def test_a_half_written_last_line_is_cut(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(whole, "a", 0, 6)
    for length in (1, 30, -2, -1):
        write(resumed, "a", 0, 3)
        lines = resumed.read_text().splitlines(keepends=True)
        resumed.write_text("".join(lines[:2]) + lines[2][:length])
        write(resumed, "a", 2, 6)
        assert rows(resumed) == rows(whole)


def test_rows_that_a_killed_driver_did_not_write_are_made_up_from_the_history(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    write(whole, "a", 0, 8)
    write(resumed, "a", 0, 3)
    write(resumed, "a", 6, 8)
    assert rows(resumed) == rows(whole)


def test_other_runs_keep_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, "a", 0, 3)
    write(path, "b", 0, 2)
    write(path, "a", 1, 2)
    assert [row["run"] for row in rows(path)] == ["a", "b", "b", "a"]


def test_a_run_begun_anew_drops_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, "a", 0, 3)
    write(path, "a", 0, 1)
    assert len(rows(path)) == 1


def test_nothing_is_written_before_there_is_a_segment(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "metrics.jsonl")
    sink.stage("decoding", 1, 2)
    sink.note("a note")
    sink.begin("a", make_plan(), make_history(make_plan(), 0))
    sink.end("a", make_run())
    sink.close()
    sink.close()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_rows_wait_for_room_and_none_is_written_by_halves(tmp_path: Path) -> None:
    path, told, plan = tmp_path / "metrics.jsonl", list[str](), make_plan()
    sink, reports = JsonlSink(path, tell=told.append), make_reports(plan)
    sink.begin("a", plan, make_history(plan, 0))
    sink.segment("a", reports[0])
    whole = path.read_bytes()
    for first in (1, 4):
        with no_larger_file(path.stat().st_size + 100):
            for report in reports[first : first + 2]:
                sink.segment("a", report)
            assert path.read_bytes() == whole
        sink.segment("a", reports[first + 2])
        whole = path.read_bytes()
    sink.close()
    assert len(rows(path)) == len({str(row["step"]) for row in rows(path)}) == 7
    assert told == 2 * ["metrics.jsonl could not be written (File too large); it is tried again, training goes on"]


def test_a_run_that_begins_without_room_is_cut_back_later(tmp_path: Path) -> None:
    path, plan = tmp_path / "metrics.jsonl", make_plan()
    write(path, "a", 0, 4)
    before = path.read_bytes()
    sink, reports = JsonlSink(path, clock=lambda: 100.0), make_reports(plan)
    with no_larger_file(100):
        sink.begin("a", plan, make_history(plan, 2))
        sink.segment("a", reports[2])
        assert path.read_bytes() == before
    sink.segment("a", reports[3])
    sink.close()
    assert path.read_bytes() == before, "each row once"


def test_rows_that_wait_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymix.watch.jsonl.WAITING", 2)
    path = tmp_path / "metrics.jsonl"
    sink, reports = JsonlSink(path), make_reports(make_plan())
    with no_larger_file(0):
        for report in reports[:4]:
            sink.segment("a", report)
    sink.close()
    assert [row["step"] for row in rows(path)] == [r.segment.start + r.segment.steps for r in reports[2:4]]
