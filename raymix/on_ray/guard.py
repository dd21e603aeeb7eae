"""The driver's watch over a worker group: one that hangs is looked at, ended, and so started again by Ray Train."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import ray

from raymix.failing.pulse import Beat, Process
from raymix.failing.restarts import Cause
from raymix.failing.stacks import place, stuck
from raymix.failing.watchdog import LOOK_SECONDS, Alarm, Limits, Watchdog
from raymix.on_ray import attend
from raymix.on_ray.attend import Found
from raymix.on_ray.restarts import Restarts
from raymix.spec.failures import Failures
from raymix.train.task import Task
from raymix.watch import Sink

STACKS_FOLDER = "stacks"


class Guard:
    """Looks at the workers while a task is executed."""

    def __init__(self, failures: Failures, mailbox: Any) -> None:
        self._mailbox, self._watchdog = mailbox, Watchdog(Limits(failures.hang, failures.hang_outside))
        self._off = not failures.hang and not failures.hang_outside
        self._looked, self._failed = float("-inf"), (0, 0)

    def look(self, task: Task, restarts: Restarts, sink: Sink) -> None:
        """Called often; looks when it is time to."""
        now = time.monotonic()
        if self._off or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if (failed := (id(restarts), restarts.failed)) != self._failed:
            self._failed = failed
            self._watchdog.forget()
        beats: dict[int, tuple[int, Beat]] = ray.get(self._mailbox.beats.remote())
        alarm = self._watchdog.look(time.monotonic(), beats.values())
        if alarm is not None:
            with restarts.lock:
                self._end(alarm, task, restarts, sink)

    def _end(self, alarm: Alarm, task: Task, restarts: Restarts, sink: Sink) -> None:
        """Ends a group that hangs. One that is over is forgotten; a node that does not answer is left to Ray."""
        beats = {rank: seen.beat for rank, seen in self._watchdog.seen.items()}
        processes = {rank: beat.process for rank, beat in beats.items()}
        states = set(attend.states({rank: processes[rank] for rank in alarm.ranks or processes}).values())
        if states == {"gone"}:
            self._watchdog.forget()
            return
        if states == {"unreachable"}:
            self._watchdog.count_anew(time.monotonic())
            sink.note(
                f"{told(alarm, beats, dict.fromkeys(processes, Found('unreachable')))}; Ray gives it up in the end"
            )
            return
        found = attend.end(processes)
        folder = _save(task, processes, found)
        cause = f"{told(alarm, beats, found)}; stacks of the workers are in {folder}"
        restarts.expect(Cause(cause))
        self._watchdog.forget()


def told(alarm: Alarm, beats: dict[int, Beat], found: dict[int, Found]) -> str:
    """Who hangs, since when, at what."""
    if alarm.absent:
        missing = ", ".join(map(str, alarm.absent))
        return f"worker {missing} did not come in {alarm.seconds:.0f} s, while others wait"
    ranks = alarm.ranks or stuck({rank: of.stacks for rank, of in found.items()})
    first = ranks[0]
    beat, process, of = beats[first], beats[first].process, found[first]
    who = f"worker {first} ({process.host}, process {process.pid})"
    if len(ranks) == len(beats) and len(beats) > 1:
        who = f"all workers, as worker {first} ({process.host}, process {process.pid})"
    doing = f"in step {beat.step}" if beat.now.work == "stepping" else f"while {_WORDS[beat.now.work]}"
    why = _STATES.get(of.state) or ("which tells nothing any more" if alarm.ranks else "")
    at = place(of.stacks)
    where = f", at {at.words}" if at else ""
    return f"{who}{', ' + why + ',' if why else ''} hangs for {alarm.seconds:.0f} s {doing}{where}"


_WORDS = {
    "loading": "it loads images",
    "preparing": "it prepares the steps",
    "between": "it evaluates or saves",
    "waiting": "it waits for work",
}
_STATES = {
    "stopped": "which was stopped by a signal",
    "disk-sleep": "which waits for a device",
    "gone": "which is gone",
    "unreachable": "whose node does not answer",
}


def _save(task: Task, processes: dict[int, Process], found: dict[int, Found]) -> Path:
    """A file a worker, in a folder of the run for each time."""
    if task.checkpoints is None:
        folder = Path(tempfile.mkdtemp(prefix="stacks-"))
    else:
        base = Path(task.checkpoints).parent / STACKS_FOLDER
        folder = base / f"{1 + len(list(base.glob('*'))):03d}"
    folder.mkdir(parents=True, exist_ok=True)
    for rank, of in found.items():
        head = f"worker {rank}: process {processes[rank].pid} on {processes[rank].host}, {of.state}\n\n"
        (folder / f"rank-{rank}.txt").write_text(head + (of.stacks or "no stacks came\n"))
    return folder
