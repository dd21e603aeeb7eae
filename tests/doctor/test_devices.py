import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raymix.doctor import devices
from raymix.doctor.patient import Patient
from tests.conftest import spec_in


def test_processes_that_cannot_reach_each_other_are_a_problem(
    patient: Callable[..., Patient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nothere0")
    told = patient().torch.told("gloo")
    assert told is not None
    assert (told.status, "GLOO_SOCKET_IFNAME" in told.todo) == ("problem", True)
    assert "cannot add up numbers" in told.found


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_job_for_gpus_on_a_machine_without_one_is_a_problem(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, cluster={"workers": 2, "gpus_per_worker": 1})
    told = devices.gpus(spec, torch)
    assert (told.status, told.found) == ("problem", "the job wants 2 GPU(s), and there is no NVIDIA driver")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_driver_whose_gpus_torch_does_not_see_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert subprocess.run(["nvidia-smi"], capture_output=True, text=True, check=True).stdout == "580.1\n"
    told = devices.gpus(spec_in(tmp_path), torch)
    assert (told.status, told.found.startswith("NVIDIA driver 580.1 is there, and torch")) == ("problem", True)


def test_a_checkpoint_is_as_large_as_foretold(tmp_path: Path) -> None:
    import raymix

    spec = spec_in(tmp_path)
    raymix.run(spec, quiet=True)
    (newest,) = sorted((tmp_path / "runs" / "digits" / "checkpoints").glob("step-*"))[-1:]
    written = (newest / "tensors.safetensors").stat().st_size
    classes = 3 * 4 * (devices.NUM_CLASSES - 10) * 65  # weights and two moments of the classes that digits lack
    assert devices.checkpoint_bytes(spec) - classes == pytest.approx(written, rel=0.05)
