"""One command at a time in a run folder on object storage: a ticket each, and who sees no other has the folder.

S3 lists every object from the moment that it was written (strong consistency, since December 2020), so of two who
write a ticket first and list second, the later one sees the other's: both may withdraw, never do both go on (Dekker's
flags). That needs neither conditional writes, which not every S3 server has, nor a library beside pyarrow.

A ticket is written again every `BEAT_SECONDS`. One that is `LEASE_SECONDS` older than the newcomer's own, by the
server's clock, is of a command that was killed, and is taken away.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
import uuid
from contextlib import suppress

from raymix.bucket.store import Object, Store
from raymix.spec import JobError

LOCK_FOLDER = "driver.lock"
BEAT_SECONDS = 10.0
LEASE_SECONDS = 60.0  # after which a killed command's folder is free
_LAPSE_SECONDS = LEASE_SECONDS / 2  # without a beat, after which a holder looks whether it still is one
_TRIES = 4  # of commands that start in the same moment
_MOMENT = 3.0  # seconds


class Lease:
    """A ticket to a run folder."""

    def __init__(self, folder: Store) -> None:
        self._folder, self._tickets = folder, folder.below(LOCK_FOLDER)
        self.ticket = uuid.uuid4().hex
        self.lost = False  # another command has taken the folder over
        self._beaten = 0.0  # time.monotonic() before the ticket was written last

    def take(self) -> None:
        """Makes the folder this command's.

        Raises:
            JobError: it is another's.
            OSError: the bucket cannot be listed or written.
        """
        for attempt in range(_TRIES):
            self._write()
            found = self._tickets.list()
            mine, others = found[self.ticket], {name: of for name, of in found.items() if name != self.ticket}
            living = {name: of for name, of in others.items() if _seconds(of, mine) <= LEASE_SECONDS}
            if not living:
                for name in others:
                    self._tickets.delete(name)
                return
            holder = max(living, key=lambda name: _seconds(living[name], mine))
            who = self._who(holder)
            self.release()
            if _seconds(living[holder], mine) > _MOMENT or attempt == _TRIES - 1:
                break
            time.sleep(random.uniform(0.2, 1.0) * 2**attempt)
        hint = f"wait until that has ended, or end it; of one that was killed it is free after {LEASE_SECONDS:g} s"
        raise JobError("name", f"{self._folder.uri} is in use by {who}", hint)

    def beat(self) -> None:
        """Says that this command lives; where it could not for long, finds out whether it was taken for dead.

        Raises:
            OSError: the bucket cannot be listed or written.
        """
        late = time.monotonic() - self._beaten > _LAPSE_SECONDS
        if late and self.ticket not in self._tickets.list():
            self.lost = True
            return
        before = self._beaten
        self._write()
        if time.monotonic() - before > _LAPSE_SECONDS and len(self._tickets.list()) > 1:
            self.lost = True
            self._tickets.delete(self.ticket)

    def release(self) -> None:
        """Gives the folder back; where the bucket does not answer, by itself after `LEASE_SECONDS`."""
        with suppress(OSError):
            self._tickets.delete(self.ticket)

    def _write(self) -> None:
        self._beaten = time.monotonic()
        self._tickets.write(self.ticket, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode())

    def _who(self, ticket: str) -> str:
        try:
            found = json.loads(self._tickets.read(ticket))
            return f"process {int(found['pid'])} on {found['host']}"
        except (OSError, ValueError, TypeError, KeyError):
            return "another process"


def holds(folder: Store, ticket: str) -> bool:
    """Whether a ticket is still one to the folder.

    Raises:
        OSError: the bucket cannot be listed.
    """
    return ticket in folder.below(LOCK_FOLDER).list()


def _seconds(older: Object, newer: Object) -> float:
    return (newer.written - older.written).total_seconds()
