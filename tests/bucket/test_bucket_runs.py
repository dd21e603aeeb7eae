"""Runs whose storage is a bucket: what is there, what goes on from it elsewhere, what is refused, and what is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raymix.api import load_model, replay
from raymix.bucket.lease import Lease
from raymix.bucket.mirror import storage_root
from raymix.bucket.store import Store
from raymix.runner import Interrupted, check, run
from raymix.spec import JobError, JobSpec
from raymix.train.checkpoint import COMMIT, STATE, TENSORS
from tests.bucket.conftest import RUN, STORAGE, Server, elsewhere
from tests.conftest import Raymix

FILES = {"job.yaml", "resolved.json", "plan.json", "metrics.jsonl", "report.json", "report.html", "attempt-001.json"}
SpecOf = Callable[..., JobSpec]


def state_in(server: Server) -> tuple[str, bytes]:
    """Name and tensors of the newest checkpoint."""
    name = max(key for key in server.names(f"{RUN}/checkpoints") if key.endswith(COMMIT)).partition("/")[0]
    return name, server.read(f"{RUN}/checkpoints/{name}/{TENSORS}")


def spoil(server: Server, key: str) -> None:
    content = bytearray(server.read(key))
    content[len(content) // 2] ^= 1
    server.client.put_object(Bucket="runs", Key=key, Body=bytes(content))


def test_a_run_goes_on_elsewhere_from_what_verifies(
    server: Server, spec_of: SpecOf, at_segment: Any, raymix: Raymix
) -> None:
    whole = run(spec_of(), quiet=True)
    unbroken = whole.final and whole.final.correct
    spec = spec_of(storage=STORAGE)
    at_segment(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Interrupted, match=f"--resume goes on from {STORAGE}/digits"):
        run(spec, quiet=True)
    name, _ = state_in(server)
    assert json.loads(server.read(f"{RUN}/report.json"))["status"] == "interrupted"
    spoil(server, f"{RUN}/checkpoints/{name}/{TENSORS}")
    elsewhere()
    at_segment(0, print)
    report = run(spec, resume=True, quiet=True)
    assert report.final
    assert report.final.correct == unbroken
    assert report.attempts == 2
    there = server.names(RUN)
    assert {key for key in there if not key.startswith(("checkpoints/", "events."))} >= FILES
    kept = {key.partition("/")[0] for key in server.names(f"{RUN}/checkpoints")}
    assert server.names(f"{RUN}/checkpoints") == {f"{one}/{file}" for one in kept for file in (TENSORS, STATE, COMMIT)}
    assert len(kept) == 2
    assert not any(key.startswith("driver.lock/") for key in there)
    _commands_see_it(server, raymix)
    elsewhere()
    later = check(spec_of(name="later", data={"keep_splits": f"{STORAGE}/digits", "holdout": 0.5}))
    before = check(spec)
    assert later.splits.val.tolist() == before.splits.val.tolist()
    assert later.splits.select.tolist() == before.splits.select.tolist()
    elsewhere()
    assert run(spec, resume=True, quiet=True) == report
    with pytest.raises(JobError, match=f"name: {STORAGE}/digits is already used"):
        run(spec, quiet=True)


def _commands_see_it(server: Server, raymix: Raymix) -> None:
    server.client.delete_object(Bucket="runs", Key=f"{RUN}/report.html")
    done = raymix("report", f"{STORAGE}/digits")
    assert done.code == 0
    assert f"report: {STORAGE}/digits/report.html" in done.out
    assert server.read(f"{RUN}/report.html").startswith(b"<!")
    listed = json.loads(raymix("runs", "ls", "--storage", STORAGE, "--json").out)
    assert [one["folder"] for one in listed] == [f"{STORAGE}/digits"]
    assert raymix("runs", "show", "digits", "--storage", STORAGE).code == 0
    assert "done" in raymix("runs", "watch", "digits", "--storage", STORAGE, "--once").out


def test_what_is_done_with_a_run_reads_its_bucket(
    server: Server, spec_of: SpecOf, raymix: Raymix, tmp_path: Path, image_tree: Callable[..., Path]
) -> None:
    checkpoint = {"best": True, "keep": 1}
    report = run(spec_of(storage=STORAGE, checkpoint=checkpoint, evaluate={"every": 0.2, "max_share": 1}), quiet=True)
    place = f"{STORAGE}/digits"
    elsewhere()
    tensors = [load_model(place, best=best).state_dict() for best in (False, True)]
    newest, _ = state_in(server)
    assert json.loads(server.read(f"{RUN}/checkpoints/best.json"))["name"] != newest, "a test of two checkpoints"
    assert any(not torch.equal(a, b) for a, b in zip(*(one.values() for one in tensors), strict=True))
    elsewhere()
    images = image_tree(tmp_path / "images", classes=2, per_class=3, size=8)
    out = tmp_path / "found.csv"
    assert raymix("predict", place, str(images), "--out", str(out)).code == 0
    assert len(out.read_text().splitlines()) == 7
    done = raymix("export", place, "--set", "images=4")
    assert f"{place}/export/safetensors" in done.out
    assert server.names(f"{RUN}/export/safetensors") >= {"README.md", "model.json", "model.safetensors"}
    elsewhere()
    assert raymix("export", place).err.startswith(f"error: --out: {place}/export/safetensors ")
    again = replay(place, quiet=True)
    assert again.equal
    assert again.run == place
    assert again.replay == f"{place}-replay"
    final = json.loads(server.read("of us/digits-replay/report.json"))["final"]
    assert report.final
    assert final["top1"] == report.final.top1
    _others_begin_with_it(spec_of)
    for words in (["predict", "NONE", str(images), "--out", str(tmp_path / "none.csv")], ["export", "NONE"]):
        refused = raymix(*(f"{STORAGE}/none" if word == "NONE" else word for word in words))
        line = f"error: {STORAGE}/none: there is nothing by that name in the bucket (see raymix runs ls --storage)\n"
        assert (refused.code, refused.err.splitlines(keepends=True)[-1]) == (2, line)


def _others_begin_with_it(spec_of: SpecOf) -> None:
    """With the run and with its export, which are the same weights; what is recorded holds on any machine."""
    place, began = f"{STORAGE}/digits", []
    for number, source in enumerate((place, f"{place}/export/safetensors")):
        elsewhere()
        backbone = {"type": "vit", "size": "nano", "patch": 2, "weights": source, "weights_head": True}
        report = run(spec_of(name=f"later-{number}", backbone=backbone), quiet=True)
        assert report.start
        assert report.start.weights
        assert (report.start.weights.matched, report.start.weights.left) == (report.start.weights.tensors, 0)
        assert report.start.weights.file.startswith(f"{source}/")
        began.append(report.curve[0].ssl_loss)
    assert began[0] == began[1]
    fresh = run(spec_of(name="fresh"), quiet=True).curve[0].ssl_loss
    assert fresh is not None
    assert began[0] is not None
    assert began[0] < fresh
    with pytest.raises(JobError, match=f"^backbone.weights: {place} is in the folder of this run itself"):
        run(spec_of(storage=STORAGE, backbone={**backbone, "weights": place}), overwrite=True, quiet=True)
    with pytest.raises(JobError, match=f"^backbone.weights: {STORAGE}/none: there is nothing by that name in the"):
        check(spec_of(name="later", backbone={**backbone, "weights": f"{STORAGE}/none"}))


def test_overwrite_leaves_nothing_of_the_old_run(server: Server, spec_of: SpecOf) -> None:
    server.client.put_object(Bucket="runs", Key=f"{RUN}/job.yaml", Body=b"name: old")
    server.client.put_object(Bucket="runs", Key=f"{RUN}/checkpoints/step-999999999/{COMMIT}", Body=b"{}")
    server.client.put_object(Bucket="runs", Key=f"{RUN}/old.txt", Body=b"old")
    spec = spec_of(storage=STORAGE, schedule={"ssl_epochs": 0, "sl_epochs": 1})
    assert run(spec, overwrite=True, quiet=True).status == "done"
    there = server.names(RUN)
    assert "job.yaml" in there
    assert not any("old" in key or "999999999" in key for key in there)


def test_what_cannot_be_used_is_a_line_before_anything_starts(
    server: Server, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymix.runner.open_session", None)

    def said(storage: str) -> str:
        storage_root.cache_clear()
        with pytest.raises(JobError) as caught:
            run(spec_of(storage=storage), quiet=True)
        return str(caught.value)

    assert said("s3://none/x").startswith("storage: no such bucket: s3://none/x/digits (")
    holder = Lease(Store(f"{STORAGE}/digits"))
    holder.take()
    assert said(STORAGE).startswith(f"name: {STORAGE}/digits is in use by process ")
    holder.release()
    server.authorise(0)
    try:
        assert said(STORAGE).startswith(f"storage: {STORAGE}/digits cannot be read: access denied: ")
    finally:
        server.authorise(10**9)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert said(STORAGE).startswith(f"storage: {STORAGE}/digits cannot be read: ")
    taken_over = {
        "backbone.weights": {"backbone": {"type": "vit", "size": "nano", "patch": 2, "weights": f"{STORAGE}/digits"}},
        "data.keep_splits": {
            "data": {"train": {"format": "digits"}, "image_size": 8, "keep_splits": f"{STORAGE}/digits"}
        },
    }
    for field, asked in taken_over.items():
        with pytest.raises(JobError, match=rf"^{field}: {STORAGE}/digits cannot be read: (?!.*{STORAGE})"):
            check(spec_of(**asked))
