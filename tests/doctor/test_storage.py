from collections.abc import Callable
from pathlib import Path

import pytest

from raymix.doctor import storage
from raymix.doctor.patient import Patient


def test_a_read_only_file_system_is_a_problem(patient: Callable[..., Patient], mounted: Callable[..., Path]) -> None:
    folder = mounted("ro")
    told = storage.look(patient(storage=str(folder / "runs")))
    assert (told.status, told.found) == ("problem", f"{folder} cannot be used: Read-only file system")
    assert storage.disk(patient(storage=str(folder / "runs"))) is None


def test_a_full_file_system_is_a_problem(patient: Callable[..., Patient], mounted: Callable[..., Path]) -> None:
    folder = mounted("size=1m")
    with pytest.raises(OSError, match="No space left"):
        (folder / "much").write_bytes(bytes(2**21))
    told = storage.look(patient(storage=str(folder)))
    assert (told.status, told.found) == ("problem", f"{folder} cannot be used: No space left on device")
    assert told.todo.startswith("free some of it")


def test_too_little_room_for_checkpoints_is_a_problem(
    patient: Callable[..., Patient], mounted: Callable[..., Path]
) -> None:
    folder = mounted("size=200m")
    job = patient(storage=str(folder), backbone={"size": "base", "patch": 2})
    told = storage.look(job)
    assert told.status == "problem"
    assert "has 210 MB free, and 3 checkpoints of 1." in told.found


def test_no_room_for_files_is_a_problem(patient: Callable[..., Patient], mounted: Callable[..., Path]) -> None:
    told = storage.look(patient(storage=str(mounted("size=200m,nr_inodes=100"))))
    assert (told.status, "more files" in told.found) == ("problem", True)


def test_a_file_is_no_folder(patient: Callable[..., Patient], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = storage.look(patient(storage=str(tmp_path / "file")))
    assert (told.status, told.found) == ("problem", f"storage: {tmp_path / 'file'} is a file")


def test_the_speed_of_a_disk_is_told(patient: Callable[..., Patient]) -> None:
    told = storage.disk(patient())
    assert told is not None
    assert told.found.startswith("33.6 MB written and on the disk in ")


def test_a_bucket_is_tried_out(patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    told = storage.look(patient(storage="s3://runs/x"))
    assert told.status == "problem"
    assert told.found.startswith("s3://runs/x cannot be read: ")
