"""Signals to the driver at random moments, from its first import to its last file: what goes on is as if none came."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from raymix.lock import check_free
from tests.conftest import REPOSITORY
from tests.on_ray.commands import SECONDS, Command, started
from tests.on_ray.killing import assert_each_step_once, final_of, killed_job, of_piece, rows_of, state_of, wait_until
from tests.on_ray.machines import ENVIRONMENT, machines

pytestmark = [pytest.mark.ray, pytest.mark.chaos]

SEED = 0
# Ray's own, which end by themselves a minute after their driver was killed
KNOWN = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
JOB_SCHEDULE = {"ssl_epochs": 40, "sl_epochs": 40, "mix_ratio": 0.4}


@pytest.fixture(scope="module")
def workers(rounds: Callable[[int, int], int]) -> int:
    """Three; under --few the driver trains by itself, which spares Ray's start."""
    return rounds(3, 0)


def job_file(folder: Path, workers: int) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    epochs = 14 if workers else 5
    schedule = {"ssl_epochs": epochs, "sl_epochs": epochs, "mix_ratio": 0.4}
    asked = {"schedule": schedule, "cluster": {"workers": workers}}
    path.write_text(yaml.safe_dump(killed_job(folder / "runs", **asked)))
    return path


@pytest.fixture(scope="module")
def whole(workers: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The folder of a run that nothing happened to, and how long its command took."""
    for name in ("first", "unbroken"):  # the first of all reads its modules from the disk, and is slower than the rest
        folder = tmp_path_factory.mktemp(name)
        before = time.monotonic()
        with started("run", str(job_file(folder, workers))) as command:
            assert command.end() == 0
        seconds = time.monotonic() - before
    return folder / "runs" / "digits", seconds


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize(
    "signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda signum: signum.name
)
def test_a_signal_at_any_moment_loses_nothing(
    signum: signal.Signals,
    number: int,
    workers: int,
    whole: tuple[Path, float],
    rounds: Callable[[int, int], int],
    tmp_path: Path,
) -> None:
    of_piece(number, 1, rounds(5, 1))
    unbroken_folder, seconds = whole
    # one in each part of the run, and none after the end of one that is quicker than the first
    moment = 0.9 * seconds * (number + random.Random(SEED + signum).random()) / rounds(5, 1)
    job, folder, before = job_file(tmp_path, workers), tmp_path / "runs" / "digits", shared_memory()
    with started("run", str(job)) as command:
        time.sleep(moment)
        if signum == signal.SIGKILL:
            command.process.send_signal(signum)
        else:  # a terminal, `timeout` and the like send them to the whole group
            os.killpg(command.process.pid, signum)
        command.process.wait(SECONDS)
        check_free(folder)  # though Ray's processes may still end
        code = command.end()
        left = [name for name in command.left(15) if signum != signal.SIGKILL or name not in KNOWN]
    rows = rows_of(folder)
    print(f"seed {SEED}: {signum.name} after {moment:.1f} of {seconds:.1f} s, {len(rows)} segments: exit {code}")
    assert left == [], command.err
    assert not any("Traceback" in line for line in command.err), command.err
    check_code(command, signum, code, folder)
    with started("run", str(job), "--resume") as again:
        assert again.end() == 0, again.err
        assert again.left() == []
    assert shared_memory() <= before
    assert_each_step_once(folder)
    assert state_of(folder) == state_of(unbroken_folder)
    assert final_of(folder) == final_of(unbroken_folder)


def check_code(command: Command, signum: signal.Signals, code: int, folder: Path) -> None:
    """A shell shows a process that a signal ended as one that exits with 128 and the signal's number."""
    as_shell = code if code >= 0 else 128 - code
    if as_shell == 0:  # it came when all was done
        assert final_of(folder)
        return
    assert as_shell == 128 + signum
    told = command.err[-1] if command.err else ""
    if told.startswith("interrupted: checkpoint saved"):
        assert list(folder.glob("checkpoints/step-*"))


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


def test_a_stopped_ray_job_is_resumed(
    attached: None,
    unbroken: Callable[..., Path],
    rounds: Callable[[int, int], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ray job stop` sends SIGKILL three seconds after SIGTERM: mostly time enough for a checkpoint."""
    stops = rounds(5, 0)
    if not stops:
        pytest.skip("not among the few: a head and a job take half a minute")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    whole, folder = unbroken(schedule=JOB_SCHEDULE), tmp_path / "runs" / "digits"
    asked = killed_job(tmp_path / "runs", schedule=JOB_SCHEDULE)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(asked))
    draw, saved = random.Random(SEED), 0
    with machines(head_cpus=5, nodes=0) as cluster:
        for number in range(stops + 1):
            before = len(rows_of(folder))
            command = f"{sys.executable} -m raymix run {tmp_path}/job.yaml --resume"
            cluster.submit(f"stop{number}", command, cwd=REPOSITORY)
            if number == stops:
                break
            assert wait_until(lambda: len(rows_of(folder)) > before + 1, lambda: True)  # noqa: B023
            time.sleep(draw.uniform(0, 2))
            (folder / "report.json").unlink(missing_ok=True)
            assert cluster.stop(f"stop{number}") == "STOPPED"
            saved += (folder / "report.json").is_file()
        assert cluster.wait_for_job(f"stop{stops}") == "SUCCEEDED"
    print(f"seed {SEED}: {stops} jobs stopped, {saved} of them with a checkpoint and a report in time")
    assert_each_step_once(folder)
    assert state_of(folder) == state_of(whole)
    assert final_of(folder) == final_of(whole)
