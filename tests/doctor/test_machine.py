import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raymix.doctor import machine
from raymix.doctor.patient import Patient
from tests.conftest import REPOSITORY, spec_in

LIMITS = """
import json, sys
from types import SimpleNamespace
from raymix.doctor.machine import limits
from raymix.spec import JobSpec
print(json.dumps(limits(SimpleNamespace(spec=JobSpec.model_validate_json(sys.argv[1])))))
"""


@pytest.mark.parametrize(
    ("what", "number", "found"),
    [(resource.RLIMIT_NOFILE, 512, "512 open files"), (resource.RLIMIT_NPROC, 300, "300 processes and threads")],
)
def test_a_lowered_limit_is_a_problem(what: int, number: int, found: str, tmp_path: Path) -> None:
    asked = spec_in(tmp_path, cluster={"workers": 2}).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", LIMITS, asked],
        cwd=REPOSITORY,
        preexec_fn=lambda: resource.setrlimit(what, (number, number)),
        capture_output=True,
        text=True,
        check=True,
    )
    status, told, todo = json.loads(done.stdout)
    assert (status, found in told) == ("problem", True)
    assert "raise" in todo


def test_workers_that_do_not_fit_into_memory_are_a_problem(patient: Callable[..., Patient]) -> None:
    assert machine.memory(patient()).status != "problem"
    told = machine.memory(patient(cluster={"workers": 4096}, optim={"batch": 4096}))
    assert told.status == "problem"
    assert "4,096 workers and Ray take about 2.05 TB" in told.found


def test_memory_of_a_group_is_what_all_those_around_it_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, limit, used in (
        (tmp_path, "max", "9000"),
        (tmp_path / "a", "7000", "6000"),
        (tmp_path / "a/b", "5000", "1"),
    ):
        folder.mkdir(exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_groups", lambda: ["0::/a/b"])
    assert min(machine._rooms()) == 1000
    assert machine._of_group("memory.max", "") == 5000
