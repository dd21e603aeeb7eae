"""Finding, reading and writing run folders."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from raymix.report.folder import best_run, find_runs, pilot_runs, read_pilot, read_run, write_text
from raymix.report.run import RunReport
from raymix.spec import JobError
from tests.report.factory import make_pilot, make_run


def put(folder: Path, report: RunReport) -> Path:
    folder.mkdir(parents=True)
    write_text(folder / "report.json", report.model_dump_json(indent=1))
    return folder


def scored(name: str, top1: float, worker_seconds: float = 10.0) -> RunReport:
    report = make_run(name)
    assert report.final is not None
    return report.model_copy(
        update={
            "final": report.final.model_copy(update={"top1": top1}),
            "totals": report.totals.model_copy(update={"worker_seconds": worker_seconds}),
        }
    )


def test_a_run_is_read_from_its_folder_or_its_file(tmp_path: Path) -> None:
    folder = put(tmp_path / "a", make_run("a"))
    assert read_run(folder) == read_run(folder / "report.json") == make_run("a")


def test_a_pilot_is_read_from_its_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "pilot.json", make_pilot(1).model_dump_json())
    assert read_pilot(tmp_path) == read_pilot(str(tmp_path / "pilot.json")) == make_pilot(1)
    with pytest.raises(JobError, match=r"no report\.json \(it holds pilot\.json\)"):
        read_run(tmp_path)


def test_the_runs_of_a_pilot_are_found_where_it_says(tmp_path: Path) -> None:
    report = make_pilot(2)
    put(tmp_path / "runs" / "seed1-1", make_run("seed1-1"))
    for path in (tmp_path, tmp_path / "pilot.json"):
        found = pilot_runs(path, report)
        assert list(found) == list(report.arms)
        assert [run.name for run in found["mix"]] == ["seed1-1"]


@pytest.mark.parametrize("content", [None, "", "{", '{"name": 3}', "[]", "\x00"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(JobError) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
    assert "report.json" in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nowhere: no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(JobError, match="no such folder"):
        find_runs(tmp_path / "nowhere")


def test_runs_are_found_below_pilots_and_broken_ones_are_named(tmp_path: Path) -> None:
    put(tmp_path / "b", make_run("b"))
    put(tmp_path / "a-pilot" / "runs" / "mix-seed0", make_run("mix-seed0"))
    put(tmp_path / "a-pilot" / "checkpoints" / "old", make_run("old"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("{")
    told: list[str] = []
    found = find_runs(tmp_path, told.append)
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found] == ["a-pilot/runs/mix-seed0", "b"]
    assert len(told) == 1
    assert "broken" in told[0]


def test_broken_runs_are_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text("{")
    assert find_runs(tmp_path) == []
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "left out" in captured.err


def test_the_best_run_has_the_highest_top1_then_the_smaller_bill(tmp_path: Path) -> None:
    put(tmp_path / "weak", scored("weak", 10))
    put(tmp_path / "dear", scored("dear", 20, 100.0))
    put(tmp_path / "cheap", scored("cheap", 20, 5.0))
    put(tmp_path / "cut", make_run("cut", status="interrupted"))
    path, report = best_run(tmp_path)
    assert (path, report.name) == (tmp_path / "cheap", "cheap")


def test_no_finished_run_is_no_best_run(tmp_path: Path) -> None:
    put(tmp_path / "cut", make_run("cut", status="interrupted"))
    with pytest.raises(JobError, match="no finished run"):
        best_run(tmp_path)


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old ±")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_text(file, "new")
    assert file.read_text(encoding="utf-8") == "old ±"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
