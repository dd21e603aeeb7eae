"""Two of the three ways in, as users come: the shell, `ray job submit` against a head."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch

from raymix import run
from raymix.report.folder import read_run
from tests.conftest import REPOSITORY, Raymix
from tests.on_ray.commands import SECONDS, started
from tests.on_ray.conftest import needs_plain_python

JOB = "jobs/digits.yaml"


def overrides(storage: Path | None = None, epochs: int = 12, **others: object) -> list[str]:
    """`--set` for a short run of the shipped job; its own storage is relative."""
    fields = {"schedule.ssl_epochs": epochs, "schedule.sl_epochs": epochs, **others}
    if storage is not None:
        fields["storage"] = storage
    return [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]


# ---- the shell ------------------------------------------------------------------------------------------------------

# whatever raymix says while it works; a line of Ray's is none of these
LINES = re.compile(
    r"starting Ray|1,797 images of 8 pixels take 345 kB decoded: they are kept \(a node has .* for them\)"
    r"|reading images: [\d,]+ of 1,797|starting workers|measuring step times"
    r"|digits: (starts|goes on at step \d+); \d+ steps \(.*\)|digits: step \d+/\d+ \(\d+%\), .*"
    r"|digits: phase \w+|digits: (done|interrupted).*"
    r"|SIGINT: saving a checkpoint .*|interrupted: checkpoint saved; --resume goes on from .*"
)


def assert_plain(lines: list[str]) -> None:
    assert lines
    assert [line for line in lines if not LINES.fullmatch(line)] == []


@pytest.mark.ray
def test_a_piped_run_is_interrupted_and_resumed(tmp_path: Path) -> None:
    """Ctrl-C while two Ray workers train; --resume, here without Ray, does what was left, and only that.

    That runs go on with the workers they had is shown in tests/on_ray: a second group costs half a minute here.
    """
    command = ("run", JOB, *overrides(tmp_path))
    with started(*command) as first:
        first.wait_for("digits: phase mix")
        groups = first.groups()
        first.interrupt()
        assert first.end() == 130
        assert first.left() == []
    assert_plain(first.err)
    assert first.process.pid not in (groups["gcs_server"], groups["raylet"]), "a signal to the whole group ends Ray"
    assert {"gcs_server", "raylet", "raymix"} & {name for name, _ in first.listening} > {"gcs_server"}
    assert {address for _, address in first.listening} == {"127.0.0.1"}, "nobody from outside reaches what it started"
    assert first.err[-1].startswith("interrupted: checkpoint saved; --resume goes on from ")
    folder = tmp_path / "digits"
    before = read_run(folder)
    assert (before.status, before.workers) == ("interrupted", 2)
    assert not any("raylet" in line or "pid=" in line for line in first.out)
    (saved,) = (folder / "checkpoints").glob("step-*")
    steps_before = int(saved.name.removeprefix("step-"))
    assert steps_before == sum(phase.steps for phase in before.phases)

    with started(*command, "--resume", "--set", "cluster.workers=0") as second:
        assert second.end() == 0
        assert second.left() == []
    assert_plain(second.err)
    assert f"digits: goes on at step {steps_before}; 228 steps (ssl 76, mix 76, sl 76)" in second.err
    assert second.out[0].startswith("digits  done  top-1 ")
    assert second.out[-1].endswith("digits/report.html")
    report = read_run(folder)
    assert (report.status, report.attempts) == ("done", 2)
    assert [phase.steps for phase in report.phases] == [76, 76, 76]
    assert_every_step_once(folder, 228)
    assert report.totals.worker_seconds > before.totals.worker_seconds
    spent = [json.loads(file.read_text())["worker_seconds"] for file in sorted(folder.glob("attempt-*.json"))]
    assert report.totals.worker_seconds == pytest.approx(sum(spent), rel=0.05)


def assert_every_step_once(folder: Path, num_steps: int) -> None:
    """The rows of metrics.jsonl follow each other without a gap or an overlap, and reach the last step."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    done = 0
    for row in rows:
        done += row["images"] // 96
        assert row["step"] == done
    assert done == num_steps


@pytest.mark.ray
@pytest.mark.chaos
def test_too_many_unreadable_images_end_in_one_line_and_nothing_is_left(
    image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = image_tree(tmp_path / "tree", per_class=40)
    for path in sorted(root.glob("*/*.jpg"))[::4]:
        path.write_text("not an image\n")
    data = {"data.train": f"{{format: image_folder, path: {root}}}", "optim.batch": 24}
    with started("run", JOB, *overrides(tmp_path / "runs", **data)) as command:
        assert command.end() == 2
        assert command.left() == []
    assert command.out == []
    (line,) = (line for line in command.err if line.startswith("error: "))
    assert command.err[-1] == line
    assert line.startswith("error: data.max_bad_fraction: 30 of 120 images are unreadable (not an image 30), first: ")
    assert not (tmp_path / "runs").exists()


def test_an_address_without_a_cluster_is_refused_quickly_in_one_line(tmp_path: Path) -> None:
    begun = time.monotonic()
    with started("run", JOB, *overrides(tmp_path / "runs", **{"cluster.address": "127.0.0.1:1"})) as command:
        assert command.end() == 2
        assert command.family == set()
    assert command.out == []
    assert_refused(command.err, "Connection refused")
    assert time.monotonic() - begun < 40  # nearly all of it imports, on a busy machine
    assert not (tmp_path / "runs").exists()


def assert_refused(lines: list[str], reason: str) -> None:
    assert lines[-1].startswith("error: cluster.address: ")
    assert reason in lines[-1]
    assert lines[:-1] in ([], ["starting Ray"])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:8265", "it is the address of the jobs API; Ray's own has the form host:6379"),
        ("ray://127.0.0.1:10001", "ray:// (Ray Client) cannot carry a training run"),
    ],
)
def test_an_address_of_another_kind_is_refused_in_one_line(
    raymix: Raymix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    from raymix.on_ray import cluster

    monkeypatch.setattr(cluster, "set_environment", lambda: None)  # this process has other tests before it
    before = psutil.Process().children(recursive=True)
    command = overrides(tmp_path / "runs", **{"cluster.address": address})
    done = raymix("run", REPOSITORY / JOB, *command)
    assert (done.code, done.out) == (2, "")
    assert_refused(done.err.splitlines(), reason)
    assert set(psutil.Process().children(recursive=True)) <= set(before), "nothing was started"
    assert not (tmp_path / "runs").exists()


def test_a_server_that_is_not_ray_is_told_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes."""
    from raymix.on_ray import cluster
    from raymix.spec import Cluster, JobError

    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(JobError, match="something answers that is not Ray"):
            cluster.connect(Cluster(address=address), False)


# ---- ray job submit -------------------------------------------------------------------------------------------------


class Submitted(NamedTuple):
    code: int
    out: str


class Head:
    """A Ray head on loopback."""

    def __init__(self, storage: Path, temporary: Path) -> None:
        self._ports = dict(
            zip(("", "dashboard-", "dashboard-agent-listen-", "ray-client-server-"), free(4), strict=True)
        )
        self.url = f"http://127.0.0.1:{self._ports['dashboard-']}"
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # nothing is left to be waited for, for 30 s
            "RAYMIX_STORAGE": str(storage),
            "RAY_TMPDIR": str(temporary),  # `ray start` leaves a note there, which would lead every Ray to this head
        }
        ports = [f"--{name}port={port}" for name, port in self._ports.items()]
        options = ["--head", "--block", "--num-cpus=4", f"--object-store-memory={200 * 2**20}"]
        self._log = (storage / "head.log").open("w")
        self.process = psutil.Popen(
            ["ray", "start", *options, *ports], env=self.environment, stdout=self._log, stderr=subprocess.STDOUT
        )

    def wait(self) -> None:
        """Waits until it takes jobs."""
        until = time.monotonic() + SECONDS
        while True:
            assert self.process.poll() is None, Path(self._log.name).read_text()
            assert time.monotonic() < until
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/api/version", timeout=5):
                return
            time.sleep(0.2)

    def submit(self, *entrypoint: str, env: dict[str, str] | None = None) -> Submitted:
        """`ray job submit` as the README has it: waits for the job, and prints what it prints."""
        options = ["--address", self.url, "--working-dir", "."]
        if env:
            options += ["--runtime-env-json", json.dumps({"env_vars": env})]
        done = subprocess.run(
            ["ray", "job", "submit", *options, "--", *entrypoint],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Submitted(done.returncode, done.stdout)

    def end(self) -> None:
        """Ends this head and no other: `ray stop` would end every Ray of the machine."""
        family = [self.process, *self.process.children(recursive=True)]
        self.process.terminate()
        for process in psutil.wait_procs(family, 30)[1]:
            process.kill()
        self._log.close()


def free(number: int) -> list[int]:
    """Ports of loopback that nobody uses now."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [server.getsockname()[1] for server in servers]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head of four CPUs whose jobs keep their runs below RAYMIX_STORAGE."""
    temporary = Path(tempfile.mkdtemp(prefix="rx"))  # a short path, for Ray's sockets
    head = Head(tmp_path_factory.mktemp("storage"), temporary)
    try:
        head.wait()
        yield head
    finally:
        head.end()
        shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.ray
@needs_plain_python
def test_a_submitted_job_leaves_its_run_in_raymix_storage(head: Head, tmp_path: Path) -> None:
    """One worker, which needs no process group and computes what this process does, bit by bit."""
    done = head.submit("raymix", "run", JOB, *overrides(epochs=2, **{"cluster.workers": 1}))
    assert done.code == 0, done.out
    assert "succeeded" in done.out
    assert "digits  done  top-1 " in done.out
    folder = Path(head.environment["RAYMIX_STORAGE"]) / "runs" / "digits"
    report = read_run(folder)
    assert (report.status, report.workers) == ("done", 1)
    torch.set_num_threads(1)
    fields = ("schedule.ssl_epochs=2", "schedule.sl_epochs=2", "cluster.workers=0", f"storage={tmp_path}")
    alone = run(REPOSITORY / JOB, fields, quiet=True)
    assert report.final is not None
    assert alone.final is not None
    assert report.final.correct == alone.final.correct
    assert tensors(folder) == tensors(tmp_path / "digits")


def tensors(folder: Path) -> bytes:
    """Weights and moments of the newest checkpoint."""
    return (max((folder / "checkpoints").iterdir()) / "tensors.safetensors").read_bytes()


@pytest.mark.ray
@needs_plain_python
def test_a_submitted_job_with_storage_that_would_vanish_is_refused(head: Head) -> None:
    done = head.submit("python", "-m", "raymix", "run", JOB, "--set", "name=lost", env={"RAYMIX_STORAGE": ""})
    assert done.code == 1, "what `ray job submit` makes of a job that failed"
    assert "failed with exit code 2" in done.out
    assert "error: storage: 'runs' is relative, and the working directory of a Ray job vanishes with it" in done.out
    assert "Traceback" not in done.out
