"""The torchrun group beside a session: started, asked in turns, ended; seen from the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from raymix.bench.scaling.messages import SOCKET, Failed, Load, Run
from raymix.session import RunFailed

_RANK = "raymix.bench.scaling.rank"
START_SECONDS = 300.0
CLOSE_SECONDS = 10.0
_POLL_SECONDS = 0.2
_LONGEST = 70
_LETTERS = 600  # of what torchrun said last


class Torchrun:
    """`workers` ranks of `raymix.bench.scaling.rank`; they live until `close`, or until this process is gone."""

    def __init__(self, workers: int, device: str, folder: Path) -> None:
        """Starts them and does not wait; `folder` takes what they say."""
        self._workers, self._log = workers, folder / f"torchrun-{workers}.log"
        self._lines: list[Connection] = []
        self.processes: list[int] = []  # of the ranks
        # a folder of its own, which nobody else may enter; a socket's path may have about a hundred letters
        short = "/tmp" if len(str(folder)) > _LONGEST else None
        self._private = tempfile.TemporaryDirectory(prefix="raymix-", dir=short)
        path = f"{self._private.name}/socket"
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(path)
        self._server.listen(workers)
        self._server.settimeout(_POLL_SECONDS)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
        command += [f"--log-dir={folder}", "--module", _RANK, device]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", SOCKET: path}
        with self._log.open("wb") as log:
            # a session of its own: Ctrl-C is the command's, which ends the group in order
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait(self) -> None:
        """Returns when every rank has said that it is there.

        Raises:
            RunFailed: one has failed.
        """
        deadline, found = time.monotonic() + START_SECONDS, dict[int, Connection]()
        while len(found) < self._workers:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._failed()
            with suppress(TimeoutError):
                line = Connection(self._server.accept()[0].detach())
                self._lines.append(line)
                hello = line.recv()
                self.processes.append(hello.process)
                found[hello.rank] = line
        self._lines = [found[number] for number in range(self._workers)]
        self._answers()

    def ask(self, what: Load | Run) -> list[Any]:
        """The answers of all ranks.

        Raises:
            RunFailed: one has failed; with what it said.
        """
        try:
            for line in self._lines:
                line.send(what)
        except OSError:
            raise self._failed() from None
        return self._answers()

    def close(self) -> None:
        """Ends the ranks and forgets them."""
        for line in self._lines:
            with suppress(OSError):
                line.send(None)
            line.close()
        self._server.close()
        self._private.cleanup()
        if not self.processes and self._process.poll() is None:  # they are still starting
            self._process.terminate()
        try:
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            for process in self.processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_SECONDS)
            self._process.kill()
            self._process.wait()

    def _answers(self) -> list[Any]:
        answers = []
        for line in self._lines:
            try:
                answer = line.recv()
            except (EOFError, OSError):
                raise self._failed() from None
            if isinstance(answer, Failed):
                raise RunFailed(f"torchrun: {answer.why}")
            answers.append(answer)
        return answers

    def _failed(self) -> RunFailed:
        """What a rank said before it failed, or the last lines that there are."""
        for line in self._lines:
            with suppress(EOFError, OSError):
                while line.poll():
                    if isinstance(told := line.recv(), Failed):
                        return RunFailed(f"torchrun: {told.why}")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)
        text = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        last = " | ".join(line.strip() for line in text if line.strip(" -=")).strip()
        code = self._process.returncode
        return RunFailed(f"torchrun ended ({'still starting' if code is None else code}): {last[-_LETTERS:]}")
