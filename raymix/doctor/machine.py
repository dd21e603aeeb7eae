"""What the operating system grants: open files, processes, memory, a clock that can be trusted."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from raymix.doctor.patient import Patient
from raymix.report import words
from raymix.report.finding import Told, worst

FILES = 4096  # open ones: Ray asks for 65,536 and warns below this
# Ray keeps a process ready for each core; on two cores it has 213 threads, and each worker that imports torch 24
THREADS, THREADS_A_CORE, THREADS_A_WORKER = 400, 50, 50
RAY_BYTES, WORKER_BYTES = 1_000_000_000, 500_000_000  # resident, on CPUs, without images
DRIFT_SECONDS = 0.05  # between two clocks over a fifth of a second: one of them is being set
CGROUPS = Path("/sys/fs/cgroup")


def limits(patient: Patient) -> Told:
    """Open files and processes. Ray raises the soft limit of files to the hard one by itself."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = [resource.getrlimit(resource.RLIMIT_NPROC)[0], _of_group("pids.max", "pids/pids.max")]
    allowed = min((number for number in processes if number not in (None, resource.RLIM_INFINITY)), default=None)
    needed, workers = THREADS, patient.spec.cluster.max_workers
    if workers:
        needed += THREADS_A_CORE * (os.cpu_count() or 1) + THREADS_A_WORKER * workers
    told = [Told("ok", f"open files {_limit(files)}, processes {_limit(allowed)}")]
    if files != resource.RLIM_INFINITY and files < FILES:
        found = f"at most {files:,} open files are allowed (ulimit -Hn)"
        told.append(Told("problem", found, f"raise it to 65,536 where the machine is set up; {FILES:,} at least"))
    if allowed is not None and allowed < needed:
        found = f"at most {allowed:,} processes and threads are allowed, and the job takes about {needed:,}"
        told.append(Told("problem", found, "raise ulimit -u, or the pids limit of the container (docker --pids-limit)"))
    return worst(*told)


def memory(patient: Patient) -> Told:
    """Memory of the machine or its container against what processes take, without images."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    there = {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines}
    limit = _of_group("memory.max", "memory/memory.limit_in_bytes")
    room = min([there["MemAvailable"], *_rooms()])
    cluster = patient.spec.cluster
    needed = (RAY_BYTES if cluster.max_workers else 0) + WORKER_BYTES * cluster.num_replicas
    told = [Told("ok", f"{words.size(room)} free of {words.size(min(total, limit or total))}")]
    if not cluster.address and room < needed:
        found = f"{words.size(room)} free, and {words.plural(cluster.num_replicas, 'worker')} and Ray take about "
        told.append(
            Told("problem", found + words.size(needed), "end what else runs here, or set cluster.workers lower")
        )
    if limit is not None and limit < 0.95 * total:
        found = f"the container may use {words.size(limit)} of the machine's {words.size(total)}"
        todo = "Ray and data.cache=auto go by the machine's: set cluster.object_store, and data.cache=stream if it dies"
        told.append(Told("note", found, todo))
    swapped = there["SwapTotal"] - there["SwapFree"]
    if swapped > 0.1 * total:
        found = f"{words.size(swapped)} are swapped out"
        told.append(Told("note", found, "steps may wait for the disk: end what else runs here"))
    return worst(*told)


def clock(patient: Patient) -> Told:
    """Budgets go by the wall clock, steps by the monotonic one: the two must run alike."""
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.2)
    drift = (time.time() - wall) - (time.monotonic() - steady)
    if abs(drift) > DRIFT_SECONDS:
        found = f"the clock moved by {drift:+.2f} s within 0.2 s"
        return Told("problem", found, "something sets it: wait until NTP (timedatectl, chronyc) has settled")
    if time.time() < Path(__file__).stat().st_mtime - 86400:
        return Told("problem", f"it says {time.ctime()}, before raymix was installed", "set the clock: NTP is off")
    return Told("ok", f"{time.strftime('%Y-%m-%d %H:%M:%S %Z')}, steady")


def _limit(number: int | None) -> str:
    return "unlimited" if number in (None, resource.RLIM_INFINITY) else f"{number:,}"


def _of_group(file: str, old: str) -> int | None:
    """The smallest value of a cgroup file among this process's group and those above it; None: there is none."""
    found = [value for value in map(_read, _candidates(file, old)) if value is not None]
    return min(found, default=None)


def _rooms() -> Iterator[int]:
    """What each group around this process still has of its memory."""
    for file in _candidates("memory.max", "memory/memory.limit_in_bytes"):
        used = file.with_name("memory.current" if file.name == "memory.max" else "memory.usage_in_bytes")
        limit, current = _read(file), _read(used)
        if limit is not None and current is not None:
            yield limit - current


def _candidates(file: str, old: str) -> Iterator[Path]:
    """Version 2 has one tree, version 1 one for each controller (`old`)."""
    for group in _groups():
        _, controllers, path = group.split(":", 2)
        if not controllers:
            here = CGROUPS / path.lstrip("/")
            yield from (folder / file for folder in (here, *here.parents) if folder.is_relative_to(CGROUPS))
    yield CGROUPS / old


def _groups() -> list[str]:
    """The groups that this process is in, as the system lists them."""
    try:
        return Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
