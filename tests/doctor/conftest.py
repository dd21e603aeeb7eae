"""Patients: a job without Ray, examined by real processes on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raymix.doctor.patient import Patient
from tests.conftest import spec_in


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Callable[..., Patient]]:
    """`patient(is_job=True, cluster={...}, storage=...)`: closed at the end, and nothing of it may stay behind."""
    made = list[Patient]()

    def make(is_job: bool = True, **sections: Any) -> Patient:
        made.append(Patient(spec_in(tmp_path, **sections), is_job))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert list(tmp_path.rglob(".raymix-doctor-*")) == []


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`mounted("size=8m")`: a tmpfs of its own; skips where this user may not mount."""
    folders = list[Path]()

    def mount(options: str) -> Path:
        folder = tmp_path / f"mount{len(folders)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount a file system here")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)
