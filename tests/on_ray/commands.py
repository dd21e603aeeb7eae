"""`raymix` as a shell starts it: in a process group of its own, its lines read as they come, its family watched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY

SECONDS = 240.0  # a test that waits longer has failed; three busy test processes on two cores took 150


class Command:
    """A running `raymix ...` whose output is piped."""

    def __init__(self, *arguments: str, temporary: Path, inside: Sequence[str] = ()) -> None:
        self.process = psutil.Popen(
            [*inside, sys.executable, "-m", "raymix", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.out, self.err = list[str](), list[str]()
        self.heard = list[tuple[float, str]]()  # lines on standard error, with time.monotonic()
        self.family = set[psutil.Process]()
        self.listening = set[tuple[str, str]]()  # name of a process, address that it listens on
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True),
            threading.Thread(target=self._watch, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, line: str) -> None:
        """Waits for a line on standard error."""
        until = time.monotonic() + SECONDS
        while line not in self.err:
            assert self.process.poll() is None, self.err
            assert time.monotonic() < until, self.err
            time.sleep(0.05)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def interrupt(self) -> None:
        """Ctrl-C: a terminal sends it to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Its exit code, once it has ended and all its lines are read."""
        until = time.monotonic() + SECONDS
        # psutil's wait() knows no code where the thread that watches has asked first
        while (code := self.process.poll()) is None:
            assert time.monotonic() < until, self.err
            time.sleep(0.05)
        for thread in self._threads:
            thread.join(SECONDS)
        return int(code)

    def left(self, seconds: float = 20.0, lingering: frozenset[str] = frozenset()) -> list[str]:
        """What it started and is still there after so many seconds; not waited for are the processes of such names."""
        waited_for = [process for process in self.family if _name(process) not in lingering]
        _, alive = psutil.wait_procs(waited_for, seconds)
        return [_name(process) for process in alive]

    def groups(self) -> dict[str, int]:
        """The process groups of what it has started, by name."""
        found = dict[str, int]()
        for process in self.family:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                found[process.name()] = os.getpgid(process.pid)
        return found

    def _read(self, stream: Iterable[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # one by one: others read along
            if lines is self.err:
                self.heard.append((time.monotonic(), lines[-1]))

    def _watch(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while self.process.poll() is None:
                self.family.update(self.process.children(recursive=True))
                for process in (self.process, *self.family):
                    self.listening.update(_listens(process))
                time.sleep(0.5)  # looking through all processes is work


def _name(process: psutil.Process) -> str:
    """The name of a process, or of what it was."""
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return "gone"


def _listens(process: psutil.Process) -> set[tuple[str, str]]:
    """The addresses at which a process can be reached, unless it has ended."""
    try:
        sockets = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        return {(process.name(), one.laddr.ip.removeprefix("::ffff:")) for one in sockets}
    except psutil.Error:
        return set()


@contextmanager
def started(*arguments: str, inside: Sequence[str] = ()) -> Iterator[Command]:
    """A `raymix` command with a folder of its own for temporary files; whatever is left of it is ended.

    `inside`: the command that runs commands where it is to run.
    """
    # a short path: Ray's sockets lie below it, and the path of a socket has 107 characters at most
    temporary = Path(tempfile.mkdtemp(prefix="rx"))
    (temporary / "ray").mkdir()
    command = Command(*arguments, temporary=temporary, inside=inside)
    try:
        yield command
        command.end()
        assert list(temporary.glob("raymix-*")) == [], "temporary files stay behind"
    finally:
        for process in (command.process, *command.family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(temporary, ignore_errors=True)
