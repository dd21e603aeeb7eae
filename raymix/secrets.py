"""What must not get into a job, which is kept in run folders and shown: the secrets of this process's environment."""

from __future__ import annotations

import os
import re
from typing import Any

from raymix.spec import JobError

_SECRET = re.compile(r"(?i)(secret|token|password|passwd|api_?key|access_key|credential)")
_NO_SECRET = re.compile(r"(?i)_(id|file|path|dir|url|uri)$")  # it says where one is, or whose
_SHORTEST = 12


def secrets() -> dict[str, str]:
    """The environment variables that are secrets by their names: values by name. Words and paths are left out."""
    return {
        name: value
        for name, value in os.environ.items()
        if _SECRET.search(name) and not _NO_SECRET.search(name) and len(value) >= _SHORTEST
        and not value.isalpha() and not value.startswith(("/", "~"))
    }  # fmt: skip


def check_secrets(job: dict[str, Any]) -> None:
    """Looks for them in all keys and values of a job.

    Raises:
        JobError: a field holds one.
    """
    known = secrets()
    left: list[tuple[str, Any]] = [("", job)] if known else []
    while left:
        path, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{path}.{key}" if path else str(key), inner) for key, inner in value.items()]
            left += [(path or "job", str(key)) for key in value]
        elif isinstance(value, list):
            left += [(path, inner) for inner in value]
        elif isinstance(value, str):
            for name, secret in known.items():
                if secret in value:
                    field = path.replace(secret, "***")
                    problem = f"holds the value of the environment variable {name}, and a job is kept and shown"
                    raise JobError(field, problem, "leave it in the environment")
