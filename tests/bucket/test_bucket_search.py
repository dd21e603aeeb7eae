"""Searches whose storage is a bucket: each trial's process keeps its own run there, and all that reads one finds it."""

from __future__ import annotations

import copy
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymix.bucket import LEASE_SECONDS, Store, storage_root, visited
from raymix.bucket.lease import Lease
from raymix.jobfile import load_spec
from raymix.report.reckon import searches_of
from raymix.runner import Interrupted
from raymix.spec import JobError, JobSpec
from raymix.starting import with_searches
from raymix.tuning import tune
from tests.bucket.conftest import RUN, STORAGE, Server, elsewhere
from tests.conftest import JOB, Raymix
from tests.on_ray import objectives
from tests.on_ray.conftest import ray_of

SPACE = {"optim.lr": {"loguniform": [1e-3, 1e-2]}}


@pytest.fixture
def ray_here(server: Server) -> Iterator[None]:
    """A Ray whose processes know where the server is."""
    with ray_of(2, 80 * 10**6):
        yield


def job(**fields: Any) -> dict[str, Any]:
    schedule = {"ssl_epochs": 8, "sl_epochs": 8, "mix_ratio": 0.5}
    tuned = {"trials": 3, "space": SPACE, "concurrent": 1, "warm_start": True}
    asked = {**copy.deepcopy(JOB), "storage": STORAGE, "schedule": schedule, "tune": tuned, **fields}
    return {**asked, "data": {**asked["data"], "select": 0.2}, "evaluate": {"every": 0.2, "max_share": 1}}


def interrupted_at(server: Server, key: str, after: float = 0.0) -> None:
    """Ctrl-C as soon as an object is there, or so many seconds later."""

    def look() -> None:
        while key not in server.names(RUN):
            time.sleep(0.1)
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=look, daemon=True).start()


@pytest.mark.ray
def test_a_search_goes_on_elsewhere(server: Server, ray_here: None, raymix: Raymix, tmp_path: Path) -> None:
    spec = load_spec(job())
    interrupted_at(server, "trials/0001/plan.json")
    with pytest.raises(Interrupted, match=f"^finished trials are kept; --resume goes on from {STORAGE}/digits$"):
        tune(spec, quiet=True)
    there = server.names(RUN)
    assert there >= {"search.jsonl", "search.json", "report.html", "best.yaml", "trials/0000/trial.json"}
    assert "trials/0001/trial.json" not in there
    (saved,) = (key for key in there if key.startswith("trials/0001/checkpoints/") and key.endswith("commit.json"))
    elsewhere()
    report = tune(spec, resume=True, quiet=True)
    assert (report.status, [trial.status for trial in report.trials]) == ("done", ["done"] * 3)
    assert not (storage_root(STORAGE) / "digits" / "trials").exists(), "hundreds of trials would be fetched"
    attempts = [json.loads(server.read(f"{RUN}/trials/{n:04}/report.json"))["attempts"] for n in range(3)]
    assert attempts == [1, 2, 1], f"the second one went on from {saved}"
    best = server.read(f"{RUN}/best.yaml").decode()
    assert best.startswith(f"# raymix run best.yaml, which lies at {STORAGE}/digits/best.yaml\n")
    (tmp_path / "best.yaml").write_text(best)
    assert load_spec(tmp_path / "best.yaml").storage == STORAGE
    elsewhere()
    done = raymix("report", f"{STORAGE}/digits")
    assert (done.code, "3 of 3 trials" in done.out) == (0, True), done.err
    elsewhere()
    assert tune(spec, resume=True, quiet=True).trials == report.trials
    elsewhere()
    counting = load_spec(job(tune=None, report={"searches": [f"{STORAGE}/digits"]}))
    assert searches_of(with_searches(counting).report) == (report,)
    with pytest.raises(JobError, match=rf"^tune\.seed: {STORAGE}/digits holds another search"):
        tune(load_spec(job(tune={**job()["tune"], "seed": 3})), resume=True, quiet=True)

    later = job(name="later", tune={**job()["tune"], "trials": 1})
    found = tune(load_spec(later), objectives.hopeless, quiet=True)
    assert [(trial.source, trial.values) for trial in found.earlier] == [("digits", t.values) for t in report.trials]
    assert f"(see {STORAGE}/later/trials/0000/error.txt)" in found.trials[0].error
    assert b"ZeroDivisionError" in server.read("of us/later/trials/0000/error.txt")


@pytest.mark.ray
@pytest.mark.chaos
def test_a_trial_waits_for_a_killed_process_of_its_own_and_ends_when_told(server: Server, ray_here: None) -> None:
    spec = load_spec(job(tune={**job()["tune"], "trials": 1}))
    killed = Lease(Store(f"{STORAGE}/digits/trials/0000"))
    killed.take()
    interrupted_at(server, "search.jsonl", after=12.0)
    before = time.monotonic()
    with pytest.raises(Interrupted) as end:
        tune(spec, quiet=True)
    assert time.monotonic() - before < LEASE_SECONDS
    assert [trial.status for trial in end.value.report.trials] == ["interrupted"]
    elsewhere()
    threading.Timer(15.0, killed.release).start()
    report = tune(spec, resume=True, quiet=True)
    assert [(trial.status, trial.error) for trial in report.trials] == [("done", "")]


def test_a_pilot_counts_searches_in_a_bucket(server: Server, spec_of: Callable[..., JobSpec]) -> None:
    place = f"{STORAGE}/none"
    with pytest.raises(JobError, match=f"^report.searches: {place}: there is nothing by that name in the bucket"):
        with_searches(spec_of(report={"searches": [place]}))
    server.client.put_object(Bucket="runs", Key="of us/bad/search.json", Body=b"{}")
    with pytest.raises(JobError, match=r"^report\.searches: "):
        searches_of(with_searches(spec_of(report={"searches": [f"{STORAGE}/bad"]})).report)


def test_a_look_at_a_whole_bucket_leaves_a_run_that_is_trained_there(server: Server) -> None:
    server.client.put_object(Bucket="runs", Key="other/search.jsonl", Body=b"")
    mine = storage_root("s3://runs") / "mine"
    mine.mkdir()
    assert [path.name for path in visited("s3://runs", ("search.jsonl",)).iterdir()] == ["other"]
    assert mine.is_dir()
