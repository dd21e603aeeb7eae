"""Two commands in one folder: the second is refused in one line, and a dead one's lock is free."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix import lock
from raymix.lock import LOCK_FILE, check_free, held
from raymix.spec import JobError
from tests.conftest import Raymix

HOLD = """
import subprocess, sys, time
from pathlib import Path
from raymix.lock import held
with held(Path(sys.argv[1]), print):
    subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder, and has a child that outlives it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def silent(line: str) -> None:
    raise AssertionError(line)


def test_who_holds_a_folder_is_named(tmp_path: Path) -> None:
    with holder(tmp_path / "run") as other:
        line = f"^name: {tmp_path}/run is in use by process {other.pid} on {re.escape(socket.gethostname())} \\("
        with pytest.raises(JobError, match=line):
            check_free(tmp_path / "run")
        with pytest.raises(JobError, match=line), held(tmp_path / "run", silent):
            pass
        with held(tmp_path / "another", silent):
            pass


def test_a_killed_holders_lock_is_free(tmp_path: Path) -> None:
    """Though a child that it left behind still runs."""
    with holder(tmp_path) as other:
        other.kill()
        other.wait()
        assert (tmp_path / LOCK_FILE).is_file()
        check_free(tmp_path)
        with held(tmp_path, silent):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_stays_empty_is_taken_away_again(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b", silent):
        pass
    assert list(tmp_path.iterdir()) == []
    with held(tmp_path / "a" / "b", silent):
        (tmp_path / "a" / "b" / "job.yaml").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["job.yaml"]


def test_one_process_has_it_once(tmp_path: Path) -> None:
    """As two cells of a notebook in two threads."""
    with held(tmp_path, silent), pytest.raises(JobError, match="is in use"), held(tmp_path, silent):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).mkdir()
    with pytest.raises(JobError, match=f"^storage: {tmp_path}/run: Is a directory"), held(tmp_path / "run", silent):
        pass


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_process_is_looked_for(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(JobError, match=f"is in use by process {other.pid} "):
            check_free(tmp_path)
        other.kill()
        other.wait()
        with held(tmp_path, silent):
            mine: dict[str, Any] = json.loads((tmp_path / LOCK_FILE).read_text())
            with pytest.raises(JobError, match=f"is in use by process {os.getpid()} "):
                check_free(tmp_path)
        for earlier in ({"boot": "before the last start"}, {"began": "1"}):  # its number is somebody else's now
            (tmp_path / LOCK_FILE).write_text(json.dumps({**mine, **earlier}))
            check_free(tmp_path)
        for damaged in ("", "{", "[]", "{}"):
            (tmp_path / LOCK_FILE).write_text(damaged)
            check_free(tmp_path)


def test_another_host_is_watched_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 0.4)
    path, told = tmp_path / LOCK_FILE, list[str]()
    theirs = {"host": "elsewhere", "pid": 7, "boot": "b", "began": "1"}
    path.write_text(json.dumps(theirs))
    check_free(tmp_path)
    beat = threading.Timer(0.1, os.utime, [path])
    beat.start()
    with pytest.raises(JobError, match=r"is in use by process 7 on elsewhere .*delete "), held(tmp_path, told.append):
        pass
    beat.join()
    assert told == [f"{path} is of process 7 on elsewhere: 0.4 s to see if that lives"]
    with held(tmp_path, told.append):
        assert json.loads(path.read_text())["host"] == socket.gethostname()


def test_a_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    with held(tmp_path, silent):
        before, until = (tmp_path / LOCK_FILE).stat().st_mtime_ns, time.monotonic() + 5
        while (tmp_path / LOCK_FILE).stat().st_mtime_ns == before:
            assert time.monotonic() < until


@pytest.mark.parametrize("command", ["run", "pilot", "tune", "sweep"])
def test_no_command_comes_into_a_folder_in_use(
    raymix: Raymix, digits_job: dict[str, Any], tmp_path: Path, command: str
) -> None:
    asked = {
        "storage": str(tmp_path),
        "tune": {"trials": 2, "space": {"optim.lr": {"loguniform": [1e-4, 1e-2]}}},
        "sweep": {"data.label_fraction": [0.5, 1.0]},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**digits_job, **asked}))
    with holder(tmp_path / "digits") as other:
        for flags in ([], ["--resume"], ["--overwrite"]):
            code, _, err = raymix(command, tmp_path / "job.yaml", *flags)
            assert code == 2
            assert err.startswith(f"error: name: {tmp_path}/digits is in use by process {other.pid} on ")
            assert err.count("\n") == 1
    assert [path.name for path in (tmp_path / "digits").iterdir()] == [LOCK_FILE]


def test_two_that_start_at_once(digits_job: dict[str, Any], tmp_path: Path) -> None:
    """Both have found the folder free; the second comes to its lock while the first trains."""
    from raymix.jobfile import load_spec
    from raymix.runfolder import RunFolder

    spec = load_spec({**digits_job, "storage": str(tmp_path)})
    first, second = RunFolder(spec, tmp_path / "digits"), RunFolder(spec, tmp_path / "digits")
    with first.held(silent):
        with pytest.raises(JobError, match="is in use by process"), second.held(silent):
            pass
        (tmp_path / "digits" / "job.yaml").touch()
    with pytest.raises(JobError, match="has been used a moment ago"), second.held(silent):
        pass
