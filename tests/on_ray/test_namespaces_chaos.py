"""Two nodes that share no address, in network namespaces joined by a pair of virtual cables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import yaml

from tests.on_ray.commands import started
from tests.on_ray.killing import final_of, killed_job, state_of, wait_until
from tests.on_ray.machines import ENVIRONMENT, Machine

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

ADDRESSES = ("10.213.1.1", "10.213.1.2")
PORT = 6379  # each namespace has all ports for itself
S3_PORT = 5000
STORAGE = "s3://bucket/runs"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
MAKE_BUCKET = """
import boto3
from botocore.config import Config
many = Config(retries={"max_attempts": 12, "mode": "standard"})
boto3.client("s3", config=many).create_bucket(Bucket="bucket")
"""
NEWEST = f"""
import hashlib
from raymix.bucket import Store
found = Store("{STORAGE}/digits/checkpoints")
name = max(key for key in found.list() if key.endswith("/commit.json")).partition("/")[0]
print(name, hashlib.sha256(found.read(name + "/tensors.safetensors")).hexdigest())
"""
SCHEDULE = {"ssl_epochs": 8, "sl_epochs": 8, "mix_ratio": 0.4}


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def namespaces() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each of two namespaces the command that runs commands in it."""
    names = [f"raymix-{os.getpid()}-{side}" for side in "ab"]
    cables = [f"rmx{os.getpid() % 10**6}{side}" for side in "ab"]  # an interface's name has 15 characters at most
    if shutil.which("ip") is None or not ip("netns", "add", names[0]):
        pytest.skip("may not make network namespaces here")
    try:
        assert ip("netns", "add", names[1])
        assert ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            assert ip("link", "set", cable, "netns", name)
            assert ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
            assert ip("-n", name, "link", "set", cable, "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        yield ("ip", "netns", "exec", names[0]), ("ip", "netns", "exec", names[1])
    finally:
        for name in names:
            ip("netns", "delete", name)  # its cable goes with it


@pytest.fixture
def apart(
    namespaces: tuple[tuple[str, ...], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The same, and temporary folders of the one are not there in the other."""
    folder = tempfile.mkdtemp(prefix="rx", dir="/var/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    own = f'mount -t tmpfs tmpfs {folder} && mkdir -p "$TMPDIR/ray" && exec "$@"'
    yield namespaces[0], (*namespaces[1], "sh", "-c", own, "sh")
    shutil.rmtree(folder)


@contextmanager
def two_nodes(inside: tuple[tuple[str, ...], tuple[str, ...]]) -> Iterator[tuple[Machine, Machine]]:
    """A head of two CPUs in one namespace, a node of one in the other."""
    temporary = Path(tempfile.mkdtemp(prefix="rx"))
    (temporary / "ray").mkdir()
    nodes = list[Machine]()
    head = ("--head", f"--port={PORT}", "--num-cpus=2", "--include-dashboard=false")
    try:
        for arguments, address, where in zip(
            (head, (f"--address={ADDRESSES[0]}:{PORT}", "--num-cpus=1")), ADDRESSES, inside, strict=True
        ):
            nodes.append(Machine(temporary, *arguments, address=address, inside=where))
            nodes[-1].wait()
        yield nodes[0], nodes[1]
    finally:
        for process in [process for node in nodes for process in node.family()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(temporary, ignore_errors=True)


def test_workers_in_two_namespaces_come_to_the_weights_of_two_on_one_node(
    namespaces: tuple[tuple[str, ...], tuple[str, ...]],
    unbroken: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = unbroken(schedule=SCHEDULE, cluster={"workers": 2})
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    cluster = {"workers": 2, "address": f"{ADDRESSES[0]}:{PORT}", "placement": "strict_spread"}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(killed_job(tmp_path, schedule=SCHEDULE, cluster=cluster)))
    with two_nodes(namespaces) as nodes, started("run", str(tmp_path / "job.yaml"), inside=namespaces[0]) as command:
        stood = lambda: [len(node.workers()) for node in nodes] == [1, 1]  # noqa: E731
        assert wait_until(stood, command.alive), command.err[-20:]
        began = time.monotonic()
        assert command.end() == 0, command.err[-20:]
        print(f"both trained for {time.monotonic() - began:.1f} s")
    assert state_of(tmp_path / "digits") == state_of(whole)
    assert final_of(tmp_path / "digits") == final_of(whole)


def test_a_run_in_a_bucket_goes_on_on_nodes_that_share_no_disk(
    apart: tuple[tuple[str, ...], tuple[str, ...]],
    unbroken: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = unbroken(schedule=SCHEDULE, cluster={"workers": 2})
    url = f"http://{ADDRESSES[0]}:{S3_PORT}"
    for name, value in {**ENVIRONMENT, **KEYS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    job = killed_job(tmp_path, schedule=SCHEDULE, checkpoint={"every": 0})
    job |= {"storage": STORAGE, "cluster": {"workers": 2, "address": f"{ADDRESSES[0]}:{PORT}", "placement": "spread"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    server = subprocess.Popen(
        [*apart[0], sys.executable, "-m", "moto.server", "-H", ADDRESSES[0], "-p", str(S3_PORT)],
        stderr=subprocess.DEVNULL,
    )
    try:
        _said(apart[0], MAKE_BUCKET)
        with two_nodes(apart):
            with started("run", str(tmp_path / "job.yaml"), inside=apart[0]) as command:
                assert wait_until(lambda: any("step " in line for line in command.err), command.alive)
                command.interrupt()
                assert command.end() == 130, command.err[-20:]
            with started("run", str(tmp_path / "job.yaml"), "--resume", inside=apart[0]) as command:
                assert command.end() == 0, command.err[-20:]
        assert tuple(_said(apart[0], NEWEST).split()) == state_of(whole)
    finally:
        server.kill()
        server.wait()


def _said(inside: tuple[str, ...], code: str) -> str:
    """What a program says that runs in a namespace."""
    done = subprocess.run([*inside, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
