"""Processes in every state give their stacks and are ended; no Ray is started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from raymix.failing.pulse import Process
from raymix.failing.restarts import Cause
from raymix.on_ray import attend
from raymix.on_ray.restarts import cause_of

PROGRAM = """
import faulthandler, re, signal, sys, time
faulthandler.register(signal.SIGUSR1, file=open(sys.argv[1], "w"), all_threads=True)
print("up", flush=True)
WAY
"""
WAYS = {"sleeping": "time.sleep(60)", "running": "re.match('(a+)+$', 64 * 'a' + 'b')", "stopped": "time.sleep(60)"}


@contextmanager
def process_that(way: str, folder: Path) -> Iterator[Process]:
    stacks = folder / way
    command = [sys.executable, "-c", PROGRAM.replace("WAY", WAYS[way]), str(stacks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        if way == "stopped":
            child.send_signal(signal.SIGSTOP)
            while psutil.Process(child.pid).status() != "stopped":
                time.sleep(0.01)
        yield Process("node", "here", child.pid, attend.began_of(child.pid), str(stacks))
        child.kill()


def test_each_is_looked_at_and_ended(tmp_path: Path) -> None:
    with (
        process_that("sleeping", tmp_path) as sleeping,
        process_that("running", tmp_path) as running,
        process_that("stopped", tmp_path) as stopped,
    ):
        processes = dict(enumerate([sleeping, running, stopped]))
        assert all(attend.is_there(process) for process in processes.values())
        found = attend.end_here(processes)
        assert not any(attend.is_there(process) for process in processes.values())
    assert found[1].state == "running"
    assert found[2].state == "stopped"
    assert all("in <module>" in of.stacks for of in found.values())


def test_a_number_that_another_process_has_by_now_is_left_alone(tmp_path: Path) -> None:
    with process_that("sleeping", tmp_path) as process:
        found = attend.end_here({0: process._replace(began=process.began - 60)})
        assert found == {0: attend.Found("gone")}
        assert attend.is_there(process)


KILLED = "Worker unexpectedly exits with a connection error code 2. End of file. (3) the worker crashed. node deaths"


def died(said: str) -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("A worker health check failed.", failure=RayActorError(error_msg=said))


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.2]:4711")
CAUSES = {
    "killed": ({1: died(KILLED)}, Cause("worker 1 died: its process was killed or crashed")),
    "killed, and the others lost it": (
        {0: LOST, 1: died(KILLED), 2: LOST},
        Cause("worker 1 died: its process was killed or crashed"),
    ),
    "node": (
        {2: died("The actor died because its node has died. Node Id: 1")},
        Cause("worker 2 died: its node is gone"),
    ),
    "memory": (
        {0: died("Task was killed due to the node running low on memory.")},
        Cause("worker 0 died: Ray ended it, since its node was short of memory"),
    ),
    "an error": (
        {0: LOST, 1: ValueError("first line\nthe last one")},
        Cause("worker 1 failed with ValueError: the last one", "ValueError: the last one"),
    ),
    "lost": ({0: LOST}, Cause(f"worker 0 failed with RuntimeError: {LOST}")),
}


@pytest.mark.parametrize(("failures", "cause"), CAUSES.values(), ids=CAUSES)
def test_why_a_group_failed(failures: dict[int, Exception], cause: Cause) -> None:
    assert cause_of(WorkerGroupError("several lines", failures), {}) == cause


def test_why_a_group_did_not_start() -> None:
    none = cause_of(ControllerError(WorkerGroupStartupTimeoutError(3)), {})
    assert none == Cause("the cluster has no room for 3 workers now", counted=False)
    assert cause_of(ControllerError(WorkerGroupStartupFailedError("")), {}) == Cause("a worker died while it started")
    assert cause_of(ControllerError(ValueError("ours")), {}) is None
