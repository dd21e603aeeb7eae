"""Killed at any call to the system, bytes changed, cut off, made by an enemy, no room: no checkpoint is half there."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import re
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hostile_checkpoints import HOSTILE
from saved_states import RUN, at, same, saved
from small_runs import Digits

import raymix
from raymix import conduct
from raymix.report.history import SegmentReport
from raymix.spec import CheckpointSpec, JobSpec
from raymix.train import checkpoint
from raymix.train.checkpoint import COMMIT, STATE, TENSORS
from raymix.train.saving import Checkpoints
from raymix.train.state import TrainState
from raymix.watch.jsonl import JsonlSink
from tests.conftest import spec_in

pytestmark = pytest.mark.chaos

DigitsOf = Callable[..., Digits]
Rounds = Callable[[int, int], int]
CALLS = ["openat", "write", "fsync", "mkdir", "mkdirat", "rename", "renameat", "unlink", "unlinkat", "rmdir"]
SAVES = 6
_ANY_TRACER = 0x59616D61, ctypes.c_ulong(-1)  # prctl's PR_SET_PTRACER, PR_SET_PTRACER_ANY


# ---- killed -------------------------------------------------------------------------------------------------------


def saving_child(folder: Path, states: list[TrainState], strace: list[str]) -> tuple[int, int]:
    """A forked process that saves the states under strace: its exit status, and how many it knew to be saved."""
    known, (ready, go) = mmap.mmap(-1, 1), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).prctl(*_ANY_TRACER, 0, 0, 0)
            os.read(ready, 1)
            with Checkpoints(folder, CheckpointSpec(every=0, keep=2), RUN, print) as kept:
                for number, state in enumerate(states, 1):
                    kept.save(state)
                    known[0] = number
            os._exit(0)
        finally:
            os._exit(1)  # whatever happens, it is no second pytest
    calls = ",".join(f"?{call}" for call in CALLS)  # each machine has its own of them
    command = ["strace", "-f", "-qq", "-p", str(child), "-e", f"trace={calls}", *strace]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    attached = Path(f"/proc/{child}/status")
    while "TracerPid:\t0\n" in attached.read_text():
        assert tracer.poll() is None, tracer.communicate()[1]
    os.write(go, b"!")
    _, status = os.waitpid(child, 0)
    tracer.communicate()
    os.close(ready)
    os.close(go)
    return os.waitstatus_to_exitcode(status), known[0]


def kill_points(folder: Path, states: list[TrainState], log: Path, num: int) -> list[tuple[str, int]]:
    """Calls of the writing thread, each as the n-th of its kind: all that are no openat and no write, if they fit."""
    code, known = saving_child(folder, states, ["-o", str(log)])
    assert (code, known) == (0, len(states))
    calls = [(thread, call) for thread, call in re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE)]
    writer = Counter(thread for thread, call in calls if call == "fsync").most_common(1)[0][0]
    counts = Counter(call for thread, call in calls if thread == writer)
    rare = [(call, n) for call, count in counts.items() if count < 10 * SAVES for n in range(1, count + 1)]
    common = [(call, n) for call, count in counts.items() if count >= 10 * SAVES for n in range(1, count + 1)]
    first = spread(rare, num * 2 // 3)
    return first + spread(common, num - len(first))


def spread(points: list[tuple[str, int]], num: int) -> list[tuple[str, int]]:
    """So many of them, evenly; all, where there are fewer."""
    return points if num >= len(points) else [points[i * len(points) // num] for i in range(num)]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_killed_at_any_call_the_newest_complete_one_is_there(
    digits: DigitsOf, tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_CHUNK", 1 << 15)  # so that a file is written in several calls
    asked = digits()
    states = [at(asked, step) for step in range(1, SAVES + 1)]
    num, read, killed = rounds(200, 25), asked.state(), 0
    points = kill_points(tmp_path / "whole", states, tmp_path / "log", num)
    assert len(points) == num
    for number, (call, n) in enumerate(points):
        folder = tmp_path / f"{number}"
        code, known = saving_child(folder, states, ["-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={n}"])
        killed += code == -signal.SIGKILL
        name, skipped = checkpoint.newest(folder, RUN, read)
        assert skipped == [], (call, n)
        assert not any(checkpoint.problem(folder / other, RUN) for other in checkpoint.names(folder)), (call, n)
        step = int(name.removeprefix("step-")) if name else 0
        assert step in (known, known + 1), (call, n)
        if name is not None:
            checkpoint.read(folder / name, read)
            assert same(read, states[step - 1]), (call, n)
        assert saved(asked, folder, SAVES + 1)[0] == f"step-{SAVES + 1:09d}"
        assert all(path.name.startswith("step-") for path in folder.iterdir()), "what was half-written is cleared away"
        shutil.rmtree(folder)
    print(f"{killed} of {num} killed: {dict(Counter(call for call, _ in points))}")
    assert killed == num


# ---- damaged ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(digits: DigitsOf, tmp_path: Path) -> tuple[Path, str, TrainState]:
    """A folder with checkpoints of steps 4 and 8, the older one's name, and a state that they fit into."""
    asked = digits()
    _, older = saved(asked, tmp_path / "checkpoints", 4, 8)
    return tmp_path / "checkpoints", older, asked.state()


def assert_passed_over(folder: Path, older: str, state: TrainState, what: object) -> str:
    name, skipped = checkpoint.newest(folder, RUN, state)
    assert (name, len(skipped)) == (older, 1), (what, skipped)
    assert skipped[0].isprintable(), what
    assert len(skipped[0]) < 400, what
    return skipped[0]


def test_no_byte_can_be_changed_unseen(two: tuple[Path, str, TrainState], rounds: Rounds) -> None:
    folder, older, state = two
    chance, newest = random.Random(0), folder / "step-000000008"
    whole = {name: (newest / name).read_bytes() for name in (COMMIT, STATE, TENSORS)}
    for number in range(rounds(500, 60)):
        name = (COMMIT, STATE, TENSORS)[number % 3]
        raw = bytearray(whole[name])
        within = len(raw) if number % 2 else min(len(raw), 4096)  # the header of the tensors as often as themselves
        place = number // 3 * 101 % len(raw) if name == COMMIT else chance.randrange(within)  # each of its bytes once
        raw[place] ^= chance.randrange(1, 256)
        (newest / name).write_bytes(raw)
        assert_passed_over(folder, older, state, (name, place))
        (newest / name).write_bytes(whole[name])
    assert checkpoint.newest(folder, RUN, state) == (newest.name, [])


def test_no_file_can_be_cut_off_unseen(two: tuple[Path, str, TrainState], rounds: Rounds) -> None:
    folder, older, state = two
    chance, newest = random.Random(1), folder / "step-000000008"
    whole = {name: (newest / name).read_bytes() for name in (COMMIT, STATE, TENSORS)}
    for number in range(rounds(200, 30)):
        name = (COMMIT, STATE, TENSORS)[number % 3]
        kept = (0, len(whole[name]) - 1)[number // 3] if number < 6 else chance.randrange(len(whole[name]))
        (newest / name).write_bytes(whole[name][:kept])
        assert_passed_over(folder, older, state, (name, kept))
        (newest / name).write_bytes(whole[name])


@contextmanager
def at_most(seconds: int, megabytes: int) -> Iterator[None]:
    """A hang is an error, and so is memory beyond so much more."""

    def ring(signum: int, frame: object) -> None:
        raise TimeoutError

    before, peak = signal.signal(signal.SIGALRM, ring), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < megabytes * 1024


def test_what_an_enemy_made_is_told_in_a_line(two: tuple[Path, str, TrainState]) -> None:
    """Nothing is executed, written or waited for."""
    folder, older, state = two
    spare = folder.parent / "spare"
    shutil.copytree(folder / "step-000000008", spare)
    assert len(HOSTILE) >= 100
    print(f"{len(HOSTILE)} made by an enemy")
    for what, make in HOSTILE.items():
        for left in folder.glob("step-*"):
            if left.name != older:
                left.unlink() if left.is_symlink() else shutil.rmtree(left)
        newest = shutil.copytree(spare, folder / "step-000000008")
        make(newest)
        before = sorted(folder.parent.rglob("*"))
        with at_most(seconds=10, megabytes=150):
            assert_passed_over(folder, older, state, what)
        assert sorted(folder.parent.rglob("*")) == before, what
        assert not (folder.parent / "mark").exists(), what


# ---- no room ------------------------------------------------------------------------------------------------------


class SmallDisk:
    """A file system of a few megabytes that can be filled up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "raymix-test", str(path)], check=True)

    def fill(self, left: int) -> None:
        """Nothing but so many bytes are left."""
        with (self.path / "ballast").open("wb", buffering=0) as file:
            try:
                while file.write(b"\1" * 65536) == 65536:
                    pass
            except OSError:
                file.truncate(max(0, file.tell() - left))

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", str(self.path)], check=True)


class SmallFiles:
    """Where nothing can be mounted: no file of this process may grow beyond a size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def fill(self, left: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + left // 8, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def close(self) -> None:
        self.free()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk | SmallFiles]:
    made: SmallDisk | SmallFiles
    try:
        made = SmallDisk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        made = SmallFiles(tmp_path / "files")
    yield made
    made.close()


def full_from_to(monkeypatch: pytest.MonkeyPatch, disk: Any, first: int, last: int | None, left: int) -> list[str]:
    """The disk is full after segment `first`, until after `last`; gives the newest checkpoint before it was."""
    there = list[str]()

    class Filling(JsonlSink):
        heard = 0

        def segment(self, run: str, report: SegmentReport) -> None:
            self.heard += 1
            if self.heard == first:
                there.extend(checkpoint.names(self.path.parent / "checkpoints")[:1])
                disk.fill(left)
            if self.heard == last:
                disk.free()
            super().segment(run, report)

    monkeypatch.setattr(conduct, "JsonlSink", Filling)
    return there


def tensors_of(folder: Path) -> bytes:
    name, skipped = checkpoint.newest(folder / "checkpoints")
    assert name is not None
    assert skipped == []
    return (folder / "checkpoints" / name / TENSORS).read_bytes()


def steps_of(folder: Path) -> list[int]:
    """The steps of the rows of metrics.jsonl."""
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_no_room_costs_nothing_but_the_wait(
    disk: SmallDisk | SmallFiles, tmp_path: Path, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room again before the end, nothing is lost; where there is none, the run is resumed."""

    def job(number: int) -> JobSpec:
        return spec_in(tmp_path, name=f"run{number}", storage=str(disk.path))

    whole = raymix.run(spec_in(tmp_path, name="whole"), quiet=True)
    expected = tensors_of(tmp_path / "runs" / "whole")
    steps = steps_of(tmp_path / "runs" / "whole")
    chance, resumed = random.Random(2), 0
    num = rounds(50, 5)
    for number in range(num):
        first = 1 + number % (len(steps) - 1)
        last = None if number % 3 == 2 else chance.randint(first + 1, len(steps))
        there = full_from_to(monkeypatch, disk, first, last, chance.randrange(2 * len(expected)))
        folder = disk.path / f"run{number}"
        if last is None:
            with pytest.raises(raymix.RunFailed, match=rf"could not be written.*{disk.path}") as end:
                raymix.run(job(number), quiet=True)
            assert "\n" not in str(end.value)
            found, skipped = checkpoint.newest(folder / "checkpoints")
            assert skipped == []
            assert [found or ""] >= there, "no older one is let go of before there is a newer one"
            assert not list(folder.glob("checkpoints/.*")), "nothing half-written stays"
            disk.free()
            resumed += 1
            monkeypatch.setattr(conduct, "JsonlSink", JsonlSink)
        report = raymix.run(job(number), quiet=True, resume=last is None)
        assert (report.status, report.final) == ("done", whole.final), number
        assert tensors_of(folder) == expected, number
        assert steps_of(folder) == steps, number
        assert (folder / "report.html").is_file()
        shutil.rmtree(folder)
    print(f"{num} full disks, {resumed} of them to the end")
