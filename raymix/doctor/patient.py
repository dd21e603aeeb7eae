"""What is examined: a job, or the machine alone, and the processes that look at torch and at Ray."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from raymix.report.finding import Told
from raymix.spec import JobSpec

END_SECONDS = 5.0  # that a process which is told to end has before it is killed


class Patient:
    """A job and what is looked at for it; `is_job` False: its cluster and storage alone. To be closed."""

    def __init__(self, spec: JobSpec, is_job: bool) -> None:
        self.spec, self.is_job = spec, is_job
        self.folders = set[Path]()  # that checks have made and not yet taken away
        self._children, self._lock = dict[str, Child](), threading.Lock()

    @property
    def torch(self) -> Child:
        """The process that looks at torch and its GPUs; it starts when it is first asked for."""
        return self._child("raymix.doctor.devices")

    @property
    def ray(self) -> Child | None:
        """The process that looks at Ray, where the job uses it."""
        return self._child("raymix.on_ray.checkup") if self.spec.cluster.workers else None

    def close(self) -> None:
        """Ends the processes, and takes away what checks that did not end have left."""
        with self._lock:
            for child in self._children.values():
                child.close()
        for folder in tuple(self.folders):
            shutil.rmtree(folder, ignore_errors=True)

    def _child(self, module: str) -> Child:
        with self._lock:  # several checks ask at once
            if module not in self._children:
                asked = {"spec": self.spec.model_dump(mode="json"), "is_job": self.is_job}
                self._children[module] = Child(module, json.dumps(asked))
            return self._children[module]


class Child:
    """A process that runs `main()` of a module and tells a line of JSON for each check: [name, status, found, todo]."""

    def __init__(self, module: str, asked: str) -> None:
        code = f"from {module} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._told: dict[str, Told | None] = {}
        self._last = ""  # line of its standard error
        self._news = threading.Condition()
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(asked)
            self._process.stdin.close()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._hear, self._hear_errors)]
        for reader in self._readers:
            reader.start()

    def told(self, name: str) -> Told | None:
        """What it says about a check, once it has; None: that there is nothing to be looked at."""
        with self._news:
            self._news.wait_for(lambda: name in self._told or not self._readers[0].is_alive())
            if name in self._told:
                return self._told[name]
        self._readers[1].join(1.0)
        how = f"its process ended with code {self._process.wait()}"
        return Told("problem", f"{how}: {self._last}"[:300], "the last line says why")

    def number(self, name: str) -> int:
        """A number that it tells in the same way; 0 where it does not."""
        told = self.told(name)
        return int(told.found) if told is not None and told.status == "ok" else 0

    def close(self) -> None:
        """Ends it with all that it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        with suppress(ProcessLookupError):  # the group outlives its first process where that left others behind
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _hear(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with suppress(ValueError):  # whatever a library prints
                name, *told = json.loads(line)
                with self._news:
                    self._told[name] = Told(*told) if told else None
                    self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _hear_errors(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._last = line.strip() or self._last
