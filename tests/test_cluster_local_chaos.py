"""`cluster/local/up.sh`: three nodes come, take a submitted job from the clone, and leave nothing when it is ended."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raymix.report.run import RunReport
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


LAST = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}  # helpers of Ray that notice within a minute


def running(process: psutil.Process) -> str | None:
    """What a process calls itself; None: it has ended."""
    try:
        return (process.cmdline() or [None])[0]
    except psutil.NoSuchProcess:
        return None


def free_ports() -> tuple[int, int]:
    """One for nodes, and the first of five for the dashboard and its agents, below those that Ray's workers take."""
    for first in range(7000 + os.getpid() % 900, 9900, 7):
        try:
            for port in range(first, first + 6):
                with socket.socket() as tried:
                    tried.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first, first + 1
    raise AssertionError("no free ports")


def test_a_job_is_submitted_to_it_and_nothing_is_left(tmp_path: Path) -> None:
    port, dashboard = free_ports()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PORT": str(port), "DASHBOARD_PORT": str(dashboard)}
    up = subprocess.Popen(
        [str(REPOSITORY / "cluster" / "local" / "up.sh"), "1"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert up.stdout is not None
    told = [up.stdout.readline() for _ in range(3)]
    try:
        variables = dict(re.findall(r"(RAY_AUTH_\w+)=(\S+)", told[0]))
        assert variables["RAY_AUTH_MODE"] == "token", told
        assert "ray job submit" in told[2], told
        few = [f"storage={tmp_path}", "schedule.ssl_epochs=1", "schedule.sl_epochs=1"]
        command = [
            "ray",
            "job",
            "submit",
            "--address",
            f"http://127.0.0.1:{dashboard}",
            "--working-dir",
            str(REPOSITORY),
        ]
        command += ["--", "python", "-m", "raymix", "run", "jobs/digits.yaml"]
        command += [word for value in few for word in ("--set", value)]
        denied = subprocess.run(
            command, env={**environment, "RAY_AUTH_MODE": "disabled"}, capture_output=True, check=False
        )
        assert denied.returncode != 0, "without the token"
        assert not list(tmp_path.iterdir())
        done = subprocess.run(
            command, env={**environment, **variables}, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        report = RunReport.model_validate_json((tmp_path / "digits" / "report.json").read_bytes())
        assert (report.status, report.workers) == ("done", 2)
    finally:
        below = psutil.Process(up.pid).children(recursive=True)
        up.terminate()
        assert up.wait(40) == 143
    until = time.monotonic() + 10
    while alive := [name for process in below if (name := running(process)) and name not in LAST]:
        assert time.monotonic() < until, alive
        time.sleep(0.2)
