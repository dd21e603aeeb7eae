"""A job handed to a real cluster: its lines and exit code come back, a stop saves a checkpoint, a token is asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml

from raymix.jobfile import load_spec
from raymix.on_ray.jobs import listed, submit
from raymix.report.run import RunReport
from raymix.spec import JobError
from tests.conftest import JOB, REPOSITORY
from tests.on_ray.conftest import needs_plain_python

pytestmark = pytest.mark.ray
SECONDS = 90.0


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


class Head:
    """A Ray head on this machine, and a shell that has its token."""

    def __init__(self, folder: Path) -> None:
        (folder / "token").write_text("0123456789abcdef" * 4)
        first = 7900 + os.getpid() % 97 * 10
        names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
        self.address, self.storage = f"http://127.0.0.1:{first + 1}", folder / "runs"
        # Ray looks at these when it is imported, so what this process imports does not see them
        self.variables = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAYMIX_STORAGE": str(self.storage),
            "PYTHONPATH": str(REPOSITORY),
        }
        ports = [f"--{name}={first + place}" for place, name in enumerate(names)]
        command = [
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--num-cpus=3",
            "--object-store-memory=100000000",
        ]
        self.process = psutil.Popen(
            [sys.executable, "-m", *command, *ports],
            env=self.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def shell(self, *words: object, **variables: str) -> Done:
        """`raymix WORDS --address ...`."""
        done = subprocess.run(
            [sys.executable, "-m", "raymix", *map(str, words), "--address", self.address],
            env={**self.variables, **variables}, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def jobs(self) -> list[dict[str, Any]]:
        """What `raymix jobs ls --json` lists."""
        found: list[dict[str, Any]] = json.loads(self.shell("jobs", "ls", "--json").out)
        return found

    def end(self) -> None:
        """Ended by its process id, with all that it started."""
        family = [self.process, *self.process.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, 20)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head --block` on ports of its own, with a token."""
    made, until = Head(tmp_path_factory.mktemp("head")), time.monotonic() + SECONDS
    try:
        while made.shell("jobs", "ls").code:
            assert made.process.poll() is None
            assert time.monotonic() < until
        yield made
    finally:
        made.end()


def heard() -> None:
    """A test run in the background hands down that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def job_of(name: str, **sections: Any) -> dict[str, Any]:
    return {**JOB, "name": name, "cluster": {"workers": 1}, **sections}


def written(path: Path, job: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(job))
    return path


@needs_plain_python
def test_a_mistake_is_the_jobs_own_line_and_code(head: Head, tmp_path: Path) -> None:
    odd = written(tmp_path / "odd.yaml", job_of("odd", optim={"batch": 0}))
    done = head.shell("submit", odd)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: optim.batch"), "refused here, and nothing is submitted"
    data = {"train": {"format": "image_folder", "path": "/no/such"}, "image_size": 8}
    done = head.shell("submit", written(tmp_path / "lost.yaml", job_of("lost", data=data)))
    assert done.code == 2, "known on the cluster alone, whose exit code comes back"
    line = "error: data.train.path: no such folder: /no/such"
    assert line in done.out
    (job,) = head.jobs()
    assert (job["name"], job["status"]) == ("lost", "failed")
    assert line in head.shell("jobs", "logs", job["id"]).out


@pytest.mark.chaos
@needs_plain_python
def test_a_stop_saves_a_checkpoint(head: Head, tmp_path: Path) -> None:
    long = {"ssl_epochs": 400, "sl_epochs": 4}
    done = head.shell("submit", written(tmp_path / "long.yaml", job_of("long", schedule=long)), "--no-wait")
    assert done.code == 0
    job, folder, until = done.out.strip(), head.storage / "runs" / "long", time.monotonic() + SECONDS
    while not (folder / "metrics.jsonl").is_file() or not (folder / "metrics.jsonl").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    listen = [sys.executable, "-m", "raymix", "jobs", "logs", job, "--follow", "--address", head.address]
    listener = subprocess.Popen(
        listen, env=head.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    assert listener.stdout is not None
    assert listener.stdout.readline()
    listener.send_signal(signal.SIGINT)
    _, told = listener.communicate(timeout=SECONDS)
    assert listener.returncode == 130
    assert told.startswith(f"detached; the job goes on: raymix jobs logs {job} --follow --address {head.address}")
    done = head.shell("jobs", "stop", job)
    assert (done.code, done.out) == (0, f"{job} has ended; --resume goes on from its checkpoint\n")
    assert head.shell("jobs", "logs", job, "--follow").code == 143, "the exit code of the job"
    report = RunReport.model_validate_json((folder / "report.json").read_bytes())
    assert report.status == "interrupted"
    assert list((folder / "checkpoints").glob("step-*"))
    again = head.shell("jobs", "stop", job)
    assert (again.code, again.err) == (2, f"error: ID: {job} has ended already (failed) (see raymix jobs ls)\n")
    assert [(one["name"], one["status"]) for one in head.jobs()[:2]] == [
        (f"stop {job}", "succeeded"),
        ("long", "failed"),
    ]


@needs_plain_python
def test_who_has_no_token_and_what_is_not_there(head: Head) -> None:
    assert head.shell("jobs", "logs", "raysubmit_none").err.startswith(
        "error: ID: the cluster has no job raysubmit_none"
    )
    denied = head.shell("jobs", "ls", RAY_AUTH_MODE="disabled")
    assert (denied.code, denied.err.splitlines()[-1][:44]) == (2, "error: --address: the cluster wants a token ")


def test_nobody_answers() -> None:
    with pytest.raises(JobError, match=r"--address: no Jobs API answers at http://127\.0\.0\.1:9"):
        listed("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("data", "factories", "line"),
    [
        ({"train": {"format": "image_folder", "path": "photos"}}, (), "data.train.path: 'photos' is relative"),
        ({"train": {"format": "digits"}, "keep_splits": "runs/a"}, (), "data.keep_splits: 'runs/a' is relative"),
        ({"train": {"format": "digits"}}, ("no_such.models:small",), "--allow-import: there is no package no_such"),
    ],
)
def test_what_cannot_travel_is_refused(data: dict[str, Any], factories: tuple[str, ...], line: str) -> None:
    spec = load_spec(job_of("here", data={**data, "image_size": 8}))
    with pytest.raises(JobError) as refused:
        submit(spec, "http://127.0.0.1:9", allow_import=factories)
    assert str(refused.value).startswith(line)
