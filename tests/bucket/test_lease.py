from __future__ import annotations

import threading

import pytest

from raymix.bucket import lease
from raymix.bucket.lease import LOCK_FOLDER, Lease, holds
from raymix.bucket.store import Store
from raymix.spec import JobError
from tests.bucket.conftest import Server

FOLDER = Store("s3://runs/digits")


def test_the_second_is_refused_and_free_is_free(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_TRIES", 1)
    first, second = Lease(FOLDER), Lease(FOLDER)
    first.take()
    with pytest.raises(JobError, match=r"name: s3://runs/digits is in use by process \d+ on "):
        second.take()
    assert server.names("digits") == {f"{LOCK_FOLDER}/{first.ticket}"}
    first.release()
    second.take()
    assert holds(FOLDER, second.ticket)
    assert not holds(FOLDER, first.ticket)


def test_a_killed_ones_folder_is_free_after_its_lease(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_TRIES", 1)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    killed, after = Lease(FOLDER), Lease(FOLDER)
    killed.take()
    threading.Event().wait(2.1)  # a server tells whole seconds
    after.take()
    assert server.names("digits") == {f"{LOCK_FOLDER}/{after.ticket}"}
