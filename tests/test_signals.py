"""Ctrl-C, SIGTERM and SIGHUP, sent to a real `raymix run`: a checkpoint, an exit code, and a run that can go on."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.signals import CAUGHT, Interrupted, Signals
from raymix.watch import Sinks

SECONDS = 120.0  # a test that waits longer has failed


class Process:
    """`raymix run JOB` as a user starts it."""

    def __init__(self, job: Path, *flags: str) -> None:
        # one thread: beside other tests, two would wait for each other
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "raymix", "run", str(job), *flags]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, path: Path, lines: int = 1) -> None:
        """Waits until a file has that many lines."""
        until = time.monotonic() + SECONDS
        while not path.is_file() or path.read_text().count("\n") < lines:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)

    def end(self, signum: int | None = None) -> tuple[int, str]:
        """Exit code and standard error, after a signal if one is given."""
        if signum is not None:
            self.process.send_signal(signum)
        _, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, err


def job_of(digits_job: dict[str, Any], folder: Path, epochs: int, every: float) -> Path:
    """A job of SL steps alone, so that its segments end at the evaluations."""
    asked = {
        **digits_job,
        "data": {**digits_job["data"], "fraction": 0.15, "label_fraction": 0.5},
        "storage": str(folder / "runs"),
        "schedule": {"ssl_epochs": 0, "sl_epochs": epochs},
        "optim": {"batch": 24},
        "evaluate": {"every": every, "max_share": 1},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(asked))
    return path


def interrupted(job: Path, folder: Path, signum: int, code: int) -> dict[str, Any]:
    """The report of a run that got a signal in its first segments."""
    process = Process(job)
    process.wait_for(folder / "metrics.jsonl")
    found, err = process.end(signum)
    assert found == code, err
    assert f"{signal.Signals(signum).name}: saving a checkpoint (once more ends at once, without one)" in err
    assert err.splitlines()[-1] == f"interrupted: checkpoint saved; --resume goes on from {folder}"
    assert "Traceback" not in err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    assert (report["status"], report["final"]) == ("interrupted", None)
    done = sum(phase["steps"] for phase in report["phases"])
    assert done > 0
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"step-{done:09d}"]
    return report


def test_sigterm_saves_a_checkpoint(digits_job: dict[str, Any], tmp_path: Path) -> None:
    job = job_of(digits_job, tmp_path, epochs=2000, every=0.001)
    interrupted(job, tmp_path / "runs" / "digits", signal.SIGTERM, 143)


def test_a_terminal_that_is_closed_saves_a_checkpoint(digits_job: dict[str, Any], tmp_path: Path) -> None:
    """Its kernel sends SIGHUP, and every write to it fails from then on."""
    job, folder = job_of(digits_job, tmp_path, epochs=2000, every=0.001), tmp_path / "runs" / "digits"
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        os.execve(sys.executable, [sys.executable, "-m", "raymix", "run", str(job)], {**os.environ, "TERM": "xterm"})
    until = time.monotonic() + SECONDS
    while not (folder / "metrics.jsonl").is_file() and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert json.loads((folder / "report.json").read_text())["status"] == "interrupted"
    assert len(list((folder / "checkpoints").glob("step-*"))) == 1


def test_resume_finishes_what_ctrl_c_left(digits_job: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "digits"
    job = job_of(digits_job, tmp_path, epochs=30, every=0.02)
    part = interrupted(job, folder, signal.SIGINT, 130)
    code, err = Process(job, "--resume").end()
    assert code == 0, err
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "done"
    assert report["final"]["num_val"] == report["rows"]["val"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)), "each step once"
    assert steps[: len(part["curve"])] == [point["step"] for point in part["curve"]]
    assert sum(row["images"] for row in rows) == sum(phase["images"] for phase in report["phases"])


# ---- the handler itself -----------------------------------------------------------------------------------------


class Session:
    """What of a session the handler touches."""

    stopped, groups = 0, 1

    def stop(self) -> None:
        self.stopped += 1


def test_the_second_signal_ends_at_once() -> None:
    session = Session()
    with Signals() as signals:
        signals.stop_gently(session, Sinks([]))  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGTERM)
        assert session.stopped == 1
        assert signals.received == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_cannot_be_told_is_obeyed() -> None:
    """While the main thread is blocked in a print to the same stream, Python refuses a second one."""

    class Blocked(Sinks):
        def note(self, text: str) -> None:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    session = Session()
    with Signals() as signals:
        signals.stop_gently(session, Blocked([]))  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
    assert session.stopped == 1


def test_a_signal_before_there_is_anything_to_save() -> None:
    with Signals(), pytest.raises(Interrupted, match=r"^nothing was trained yet$") as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM
    assert caught.value.report is None


def test_a_session_whose_workers_have_not_started_has_nothing_to_save() -> None:
    session = Session()
    session.groups = 0
    with Signals() as signals:
        signals.stop_gently(session, Sinks([]))  # type: ignore[arg-type]
        with pytest.raises(Interrupted, match=r"^nothing was trained yet$"):
            signal.raise_signal(signal.SIGINT)
    assert session.stopped == 0


def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_put_back_whatever_happens() -> None:
    before = [signal.getsignal(signum) for signum in CAUGHT]

    def fail() -> None:
        with Signals():
            assert signal.getsignal(signal.SIGINT) != before[0]
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        fail()
    assert [signal.getsignal(signum) for signum in CAUGHT] == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    """A notebook server or a web worker may call raymix.run in a thread, where Python allows no handlers."""
    found: list[bool] = []
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with Signals() as signals:
            found.append(signal.getsignal(signal.SIGINT) == before and signals.received is None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]


def test_a_signal_that_was_swallowed_while_a_session_opened_is_heard_after() -> None:
    class Open:
        groups = 1

        def stop(self) -> None:
            raise AssertionError

    with Signals() as signals:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)  # swallowed here, as C code may
        with pytest.raises(Interrupted, match="nothing was trained yet"):
            signals.stop_gently(Open(), Sinks([]))
