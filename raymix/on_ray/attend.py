"""On the node of workers that hang: their stacks are taken, and they are ended, whatever state they are in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from raymix.failing.pulse import Process

STACKS_SIGNAL = signal.SIGUSR1  # that workers answer with their stacks
NODE_SECONDS = 15.0  # in which a node must answer
_STACKS_SECONDS = 3.0  # in which a process writes its stacks
_END_SECONDS = 3.0
_POLL_SECONDS = 0.05
_QUIET = 0.2  # seconds in which nothing is added any more: the stacks are whole


class Found(NamedTuple):
    """A worker's process, as its node has it."""

    state: str  # as psutil names it: running, sleeping, stopped, disk-sleep; gone; unreachable
    stacks: str = ""


def began_of(pid: int) -> float:
    """time.time() at which a process began; 0: there is none. A zombie is none."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return 0.0


def is_there(process: Process) -> bool:
    """Whether it is, and is still the same."""
    return abs(began_of(process.pid) - process.began) < 1.0


def end(processes: Mapping[int, Process]) -> dict[int, Found]:
    """Stacks of some processes, which are then ended."""
    return _on_their_nodes(end_here, processes)


def states(processes: Mapping[int, Process]) -> dict[int, str]:
    """What some processes are, as `Found` has it."""
    return {rank: found.state for rank, found in _on_their_nodes(_states, processes).items()}


def _on_their_nodes(task: Any, processes: Mapping[int, Process]) -> dict[int, Found]:
    """What a task on each node finds; a node that does not answer is not waited for."""
    if not processes:
        return {}
    nodes: dict[str, dict[int, Process]] = {}
    for rank, process in processes.items():
        nodes.setdefault(process.node, {})[rank] = process
    found = dict.fromkeys(processes, Found("unreachable"))
    calls = []
    for node, those in nodes.items():
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        calls.append(ray.remote(task).options(num_cpus=0, max_retries=0, scheduling_strategy=where).remote(those))
    ready, late = ray.wait(calls, num_returns=len(calls), timeout=NODE_SECONDS)
    for call in ready:
        with suppress(ray.exceptions.RayError):
            found.update(ray.get(call))
    for call in late:
        ray.cancel(call, force=True)
    return found


def _states(processes: dict[int, Process]) -> dict[int, Found]:
    return {rank: Found(_state(process)) for rank, process in processes.items()}


def _look_at(processes: dict[int, Process]) -> dict[int, Found]:
    states = {rank: _state(process) for rank, process in processes.items()}
    there = {rank: process for rank, process in processes.items() if states[rank] != "gone"}
    for rank, process in there.items():
        _signal(process, STACKS_SIGNAL)
        if states[rank] == psutil.STATUS_STOPPED:
            _signal(process, signal.SIGCONT)  # it writes its stacks before anything else
    stacks = _written(there)
    return {rank: Found(state, stacks.get(rank, "")) for rank, state in states.items()}


def end_here(processes: dict[int, Process]) -> dict[int, Found]:
    """States and stacks of some processes of this node, all of which are over when it returns.

    One that waits in the kernel for a device is over when that answers.
    """
    found = _look_at(processes)
    for process in processes.values():
        if is_there(process):
            _signal(process, signal.SIGKILL)
    _wait_until(lambda: not any(is_there(process) for process in processes.values()), _END_SECONDS)
    return found


def _state(process: Process) -> str:
    try:
        return str(psutil.Process(process.pid).status()) if is_there(process) else "gone"
    except psutil.NoSuchProcess:
        return "gone"


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _written(processes: Mapping[int, Process]) -> dict[int, str]:
    """What the processes have written, once nothing is added any more."""
    sizes, since = list[int](), time.monotonic()
    until = since + _STACKS_SECONDS
    while (now := time.monotonic()) < until:
        seen = [len(_read(process.stacks)) for process in processes.values()]
        if seen != sizes:
            sizes, since = seen, now
        elif all(seen) and now - since > _QUIET:
            break
        time.sleep(_POLL_SECONDS)
    return {rank: _read(process.stacks) for rank, process in processes.items()}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _wait_until(true: Any, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
