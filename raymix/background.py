"""A run in the background: a process of its own, so that neither Ctrl-C in a notebook nor its kernel's end ends it."""

from __future__ import annotations

import html
import json
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from raymix.bucket import shown, visited
from raymix.jobfile import job_text
from raymix.report.folder import RUN_FILE, read_run
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import Interrupted, RunFailed, check
from raymix.spec import JobError, JobSpec

State = Literal["starting", "training", "done", "interrupted", "failed"]


class RunStatus(NamedTuple):
    """How far a run has come."""

    state: State
    step: int  # optimizer steps done
    num_steps: int  # of the plan as it began; 0: there is none yet
    row: dict[str, Any]  # the newest of metrics.jsonl: losses, select_top1, images_per_second and the like
    line: str  # what the command said last


class BackgroundRun:
    """A run that was started with `raymix.run(job, wait=False)`. It ends by itself, or with `stop`."""

    def __init__(self, spec: JobSpec, flags: list[str], allow_import: tuple[str, ...]) -> None:
        """Starts `raymix run` with `flags`.

        Raises:
            JobError: the job is wrong, or its folder may not be used; nothing was started or written.
        """
        check(spec, allow_import)
        self.folder = storage_of(spec) / spec.name
        RunFolder(spec, self.folder, "--resume" in flags, "--overwrite" in flags, may_grow=True)
        self._began = self._size()  # of an earlier attempt's metrics.jsonl
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the run)
        named = [part for factory in allow_import for part in ("--allow-import", factory)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "raymix", "run", "-", *flags, *named],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C is not for it
        )
        assert self._process.stdin
        with suppress(BrokenPipeError), self._process.stdin as job:
            job.write(job_text(spec))

    def status(self) -> RunStatus:
        """How far it has come, by what it has written."""
        self._look()
        code, row, num_steps = self._process.poll(), self._row(), 0
        with suppress(OSError, ValueError, KeyError):
            phases = json.loads((self.folder / "plan.json").read_text())["phases"]
            num_steps = sum(phase["steps"] for phase in phases)
        state: State = "training" if self._size() != self._began and row else "starting"
        if code is not None:
            state = "done" if code == 0 else "interrupted" if code in (130, 143) else "failed"
        return RunStatus(state, row.get("step", 0), num_steps, row, self._last())

    def wait(self, seconds: float | None = None) -> RunReport:
        """Its report, once it has ended; an interrupt ends the waiting, not the run.

        Raises:
            TimeoutError: it has not ended within `seconds`.
            JobError: the machines cannot give what it asks for.
            RunFailed: training failed for good.
            Interrupted: it was stopped; `report` says what was done, and `resume=True` goes on.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.folder.name} has not ended within {seconds:g} s") from None
        self._look()
        if code == 0:
            return read_run(self.folder)
        line = self._last().removeprefix("error: ").removeprefix("interrupted: ")
        report = read_run(self.folder) if code != 2 and (self.folder / RUN_FILE).is_file() else None
        if code in (130, 143):
            raise Interrupted(code - 128, line, report)
        if code == 2:
            field, _, problem = line.partition(": ")
            raise JobError(field, problem)
        raise RunFailed(line or f"its process ended with code {code}", report)

    def stop(self) -> None:
        """Asks for a checkpoint and an early end, as Ctrl-C does; does not wait. Twice ends it without one."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def __repr__(self) -> str:
        now = self.status()
        return f"<{self.folder.name}: {now.state}, step {now.step} of {now.num_steps or '?'}; {now.line}>"

    def _repr_html_(self) -> str:
        if (now := self.status()).state == "done":
            return read_run(self.folder)._repr_html_()
        told = f"<b>{html.escape(self.folder.name)}</b> {now.state}, step {now.step} of {now.num_steps or '?'}"
        bar = f'<progress max="{now.num_steps or 1}" value="{now.step}"></progress>'
        return f"<div>{told} {bar}<br><small>{html.escape(now.line)}</small></div>"

    def _row(self) -> dict[str, Any]:
        """The newest row of metrics.jsonl that is whole, of a segment."""
        with suppress(OSError):
            for line in reversed((self.folder / "metrics.jsonl").read_text().splitlines()):
                with suppress(ValueError):  # it is being written
                    row: dict[str, Any] = json.loads(line)
                    if row.get("event") == "segment":
                        return row
        return {}

    def _look(self) -> None:
        """Of a run on object storage, as it is there now."""
        visited(shown(self.folder))

    def _size(self) -> int:
        file = self.folder / "metrics.jsonl"
        return file.stat().st_size if file.is_file() else 0

    def _last(self) -> str:
        self._said.seek(0)
        lines = [line for line in self._said.read().splitlines() if line.strip()]
        return lines[-1] if lines else ""


def start(spec: JobSpec, allow_import: tuple[str, ...], **flags: bool) -> BackgroundRun:
    """Starts a run with the flags of `raymix run` that are true."""
    return BackgroundRun(spec, [f"--{name}" for name, given in flags.items() if given], allow_import)
