"""Jobs of a cluster through Ray's Jobs API: submit, follow, list, stop. The cluster's Ray runs them; this only asks.

Whoever reaches the API may run code on the cluster; with RAY_AUTH_MODE=token Ray's client sends its token along. No
secret belongs into a job: entry point, metadata and environment of all jobs can be read by all who have the token.
"""

from __future__ import annotations

import asyncio
import logging
import shlex
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ray.dashboard.modules.job.common import JobStatus
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

import raymix
from raymix.jobfile import job_text
from raymix.spec import JobError, JobSpec

POLL_SECONDS = 0.5
GRACE_SECONDS = 60.0  # for a checkpoint, before a job that is stopped is ended the hard way
CODES = {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: 143, JobStatus.FAILED: 3}  # where the driver left none
_EXCLUDES = ["**/__pycache__", "**/.git", "**/*.pyc"]


class Listed(NamedTuple):
    """A job of the cluster."""

    id: str
    name: str  # of the raymix job; empty: somebody else's
    status: str
    started: float | None  # seconds since the epoch
    seconds: float | None  # that it took, or has run so far
    entrypoint: str


def submit(
    spec: JobSpec,
    address: str | None,
    command: str = "run",
    flags: tuple[str, ...] = (),
    allow_import: tuple[str, ...] = (),
) -> str:
    """Hands a job to a cluster; returns its id there.

    The job file and raymix itself travel, with the packages that `allow_import` names. Images do not: their paths are
    paths of the cluster.

    Args:
        address: Of the Jobs API, as in http://127.0.0.1:8265; None: where Ray's environment variables say.
        command: run, pilot, sweep or tune.
        flags: Of that command.
        allow_import: Factories of backbones that the job may import.

    Raises:
        JobError: nothing answers at the address, or a path of the job would be looked for in the wrong place.
    """
    _check_paths(spec)
    modules = [str(Path(raymix.__file__).parent), *_modules(allow_import)]
    words = ["python", "-m", "raymix", command, "job.yaml", *flags]
    words += [word for factory in allow_import for word in ("--allow-import", factory)]
    client = _client(address)
    with tempfile.TemporaryDirectory(prefix="raymix-submit-") as folder:
        Path(folder, "job.yaml").write_text(job_text(spec))
        submitted: str = client.submit_job(
            entrypoint=shlex.join(words),
            metadata={"raymix": spec.name},
            runtime_env={
                "working_dir": folder,
                "py_modules": modules,
                "excludes": _EXCLUDES,
                "env_vars": {"PYTHONUNBUFFERED": "1"},
            },
        )
    return submitted


def follow(job: str, address: str | None, say: Callable[[str], object]) -> int:
    """Passes a job's lines on until it has ended; returns its exit code.

    Raises:
        JobError: there is no such job.
    """
    client = _client(address)
    _details(client, job)
    asyncio.run(_tail(client, job, say))
    while not (details := _details(client, job)).status.is_terminal():
        time.sleep(POLL_SECONDS)
    code = details.driver_exit_code
    return CODES[details.status] if code is None else 128 - code if code < 0 else int(code)


def logs(job: str, address: str | None) -> str:
    """What a job has printed so far.

    Raises:
        JobError: there is no such job.
    """
    client = _client(address)
    _details(client, job)
    printed: str = client.get_job_logs(job)
    return printed


def listed(address: str | None) -> list[Listed]:
    """The submitted jobs of the cluster, the newest first."""
    found = [details for details in _client(address).list_jobs() if details.submission_id]
    return [_line(details) for details in sorted(found, key=lambda one: one.start_time or 0, reverse=True)]


def stop(job: str, address: str | None, grace: float = GRACE_SECONDS) -> bool:
    """Ends a job; whether it had the time to save a checkpoint.

    Ray itself gives 3 s between SIGTERM and SIGKILL. So a small job on the same node, the head, sends SIGTERM alone,
    which raymix answers with a checkpoint; only who does not end within `grace` seconds is ended by Ray.

    Raises:
        JobError: there is no such job, or it has ended.
    """
    client = _client(address)
    details = _details(client, job)
    if details.status.is_terminal():
        raise JobError("ID", f"{job} has ended already ({details.status.value.lower()})", "see raymix jobs ls")
    if details.driver_info is not None:
        pid = int(details.driver_info.pid)
        client.submit_job(
            entrypoint=f"grep -qa raymix /proc/{pid}/cmdline && kill -TERM {pid}",
            metadata={"raymix": f"stop {job}"},
        )
        until = time.monotonic() + grace
        while time.monotonic() < until:
            if _details(client, job).status.is_terminal():
                return True
            time.sleep(POLL_SECONDS)
    client.stop_job(job)
    return False


def _client(address: str | None) -> JobSubmissionClient:
    logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of each package and each connection
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        problem = "the cluster wants a token"
        hint = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds it"
        raise JobError("--address", problem, hint) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = address or "where RAY_API_SERVER_ADDRESS or RAY_ADDRESS say"
        hint = "it is the address of the dashboard, as in http://127.0.0.1:8265"
        raise JobError("--address", f"no Jobs API answers at {where}", hint) from error


def _details(client: JobSubmissionClient, job: str) -> Any:
    try:
        return client.get_job_info(job)
    except RuntimeError as error:
        raise JobError("ID", f"the cluster has no job {job}", "see raymix jobs ls") from error


async def _tail(client: JobSubmissionClient, job: str, say: Callable[[str], object]) -> None:
    async for lines in client.tail_job_logs(job):
        say(lines)


def _line(details: Any) -> Listed:
    started = details.start_time / 1000 if details.start_time else None
    ended = details.end_time / 1000 if details.end_time else time.time()
    return Listed(
        id=details.submission_id,
        name=(details.metadata or {}).get("raymix", ""),
        status=details.status.value.lower(),
        started=started,
        seconds=max(0.0, ended - started) if started else None,
        entrypoint=details.entrypoint,
    )


def _check_paths(spec: JobSpec) -> None:
    """A relative path would be looked for in the job's own folder, which holds the job file alone.

    Raises:
        JobError: one is.
    """
    parts = ("train", "unlabelled", "val")
    paths = {f"data.{part}.path": getattr(getattr(spec.data, part), "path", None) for part in parts}
    for field, path in {**paths, **spec.taken_over}.items():
        if isinstance(path, str) and "://" not in path and not path.startswith("/"):
            problem = f"'{path}' is relative, and the job runs in a folder of its own"
            raise JobError(field, problem, "name it as the nodes of the cluster see it")


def _modules(allow_import: tuple[str, ...]) -> list[str]:
    """The packages of factories, as far as they are folders or files here; others are installed on the nodes.

    Raises:
        JobError: a package is not here.
    """
    found = dict[str, None]()
    for factory in allow_import:
        package = factory.partition(":")[0].partition(".")[0]
        spec = find_spec(package)
        if spec is None:
            raise JobError("--allow-import", f"there is no package {package} here to send along", "check the name")
        if spec.submodule_search_locations:
            found[next(iter(spec.submodule_search_locations))] = None
        elif spec.origin:
            found[spec.origin] = None
    return list(found)
