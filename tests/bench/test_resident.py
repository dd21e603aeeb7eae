"""What a process and all below it have in memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from raymix.bench import resident

_SIZE = 64 * 2**20

# a process that has mapped little: the share that one has in a library changes with whoever else starts
_CHILD = f"""
import json, mmap, os, subprocess, sys, time
from raymix.bench import resident

size, added = {_SIZE}, {{}}
before = resident.used()
descriptor = os.memfd_create("raymix-images")
os.truncate(descriptor, size)
with mmap.mmap(descriptor, size) as mapped, mmap.mmap(descriptor, size) as again:
    mapped.write(bytes(size))
    assert again[size - 1] == 0
    added["shared, mapped twice"] = resident.used() - before
added["shared, mapped by nobody"] = resident.used() - before
added["shared, by name"] = resident.shared("raymix-images")
os.close(descriptor)
added["given back"] = resident.used() - before
# not by malloc, which may have as much that is free and in memory still
with resident.Watch() as watch, mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
    held.write(bytes(size))
    added["private"] = resident.used() - before
    time.sleep(1)  # the watch looks ten times in it
added["private, once it was gone"] = watch.peak - before
code = f"held = b'1' * {{size}}; print(flush=True); input()"
pipes = {{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}}
with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
    child.stdout.readline()
    added["of a child"] = resident.used() - before
    child.communicate(b"\\n")
added["of a child that has ended"] = resident.used() - before
print(json.dumps(added))
"""


@pytest.mark.skipif(not resident.measurable(), reason="the system does not tell")
def test_what_is_shared_counts_once_even_where_nobody_maps_it_and_children_count() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    added = json.loads(done.stdout)
    gone = {"given back", "of a child that has ended"}
    assert len(added) == 8
    for what, num_bytes in added.items():
        expected = 0 if what in gone else _SIZE
        assert num_bytes == pytest.approx(expected, abs=0.2 * _SIZE), what
