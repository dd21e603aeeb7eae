"""`raymix data` as a user meets it: what it prints where, what it refuses, and what is left after kill -9."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from raymix.data.prepare import verified
from raymix.spec import ParquetSource
from tests.conftest import REPOSITORY, Raymix


@pytest.fixture
def photos(image_tree: Callable[..., Path], tmp_path: Path) -> Path:
    """Three classes of 20 images, one of them cut off."""
    root = image_tree(tmp_path / "photos")
    path = root / "class1" / "004.jpg"
    path.write_bytes(path.read_bytes()[:200])
    return root


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of what is in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# ---- usage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["data check", "data prepare"])
def test_every_command_explains_itself_with_an_example(raymix: Raymix, command: str) -> None:
    done = raymix(*command.split(), "--help")
    assert done.code == 0
    assert f"Example:  raymix {command}" in done.out


def test_the_group_alone_shows_its_commands(raymix: Raymix) -> None:
    done = raymix("data")
    assert done.code == 0
    assert "check" in done.out
    assert "prepare" in done.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["check"], "error: raymix data check: Missing argument 'SOURCE'"),
        (["check", "no/such"], "error: SOURCE: no such file or folder: no/such"),
        (["check", "digits", "--val", "no/such"], "error: --val: no such file or folder: no/such"),
        (["check", "digits", "--format", "digit"], "error: --format: unknown value digit (did you mean digits?)"),
        (["check", "nowhere.yaml"], "error: nowhere.yaml: no such job file"),
        (["check", "digits", "--set", "data.image_sise=8"], "error: data.image_sise: unknown key"),
        (
            ["check", "digits", "--skipped", "/no/such/file.tsv"],
            "error: --skipped: /no/such/file.tsv cannot be written",
        ),
        (["prepare", "digits", "s3://bucket/x"], "error: DIR: s3://bucket/x is not a local folder"),
        (["prepare", "digits", "/proc/x"], "error: DIR: /proc/x cannot be made"),
        (["prepare", "digits", "x", "--codec", "gif"], "error: raymix data prepare: Invalid value for '--codec'"),
    ],
)
def test_a_mistake_is_one_line(raymix: Raymix, arguments: list[str], line: str) -> None:
    done = raymix("data", *arguments)
    assert (done.code, done.out) == (2, "")
    last = done.err.splitlines()[-1]
    assert last.startswith(line)
    assert len([one for one in done.err.splitlines() if one.startswith("error")]) == 1


def test_a_job_file_says_it_all(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(
        yaml.safe_dump(
            {"name": "x", "data": {"train": {"format": "image_folder", "path": str(photos)}, "image_size": 32}}
        )
    )
    done = raymix("data", "check", job, "--json", "--set", "data.max_bad_fraction=0.5")
    report = json.loads(done.out)
    assert report["sizes"]["below_image_size"] == 1.0
    assert report["unreadable"]["max_bad_fraction"] == 0.5
    assert raymix("data", "check", job, "--val", photos).err.startswith("error: --val: ")


# ---- check ------------------------------------------------------------------------------------------------------


def test_check_tells_what_is_there(raymix: Raymix, photos: Path) -> None:
    done = raymix("data", "check", photos)
    assert done.code == 0
    assert re.search(r"^rows +60 train", done.out, re.MULTILINE)
    assert re.search(r"^unreadable +1 of 60 \(1.67%\): truncated 1", done.out, re.MULTILINE)
    assert "above data.max_bad_fraction 0.01: a run would stop" in done.out
    assert re.search(r"^duplicates +none", done.out, re.MULTILINE)
    assert str(photos / "class1" / "004.jpg") in done.out
    assert "reading images: 60 of 60" in done.err


def test_check_as_json_prints_nothing_else(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    done = raymix("data", "check", photos, "--json", "--skipped", tmp_path / "bad.tsv")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["rows"] == {"train": 60, "unlabelled": 0, "val": 0, "shared": 0, "groups": None}
    assert [one["train"] for one in report["classes"]] == [20, 20, 20]
    assert report["unreadable"]["causes"] == {"truncated": 1}
    assert report["unreadable"]["stops"]
    cut = str(photos / "class1" / "004.jpg")
    assert report["unreadable"]["images"] == [{"cause": "truncated", "part": "train", "path": cut}]
    assert (tmp_path / "bad.tsv").read_text() == f"cause\tpart\tpath\ntruncated\ttrain\t{cut}\n"


def test_validation_images_of_another_folder(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "val")
    report = json.loads(raymix("data", "check", photos, "--val", tmp_path / "val", "--json").out)
    assert (report["rows"]["train"], report["rows"]["val"]) == (60, 60)
    assert report["duplicates"]["val_in_train"] == 59, "the cut one is no image"
    done = raymix("data", "check", photos, "--val", photos)
    assert (done.code, done.err) == (
        2,
        f"error: --val: 60 of its images are training images too, first: {photos}/class0/000.jpg "
        "(leave data.val out for data.train's own, or a hold-out)\n",
    )


def test_images_without_labels_can_be_checked(raymix: Raymix, photos: Path) -> None:
    done = raymix("data", "check", photos / "class0", "--json")
    assert json.loads(done.out)["rows"]["unlabelled"] == 20


def test_an_empty_folder(raymix: Raymix, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert raymix("data", "check", tmp_path / "empty").err == f"error: SOURCE: {tmp_path}/empty is empty\n"


def test_neither_torch_nor_ray_is_loaded(photos: Path) -> None:
    code = (
        "import sys\nfrom raymix.__main__ import main\n"
        f"try: main(['data', 'check', {str(photos)!r}, '--json'])\n"
        "except SystemExit as done:\n"
        "    print(done.code, [name for name in ('torch', 'ray') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"


# ---- prepare ----------------------------------------------------------------------------------------------------


def test_prepared_images_are_the_same_data(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = raymix("data", "prepare", photos, out, "--max-bad", "0.1", "--rows", "20")
    assert done.code == 0, done.err
    assert "59 train" in done.out
    assert "truncated 1" in done.out
    assert sorted(content(out)) == ["raymix.json", "skipped.tsv"] + [
        f"train-0000{n}-of-00003.parquet" for n in range(3)
    ]
    assert str(photos / "class1" / "004.jpg") in (out / "skipped.tsv").read_text()
    assert verified(ParquetSource(format="parquet", path=str(out)))
    before = json.loads(raymix("data", "check", photos, "--json").out)
    after = json.loads(raymix("data", "check", out, "--json").out)
    assert [one["name"] for one in after["classes"]] == [one["name"] for one in before["classes"]]
    assert after["rows"]["train"] == 59
    assert after["kinds"] == before["kinds"]
    assert after["unreadable"]["images"] == []


def test_too_many_bad_images_stop_it(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = raymix("data", "prepare", photos, out, "--rows", "20")
    assert done.code == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("raymix-blocks")], "works on"
    line = f"error: --max-bad: above 0.01: 1 of 60 images so far are unreadable, see {out}/skipped.tsv"
    assert done.err.splitlines()[-1].startswith(line)
    assert not (out / "raymix.json").exists()
    assert "class1/004.jpg" in (out / "skipped.tsv").read_text()
    assert raymix("data", "prepare", photos, out, "--rows", "20", "--max-bad", "0.02").code == 0


def test_a_second_time_there_is_nothing_to_do(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("data", "prepare", photos, out, "--max-bad", "1", "--rows", "20")
    first, times = raymix(*command), {}
    before = content(out)
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    second = raymix(*command)
    assert (second.code, second.out) == (0, first.out)
    assert f"{out} was prepared before: nothing to do" in second.err
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    (out / "train-00001-of-00003.parquet").write_bytes(b"damaged")
    (out / "train-00002-of-00003.parquet").unlink()
    assert raymix(*command).code == 0
    assert content(out) == before, "what was damaged is made again"
    assert (out / "train-00000-of-00003.parquet").stat().st_mtime_ns == times[out / "train-00000-of-00003.parquet"]


def test_another_source_or_option_is_refused(raymix: Raymix, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ("data", "prepare", photos, out, "--max-bad", "1")
    assert raymix(*common, "--size", "8").code == 0
    told = f"error: DIR: {out} was prepared "
    assert raymix(*common).err.startswith(f"{told}with --size 8, not left out (name another folder, or remove it)")
    assert raymix(*common, "--size", "8", "--seed", "1").err.startswith(f"{told}with --seed 0, not 1")
    (photos / "class0" / "000.jpg").unlink()
    assert raymix(*common, "--size", "8").err.startswith(f"{told}from the same source when it held other images")
    assert raymix("data", "prepare", "digits", out, "--size", "8").err.startswith(f"{told}from another source")


def test_a_folder_with_other_files_is_refused(raymix: Raymix, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    done = raymix("data", "prepare", "digits", tmp_path)
    assert done.err == f"error: DIR: {tmp_path} holds other files (name a new or an empty folder)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, image_tree: Callable[..., Path]) -> None:
    source, out = image_tree(tmp_path / "photos", classes=4, per_class=500, size=96), tmp_path / "out"
    options = ["--rows", "10", "--size", "64", "--codec", "webp"]  # slow enough to be interrupted on any machine
    command = [sys.executable, "-m", "raymix", "data", "prepare", str(source), str(out), *options]

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background hands down that it is ignored

    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen
    )
    while process.poll() is None and not list(out.glob("train-*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=60)
    assert (process.returncode, printed) == (130, "")
    assert told.splitlines()[-1] == "interrupted: the same command goes on from here"


def test_kill_and_go_on(tmp_path: Path, image_tree: Callable[..., Path]) -> None:
    """Ended by kill -9 in the middle, the same command ends with the bytes of an unbroken run."""
    source = image_tree(tmp_path / "photos", classes=4, per_class=150, size=48)

    def command(out: str) -> list[str]:
        options = ["--local", "--rows", "10", "--size", "32", "--codec", "webp"]
        return [sys.executable, "-m", "raymix", "data", "prepare", str(source), str(tmp_path / out), *options]

    subprocess.run(command("whole"), check=True, cwd=REPOSITORY, capture_output=True)
    kills = 0
    for least in (5, 25, 45):
        process = subprocess.Popen(
            command("broken"), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while process.poll() is None and len(list((tmp_path / "broken").glob("train-*"))) < least:
            assert time.monotonic() < until
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL and not (tmp_path / "broken" / "raymix.json").exists()
    assert kills, "it was never killed in the midst"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "broken").glob("train-*")}
    subprocess.run(command("broken"), check=True, cwd=REPOSITORY, capture_output=True)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")
    assert sum(path.stat().st_mtime_ns == at for path, at in kept.items()) >= len(kept) - 4, "what was whole stays"
