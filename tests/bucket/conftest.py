"""A bucket on an S3 server of this machine: moto's, in a process of its own, which commands and workers reach, too."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from raymix import conduct
from raymix.bucket import lease
from raymix.bucket.mirror import storage_root
from raymix.report.history import SegmentReport
from raymix.train import measure
from raymix.watch.jsonl import JsonlSink
from tests.on_ray.machines import free_port

STORAGE, RUN = "s3://runs/of us", "of us/digits"  # and below it in the bucket


class Server:
    """An S3 server that may be away."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """A new one at the same place, with a bucket and nothing in it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/moto-api/").close()
                break
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)

    def reset(self) -> None:
        """Nothing but an empty bucket."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")).close()
        self.client.create_bucket(Bucket="runs")

    def authorise(self, after: int) -> None:
        """From the `after`-th request on, keys must be known, and the tests' is not."""
        asked = f"{self.url}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(asked, str(after).encode(), headers, method="POST")).close()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def names(self, prefix: str) -> set[str]:
        """Keys of the objects below a prefix, without that; folders' markers aside."""
        found = self.client.list_objects_v2(Bucket="runs", Prefix=f"{prefix}/").get("Contents", [])
        return {one["Key"].removeprefix(f"{prefix}/") for one in found if not one["Key"].endswith("/")}

    def read(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket="runs", Key=key)["Body"].read()
        return content


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """One with an empty bucket `runs`, as the environment says."""
    for name, value in {
        "AWS_ENDPOINT_URL": _server.url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    _server.reset()
    return _server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TIMED", 2)
    monkeypatch.setattr(lease, "_TRIES", 1)


@pytest.fixture
def at_segment(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """`at_segment(2, do)`: does something when the second segment from now on is reported."""
    wanted, seen = dict[int, Callable[[], object]](), [0]

    class Counting(JsonlSink):
        def segment(self, run: str, report: SegmentReport) -> None:
            super().segment(run, report)
            seen[0] += 1
            if seen[0] in wanted:
                wanted[seen[0]]()

    def ask(number: int, do: Callable[[], object]) -> None:
        wanted.clear()
        wanted[number], seen[0] = do, 0

    monkeypatch.setattr(conduct, "JsonlSink", Counting)
    return ask


def elsewhere() -> None:
    """A fresh machine: nothing of what was here is."""
    shutil.rmtree(storage_root(STORAGE))
    storage_root.cache_clear()
