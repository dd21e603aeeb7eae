"""One command at a time in a folder: its lock dies with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from raymix.spec import JobError

Tell = Callable[[str], None]
Hold = Callable[[Tell], AbstractContextManager[None]]

LOCK_FILE = "driver.lock"
BEAT_SECONDS = 5.0  # a holder that lives touches its lock so often: other hosts see no more of it
LEASE_SECONDS = 20.0  # in which another host's holder must have done so

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}  # what file systems without them answer


def check_free(folder: Path) -> None:
    """Looks without writing or waiting; a holder on another host is found by `held`.

    Raises:
        JobError: another process of this host holds the folder.
    """
    with suppress(OSError):
        os.close(_taken(folder, os.O_RDWR, None))


@contextmanager
def held(folder: Path, tell: Tell) -> Iterator[None]:
    """Holds a folder, which is made where there is none; one that stays empty is taken away again.

    The system frees an flock when the process that took it ends; no child inherits it. Where the file system has none,
    and between hosts, the lock's text counts: who holds it, and whether the file is still touched; `tell` hears of that
    wait.

    Raises:
        JobError: another process holds it, or it cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    over = threading.Event()
    try:
        descriptor = _locked(folder, tell)
    except OSError as error:
        raise JobError("storage", f"{folder}: {error.strerror}", "name a folder that can be written") from None
    beat = threading.Thread(target=_beat, args=(descriptor, over), name="raymix-lock", daemon=True)
    beat.start()
    try:
        yield
    finally:
        over.set()
        beat.join()
        with suppress(OSError):
            if _is_there(folder / LOCK_FILE, descriptor):
                (folder / LOCK_FILE).unlink()
        os.close(descriptor)
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()


def _locked(folder: Path, tell: Tell) -> int:
    """A descriptor of the folder's lock, which is this process's and says so."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _taken(folder, os.O_RDWR | os.O_CREAT, tell)
        if _is_there(folder / LOCK_FILE, descriptor):
            break
        os.close(descriptor)  # whoever held it took it away in between
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(_me()).encode(), 0)
    return descriptor


def _taken(folder: Path, flags: int, tell: Tell | None) -> int:
    """A descriptor of the folder's lock, which this process has now; without `tell`, whatever other hosts do.

    Raises:
        JobError: another process has it.
    """
    path = folder / LOCK_FILE
    descriptor = os.open(path, flags, 0o666)  # Python's descriptors are closed in what a process starts
    try:
        holder = _read(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            decides = True
        except BlockingIOError:
            raise _in_use(folder, _read(descriptor)) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            decides = False
        if holder and (_lives_elsewhere(path, holder, tell) or (not decides and _lives_here(holder))):
            raise _in_use(folder, holder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lives_here(holder: dict[str, Any]) -> bool:
    """Whether the holder that a lock names is a process of this host that still runs."""
    me = {**_me(), "pid": holder.get("pid"), "began": _began(holder.get("pid"))}
    return me["began"] is not None and me == holder


def _lives_elsewhere(path: Path, holder: dict[str, Any], tell: Tell | None) -> bool:
    """Whether the holder that a lock names is on another host and touches it."""
    if holder.get("host") == _me()["host"] or tell is None:
        return False
    tell(f"{path} is of process {holder.get('pid')} on {holder.get('host')}: {LEASE_SECONDS:g} s to see if that lives")
    touched, until = _touched(path), time.monotonic() + LEASE_SECONDS
    while time.monotonic() < until:
        time.sleep(LEASE_SECONDS / 20)
        if (now := _touched(path)) != touched:
            return now is not None
    return False


def _touched(path: Path) -> int | None:
    """When a lock was touched last, by its own file system's clock; None: it is gone."""
    try:
        with path.open("rb") as file:  # opening asks the server anew, where there is one
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _in_use(folder: Path, holder: dict[str, Any]) -> JobError:
    who = f"process {holder['pid']} on {holder['host']}" if {"pid", "host"} <= holder.keys() else "another process"
    hint = f"wait until that has ended, or end it; of a host that is gone for good, delete {folder / LOCK_FILE}"
    return JobError("name", f"{folder} is in use by {who}", hint)


def _read(descriptor: int) -> dict[str, Any]:
    """Who a lock says that it belongs to; {}: nobody."""
    try:
        found = json.loads(os.pread(descriptor, 4096, 0) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _me() -> dict[str, Any]:
    """This process, told apart from every other one that had its number."""
    pid = os.getpid()
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": boot.read_text().strip() if boot.is_file() else "",
        "began": _began(pid),
    }


def _began(pid: object) -> str | None:
    """When a process of this host began, in the system's ticks; None: there is none, or only its exit code."""
    try:
        # the command's name, in brackets, may hold anything; the 20th field after it is the start (man 5 proc)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _beat(descriptor: int, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with suppress(OSError):
            os.utime(descriptor)


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether a path still names the file that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
