"""A bucket on an S3 server of this machine: moto's, in a process of its own, so that commands and Ray's workers see it."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple

import boto3
import pytest

from raymix.data import remote
from tests.on_ray.machines import free_port


class Server(NamedTuple):
    """An S3 server that is told what to do by the test."""

    url: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/").close()
            break
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
    yield url
    server.kill()
    server.wait()
