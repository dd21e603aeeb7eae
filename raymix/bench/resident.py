"""What this process and all below it have in memory.

It is what no other process has part in (the proportional set size without shared memory), and each file in memory that
one of them holds open, once: what nobody maps just now counts too.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterable
from pathlib import Path

_SAMPLE_SECONDS = 0.1
_SETTLE_SECONDS = 2.0  # in which processes give back what they need no more
_PROC = Path("/proc")


def measurable() -> bool:
    """Whether the system tells."""
    return (_PROC / "self" / "smaps_rollup").exists()


class Watch:
    """The highest `used()` while it is open."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="raymix-memory", daemon=True)

    def __enter__(self) -> Watch:
        self.peak = used()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, used())


def used() -> int:
    """Bytes that this process and all below it take."""
    pids = family()
    return sum(_private(pid) for pid in pids) + _shared(pids, "")


def shared(name: str) -> int:
    """Of `used`, the files in memory with `name` in their path."""
    return _shared(family(), name)


def settled() -> int:
    """`used`, once nothing happens any more."""
    time.sleep(_SETTLE_SECONDS)
    return round(statistics.median(used() for _ in range(3)))


def family() -> list[int]:
    """This process and all that it, or one of them, has started."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                # the name of a program may hold spaces and brackets: what follows the last bracket is numbers
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended
            children.setdefault(parent, []).append(int(folder.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found


def _private(pid: int) -> int:
    """PSS without shared memory; 0 of a process that has ended."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    sizes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines[1:])}
    return 1024 * (sizes["Pss"] - sizes["Pss_Shmem"])


def _shared(pids: Iterable[int], name: str) -> int:
    """Bytes in memory of the files there that the processes hold open, each once."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        try:
            for entry in os.scandir(_PROC / str(pid) / "fd"):
                path = os.readlink(entry.path)
                if path.startswith(("/memfd:", "/dev/shm/")) and name in path:
                    found = os.stat(entry.path)
                    sizes[found.st_dev, found.st_ino] = 512 * found.st_blocks
        except OSError:
            continue  # it has ended, or closed the file
    return sum(sizes.values())
