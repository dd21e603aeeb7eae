"""`raymix doctor`: whether this machine, its cluster and a job's data and storage can carry a run.

Every check is a function of a `Patient` in the table below, which answers, never raises, and has a time limit. All run
at once; what needs torch or Ray runs in a process of its own, so that the worst it can do is not to answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from raymix.doctor import data, machine, storage, versions
from raymix.doctor.patient import Patient
from raymix.report.finding import Finding, Told


class Check(NamedTuple):
    """A check, and the seconds in which it must answer. It answers None where there is nothing to be looked at."""

    look: Callable[[Patient], Told | None]
    seconds: float


def _torch(name: str) -> Check:
    """What a process that imports torch finds out."""
    return Check(lambda patient: patient.torch.told(name), 90)


def _ray(name: str) -> Check:
    """What a process that connects to Ray, or starts one, finds out."""
    return Check(lambda patient: patient.ray.told(name) if patient.ray else None, 90)


CHECKS: dict[str, Check] = {
    "versions": Check(versions.look, 10),
    "limits": Check(machine.limits, 5),
    "memory": Check(machine.memory, 5),
    "clock": Check(machine.clock, 5),
    "gpus": _torch("gpus"),
    "gloo": _torch("gloo"),
    "nccl": _torch("nccl"),
    "ray": _ray("ray"),
    "object store": _ray("object store"),
    "access": _ray("access"),
    "nodes": _ray("nodes"),
    "storage": Check(storage.look, 100),
    "disk": Check(storage.disk, 60),
    "data": Check(data.look, 120),
}


def examine(patient: Patient) -> Iterator[Finding]:
    """The findings, in the table's order, as they come."""
    started = time.monotonic()
    answers = {name: _Answer(name, check, patient) for name, check in CHECKS.items()}
    for name, check in CHECKS.items():
        told = answers[name].wait(max(0.0, started + check.seconds - time.monotonic()))
        if told is not None:
            yield Finding(name=name, status=told.status, found=told.found, todo=told.todo)


class _Answer:
    """A check under way. One that hangs, as a file system that does not answer makes it, is left behind."""

    def __init__(self, name: str, check: Check, patient: Patient) -> None:
        self._check, self._patient = check, patient
        self._told: Told | None = None
        self._thread = threading.Thread(target=self._look, name=f"doctor-{name}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> Told | None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            return Told("problem", f"no answer within {self._check.seconds:g} s", "something hangs: look at its log")
        return self._told

    def _look(self) -> None:
        try:
            self._told = self._check.look(self._patient)
        except Exception as error:
            line = " ".join(str(error).split())[:200]
            self._told = Told("problem", f"{type(error).__name__}: {line}", "the check itself failed; please report it")
