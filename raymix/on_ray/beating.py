"""A worker tells every second how far it is, and writes the stacks of all its threads when it gets a signal."""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from raymix.failing.pulse import Beat, Process, Pulse
from raymix.failing.watchdog import BEAT_SECONDS
from raymix.on_ray.attend import STACKS_SIGNAL, began_of


def beating(mailbox: Any, rank: int, world: int) -> Pulse:
    """This process's pulse, which a thread tells from now on, and which ends with the process."""
    pulse, process = Pulse(), _this_process()
    threading.Thread(target=_beat, args=(mailbox, rank, world, process, pulse), name="raymix-beat", daemon=True).start()
    return pulse


def _beat(mailbox: Any, rank: int, world: int, process: Process, pulse: Pulse) -> None:
    with suppress(RayError):  # there is nobody to tell it any more
        while True:
            told = mailbox.beat.remote(Beat(rank, world, process, pulse.now, pulse.moves))
            time.sleep(BEAT_SECONDS)
            ray.get(told)


def _this_process() -> Process:
    """Who this is. Its stacks go to a file of its own, without a name where the system has such files."""
    if hasattr(os, "memfd_create"):
        stacks = os.memfd_create("raymix-stacks")
        path = f"/proc/{os.getpid()}/fd/{stacks}"
    else:
        stacks, path = tempfile.mkstemp(prefix="raymix-stacks-")
    # written by the signal's handler itself, in C: also where the interpreter is held or waits
    faulthandler.register(STACKS_SIGNAL, file=stacks, all_threads=True)
    node, host = ray.get_runtime_context().get_node_id(), ray.util.get_node_ip_address()
    return Process(node, host, os.getpid(), began_of(os.getpid()), path)
