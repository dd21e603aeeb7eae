"""The path of Python, which Ray gives to a shell as it is for each process that has an environment of its own.

Where it has a space in it, no such process ever starts, and Ray waits for it without an end. Another machine may have
another path, which only Ray knows there.
"""

from __future__ import annotations

import shlex
import sys

import ray
from ray.util import get_node_ip_address

from raymix.spec import JobError


def quoted_python() -> dict[str, str]:
    """What a runtime environment of processes on this machine needs; {}: nothing."""
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def python_of_processes() -> dict[str, str]:
    """The same for processes of the Ray that this one is connected to; {}: it knows already, or only it can know."""
    needed = quoted_python()
    if not needed or ray.get_runtime_context().runtime_env.py_executable():
        return {}
    here = get_node_ip_address()
    return needed if all(node["NodeManagerAddress"] == here for node in ray.nodes() if node["Alive"]) else {}


def check_python() -> None:
    """Ray Tune's processes have an environment, and none that we could add to.

    Raises:
        JobError: they would not start.
    """
    needed = python_of_processes()
    if needed:
        problem = f"Ray's Tune starts no process in {sys.prefix}, which a shell takes for several words"
        hint = f"ray.init(runtime_env={needed!r}) before, or leave Ray to raymix"
        raise JobError("cluster.address", problem, hint)
