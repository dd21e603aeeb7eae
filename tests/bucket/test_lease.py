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


@pytest.mark.parametrize("released", [False, True])
def test_one_that_was_taken_for_dead_finds_out(server: Server, monkeypatch: pytest.MonkeyPatch, released: bool) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lease, "_LAPSE_SECONDS", 0.5)
    stopped, after = Lease(FOLDER), Lease(FOLDER)
    stopped.take()
    threading.Event().wait(2.1)
    after.take()
    if released:
        after.release()
    stopped.beat()
    assert stopped.lost
    assert server.names("digits") == (set() if released else {f"{LOCK_FOLDER}/{after.ticket}"})


def test_of_many_at_once_one_has_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_TRIES", 2)
    took, start = list[Lease](), threading.Barrier(3)

    def contend() -> None:
        mine = Lease(FOLDER)
        start.wait()
        try:
            mine.take()
        except JobError:
            return
        took.append(mine)

    threads = [threading.Thread(target=contend) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) <= 1
    assert server.names("digits") == {f"{LOCK_FOLDER}/{one.ticket}" for one in took}
