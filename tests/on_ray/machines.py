"""A Ray cluster of several nodes on this machine, each started as an operator starts it, with `ray start --block`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.on_ray.killing import SECONDS, workers_below

STORE = 100 * 10**6  # bytes of a node's object store
# as nobody else's Ray on this machine has anything to do with it
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Machine:
    """One node: `ray start` and all that it starts."""

    def __init__(
        self, temporary: Path, *arguments: str, address: str = "127.0.0.1", inside: Sequence[str] = ()
    ) -> None:
        """`address`: its own; `inside`: the command that runs commands where it stands."""
        self._told = Path(tempfile.mkstemp(dir=temporary)[1])
        self.process = psutil.Popen(
            [*inside, str(RAY), "start", "--block", f"--object-store-memory={STORE}", "--min-worker-port=0",
             "--max-worker-port=0", "--dashboard-agent-listen-port=0", f"--node-ip-address={address}", *arguments],
            env={**os.environ, **ENVIRONMENT, "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)},
            stdout=self._told.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def wait(self) -> None:
        """Until it has started. Two nodes of one machine that start at once take each other's ports."""
        until = time.monotonic() + SECONDS
        while "Ray runtime started" not in self._told.read_text():
            assert self.process.poll() is None, self._told.read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def family(self) -> list[psutil.Process]:
        """`ray start` and all below it."""
        with suppress(psutil.NoSuchProcess):
            return [self.process, *self.process.children(recursive=True)]
        return []

    def workers(self) -> list[psutil.Process]:
        """The training workers on it."""
        with suppress(psutil.NoSuchProcess):
            return workers_below(self.process)
        return []

    def kill(self) -> list[psutil.Process]:
        """SIGKILL of its raylet; what else ran on it, and ends without it."""
        family = self.family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                if process.name() == "raylet":
                    process.kill()
        return family


class Machines:
    """A head and some nodes."""

    def __init__(self, temporary: Path, head_cpus: int) -> None:
        self._temporary, self.port, self.dashboard = temporary, free_port(), free_port()
        self.head = Machine(
            temporary,
            "--head",
            f"--port={self.port}",
            f"--num-cpus={head_cpus}",
            f"--ray-client-server-port={free_port()}",
            f"--dashboard-port={self.dashboard}",
        )
        self.nodes, self._gone = list[Machine](), list[psutil.Process]()

    @property
    def address(self) -> str:
        """Of the head."""
        return f"127.0.0.1:{self.port}"

    def add(self, *arguments: str) -> None:
        """One more node, of one CPU."""
        node = Machine(self._temporary, f"--address={self.address}", "--num-cpus=1", *arguments)
        self.nodes.append(node)
        node.wait()

    def kill(self, node: Machine) -> None:
        """A node is lost."""
        self.nodes.remove(node)
        self._gone += node.kill()

    def family(self) -> list[psutil.Process]:
        """All processes of all nodes."""
        return [process for machine in (self.head, *self.nodes) for process in machine.family()]

    def submit(self, name: str, entrypoint: str, cwd: Path) -> None:
        """Hands the cluster a job, once it takes any."""
        until = time.monotonic() + SECONDS
        job = {"entrypoint": f"cd {cwd} && exec {entrypoint}", "submission_id": name}
        while True:
            with suppress(OSError, RuntimeError):
                self._jobs().submit_job(**job)
                return
            assert time.monotonic() < until
            time.sleep(1)

    def stop(self, name: str) -> str:
        """What becomes of a job that is stopped."""
        self._jobs().stop_job(name)
        return self.wait_for_job(name)

    def wait_for_job(self, name: str) -> str:
        """How a job ended."""
        until = time.monotonic() + SECONDS
        while not (status := self._jobs().get_job_status(name)).is_terminal():
            assert time.monotonic() < until
            time.sleep(0.2)
        return str(status.value)

    def close(self) -> None:
        """Ends everything at once."""
        for process in [*self.family(), *self._gone]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _jobs(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(f"http://127.0.0.1:{self.dashboard}")


@contextmanager
def machines(head_cpus: int, nodes: int) -> Iterator[Machines]:
    """A cluster with so many nodes of one CPU beside the head."""
    # a short path: Ray's sockets lie below it, and the path of a socket has 107 characters at most
    temporary = Path(tempfile.mkdtemp(prefix="rx"))
    (temporary / "ray").mkdir()
    made = Machines(temporary, head_cpus)
    try:
        made.head.wait()
        for _ in range(nodes):
            made.add()
        yield made
    finally:
        made.close()
        shutil.rmtree(temporary, ignore_errors=True)
