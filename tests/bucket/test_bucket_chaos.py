"""Buckets that are away, or are another's in the midst of a run."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raymix.bucket import lease, mirror
from raymix.bucket.lease import LOCK_FOLDER, Lease
from raymix.bucket.mirror import storage_root
from raymix.bucket.saved import Saved
from raymix.bucket.store import Store
from raymix.runner import Interrupted, RunFailed, run
from raymix.spec import JobError, JobSpec
from raymix.train import saving
from raymix.train.checkpoint import COMMIT
from tests.bucket.conftest import RUN, STORAGE, Server, elsewhere

pytestmark = pytest.mark.chaos

SpecOf = Callable[..., JobSpec]
FOLDER = Store("s3://runs/digits")


def test_a_bucket_that_is_away_for_a_while_stops_nobody(
    server: Server, spec_of: SpecOf, at_segment: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    put, away = Saved.put, [False]

    def broken(saved: Saved, path: Any) -> None:
        if away[0]:
            raise OSError(5, "the server does not answer", str(path))
        put(saved, path)

    monkeypatch.setattr(Saved, "put", broken)
    at_segment(1, lambda: away.__setitem__(0, True))
    spec = spec_of(storage=STORAGE)
    with pytest.raises(RunFailed, match=f"could not be written .the server does not answer: {STORAGE}/digits/check"):
        run(spec, quiet=True)
    assert "; training goes on" in capsys.readouterr().err
    assert json.loads(server.read(f"{RUN}/report.json"))["status"] == "failed"
    away[0] = False
    elsewhere()
    assert run(spec, resume=True, quiet=True).status == "done"


def test_what_cannot_be_written_at_the_end_fails_and_stays_here(
    server: Server, spec_of: SpecOf, at_segment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Store.upload

    def refuses(store: Store, file: Any, name: str) -> None:
        if name == "report.json":
            raise OSError(5, "the server does not answer", name)
        upload(store, file, name)

    monkeypatch.setattr(Store, "upload", refuses)
    with pytest.raises(RunFailed, match=f"the report could not be written to {STORAGE}/digits: the server does not"):
        run(spec_of(storage=STORAGE, schedule={"ssl_epochs": 0, "sl_epochs": 1}), quiet=True)
    root = storage_root(STORAGE)
    assert (root / "digits" / "report.json").is_file()
    assert root in mirror._keep
    mirror._keep.discard(root)


def test_who_lost_the_run_writes_no_marker(server: Server, spec_of: SpecOf, at_segment: Any) -> None:
    def take_away() -> None:
        for key in server.names(f"{RUN}/driver.lock"):
            server.client.delete_object(Bucket="runs", Key=f"{RUN}/driver.lock/{key}")
        committed.append({key for key in server.names(f"{RUN}/checkpoints") if key.endswith(COMMIT)})

    committed = list[set[str]]()
    at_segment(2, take_away)
    with pytest.raises(RunFailed, match="another command has taken the run over"):
        run(spec_of(storage=STORAGE), quiet=True)
    after = {key for key in server.names(f"{RUN}/checkpoints") if key.endswith(COMMIT)}
    assert len(after - committed[0]) <= 1  # one may have been on its way


def test_the_best_of_a_run_is_found_elsewhere(server: Server, spec_of: SpecOf, at_segment: Any) -> None:
    spec = spec_of(storage=STORAGE, checkpoint={"every": 0, "best": True})
    at_segment(4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted):
        run(spec, quiet=True)
    best = json.loads(server.read(f"{RUN}/checkpoints/{saving.BEST}"))["name"]
    assert f"{best}/{COMMIT}" in server.names(f"{RUN}/checkpoints")


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
