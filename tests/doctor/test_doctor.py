"""The table of checks, and the command that prints it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raymix import cli_doctor, doctor
from raymix.doctor import CHECKS, Check, examine
from raymix.doctor.patient import Patient
from raymix.report.finding import Finding, Told, worst
from tests.conftest import REPOSITORY, Raymix

WITHOUT_RAY = ("--set", "cluster.workers=0")
ONLY_RAY = {"ray", "object store", "access", "nodes"}  # looked at in tests/on_ray


def test_every_check_of_a_job_answers_within_its_time_and_says_what_to_do(
    patient: Callable[..., Patient], tmp_path: Path
) -> None:
    started = time.monotonic()
    found = {finding.name: finding for finding in examine(patient())}
    assert time.monotonic() - started < min(check.seconds for check in CHECKS.values() if check.seconds > 10)
    assert set(found) | {"nccl"} == set(CHECKS) - ONLY_RAY | {"nccl"}, "there may be no two GPUs"
    for name, finding in found.items():
        assert finding.found, name
        assert "\n" not in finding.found + finding.todo, name
        assert bool(finding.todo) == (finding.status != "ok"), finding
        assert "the check itself failed" not in finding.todo, finding
    assert {name: finding.status for name, finding in found.items() if finding.status == "problem"} == {}
    told = found["storage"].found
    assert told.startswith(f"{tmp_path}: writes, reads, renames, syncs, locks"), "where the storage will be made"
    assert "3 checkpoints of 3.39 MB" in told, "of the nano model's size"
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_raises_or_hangs_is_a_problem_and_the_others_answer(
    patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Patient) -> Told:
        raise KeyError("what\nnot")

    table = {
        "hangs": Check(lambda _: time.sleep(60), 0.2),  # type: ignore[func-returns-value]
        "raises": Check(fail, 5),
        "nothing": Check(lambda _: None, 5),
        "fine": Check(lambda _: Told("ok", "is"), 5),
    }
    monkeypatch.setattr(doctor, "CHECKS", table)
    found = {finding.name: finding for finding in examine(patient())}
    assert list(found) == ["hangs", "raises", "fine"]
    assert [finding.status for finding in found.values()] == ["problem", "problem", "ok"]
    assert found["hangs"].found == "no answer within 0.2 s"
    assert found["raises"].found == "KeyError: 'what\\nnot'"


def test_the_first_of_the_worst_says_what_to_do() -> None:
    told = worst(Told("note", "a", "b"), Told("problem", "c", "d"), Told("problem", "e", "f"), Told("ok", "g"))
    assert told == Told("problem", "c; e", "d")


def test_a_process_that_dies_is_a_problem_with_its_last_words(patient: Callable[..., Patient]) -> None:
    one = patient()
    one.torch._process.kill()
    told = one.torch.told("gpus")
    assert told is not None
    assert (told.status, told.found) == ("problem", "its process ended with code -9: ")


def test_the_command_exits_with_one_where_there_is_a_problem(raymix: Raymix) -> None:
    done = raymix("doctor", *WITHOUT_RAY, "--set", "storage=/proc/1/here", "--json")
    assert done.code == 1
    found = {finding["name"]: finding for finding in json.loads(done.out)}
    assert found["storage"]["status"] == "problem"
    assert found["storage"]["todo"].startswith("name another folder")
    assert set(found["storage"]) == {"name", "status", "found", "todo"}
    assert "data" not in found, "without a job there is none"


def test_a_line_for_each_check_and_one_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    fine = Finding(name="clock", status="ok", found="steady", todo="")
    cli_doctor._show([fine])
    assert capsys.readouterr().out.splitlines()[-1] == "no problem found"
    cli_doctor._show([fine, Finding(name="disk", status="problem", found="is [red]", todo="buy one")])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[-4:] == [
        ["clock", "ok", "steady"],
        ["disk", "problem", "is", "[red]"],
        ["->", "buy", "one"],
        ["1", "problem", "found"],
    ]


def test_a_wrong_job_is_refused_as_ever(raymix: Raymix) -> None:
    done = raymix("doctor", *WITHOUT_RAY, "--set", "optim.btach=3")
    assert (done.code, done.out) == (2, "")
    assert "optim.btach" in done.err


def test_a_signal_ends_it_and_what_it_has_started(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raymix", "doctor", *WITHOUT_RAY, "--set", f"storage={tmp_path}"]
    marker = str(tmp_path)
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, "RAYMIX_CACHE": marker}, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while not _with(marker, besides=process.pid):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.startswith("interrupted")) == (128 + signal.SIGTERM, True)
    assert _with(marker, besides=process.pid) == []
    assert list(tmp_path.glob(".raymix-doctor-*")) == []


def _with(marker: str, besides: int) -> list[int]:
    """Processes with a text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "environ").read_bytes() and int(folder.name) != besides:
                found.append(int(folder.name))
        except OSError:
            continue
    return found
