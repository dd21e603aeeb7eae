"""Whether the job's storage does what run folders need: write, read, rename, fsync, lock; room, speed, a like clock."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raymix.bucket import Store, is_bucket
from raymix.bucket.store import refused as bucket_refused
from raymix.doctor.patient import Patient
from raymix.report import words
from raymix.report.finding import Told, worst
from raymix.runfolder import storage_of
from raymix.spec import JobError

PREFIX = ".raymix-doctor-"  # of the folder that is written and taken away again
LOGS_BYTES, FILES = 100_000_000, 1000  # beside checkpoints: metrics, pages, traces; and files in all
CLOCK_SECONDS = 2.0  # that the storage's clock may differ from this machine's
WRITE_BYTES, BLOCK_BYTES, SLOW_BYTES = 32 * 2**20, 4 * 2**20, 20e6  # written for the speed; and a second that is slow


def look(patient: Patient) -> Told:
    """Every operation that a run folder and its checkpoints are made of."""
    if is_bucket(patient.spec.storage):
        return _bucket(patient.spec.storage)
    try:
        here = nearest(patient)
        with probe(patient, here) as folder:
            told = [_works(folder), _same_clock(folder)]
        told.insert(1, _room(here, patient))
    except JobError as error:
        return Told("problem", f"{error.field}: {error.problem}", error.hint or "name a folder of your own")
    except OSError as error:
        return refused(here, error)
    wrong = [one for one in told if one.status != "ok"]
    return worst(*wrong) if wrong else Told("ok", f"{here}: {told[0].found}; {told[1].found}")


def disk(patient: Patient) -> Told | None:
    """How fast a checkpoint gets onto the storage."""
    if is_bucket(patient.spec.storage):
        return None
    try:
        with probe(patient, nearest(patient)) as folder:
            started, block = time.monotonic(), os.urandom(BLOCK_BYTES)
            with (folder / "speed").open("wb", buffering=0) as file:
                for _ in range(WRITE_BYTES // BLOCK_BYTES):
                    file.write(block)
                os.fsync(file.fileno())
            seconds = time.monotonic() - started
    except (JobError, OSError):
        return None  # the check of the storage says why
    found = f"{words.size(WRITE_BYTES)} written and on the disk in {words.seconds(seconds)}"
    found += f", {words.size(int(WRITE_BYTES / seconds))}/s"
    if WRITE_BYTES / seconds < SLOW_BYTES:
        return Told("note", found, "each checkpoint waits for that: a faster disk, or a larger checkpoint.every")
    return Told("ok", found)


def nearest(patient: Patient) -> Path:
    """The job's storage, or as long as there is none the folder that it will be made in.

    Raises:
        JobError: it is no folder that a run may use.
        OSError: it cannot be looked at.
    """
    here = storage_of(patient.spec)
    while not here.exists():
        here = here.parent
    if not here.is_dir():
        raise JobError("storage", f"{here} is a file", "name a folder")
    return here


@contextmanager
def probe(patient: Patient, here: Path) -> Iterator[Path]:
    """A folder in a folder, taken away at the end with all that is written into it, or when the patient is closed.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=here))
    patient.folders.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        patient.folders.discard(folder)


def refused(here: Path, error: OSError) -> Told:
    """What a folder that cannot be used said."""
    todo = "name another folder: --set storage=DIR, or make this one writable"
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        todo = "free some of it, or name another: --set storage=DIR"
    return Told("problem", f"{here} cannot be used: {error.strerror or error}", todo)


def _bucket(uri: str) -> Told:
    """Writes, lists, reads and deletes an object, as runs do."""
    place, name, text = Store(f"{uri}/{PREFIX}{uuid.uuid4().hex}"), "a", os.urandom(4096)
    try:
        place.write(name, text)
        seen = name in place.list() and place.read(name) == text
        place.delete_folder("")
    except OSError as error:
        wrong = bucket_refused(uri, error)
        return Told("problem", wrong.problem, wrong.hint)
    if not seen:
        return Told("problem", f"{uri}: what was written is not what is listed and read", "use another store")
    return Told("ok", f"{uri}: writes, lists, reads, deletes")


def _works(folder: Path) -> Told:
    """Writes, reads, renames, syncs and locks."""
    first, second, text = folder / "a", folder / "b", os.urandom(4096)
    with first.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(first, second)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if first.exists() or second.read_bytes() != text:
        return Told("problem", "what was written and renamed is not what is read", "use another file system")
    if not _locks(second):
        return Told("note", "flock keeps nobody out", "do not start two commands on one run folder there")
    return Told("ok", "writes, reads, renames, syncs, locks")


def _locks(path: Path) -> bool:
    """Whether a lock keeps a second one out."""
    with path.open("rb") as one, path.open("rb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _room(here: Path, patient: Patient) -> Told:
    """Bytes and files that are free, against what a run writes."""
    there = os.statvfs(here)
    free = there.f_bavail * there.f_frsize
    if there.f_files and there.f_favail < FILES:
        found = f"{here} has room for {there.f_favail:,} more files"
        return Told("problem", found, f"a run makes up to {FILES:,}: free some, or name another folder")
    needed, what = LOGS_BYTES, "a run's logs and pages"
    if patient.is_job:
        each = patient.torch.number("checkpoint bytes")
        keep = patient.spec.checkpoint.keep + 1  # the new one is written before the oldest goes
        needed += each * keep
        what = f"{words.plural(keep, 'checkpoint')} of {words.size(each)} and a run's logs" if each else what
    if free < needed:
        found = f"{here} has {words.size(free)} free, and {what} take {words.size(needed)}"
        return Told("problem", found, "free some of it, or name another: --set storage=DIR")
    return Told("ok", f"{words.size(free)} free, {what} take {words.size(needed)}")


def _same_clock(folder: Path) -> Told:
    """The time that the storage gives a file against this machine's."""
    before = time.time()
    (folder / "time").write_bytes(b"x")
    stamped = (folder / "time").stat().st_mtime
    late = max(stamped - time.time(), before - stamped)  # timestamps are a few ms coarse
    if late > CLOCK_SECONDS:
        found = f"the storage's clock differs by {late:.1f} s from this machine's"
        return Told("note", found, "let both go by NTP; dates in run folders are the storage's")
    return Told("ok", "the same time")
