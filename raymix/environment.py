"""What a run's folder says of the machine, the code and the data that it was trained with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np

from raymix.data.fingerprint import MARKS_FILE, fingerprint
from raymix.data.rows import Rows
from raymix.report.environment import ENVIRONMENT_FILE, Environment, GitState
from raymix.report.folder import write_text
from raymix.report.known import installed
from raymix.session import Session

PACKAGES = (
    "raymix", "ray", "torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "pydantic", "safetensors",
    "scikit-learn", "scipy", "fsspec", "optuna",
)  # fmt: skip
_VARIABLES = re.compile(r"(CUDA_|CUBLAS_|OMP_|MKL_|NCCL_|TORCH_NCCL_|RAY_)[A-Z0-9_]+|PYTHONHASHSEED|GLOO_SOCKET_IFNAME")
_SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CRED|AUTH|JOB_CONFIG|RUNTIME_ENV|ADDRESS")
_VALUE = re.compile(r"[A-Za-z0-9_.,:/ -]{0,80}")  # of a setting; what is longer or odder may hold anything
_GIT_SECONDS = 5.0


def write_environment(folder: Path, rows: Rows, session: Session, workers: int, attempt: int) -> None:
    """Writes it where a run begins; an attempt that goes on leaves one of its own, `environment-002.json`."""
    found = fingerprint(rows)
    told = Environment(
        data=found.data,
        versions={"python": platform.python_version(), **_versions()},
        platform=platform.platform(),
        cpu=_cpu(),
        device=session.device,
        device_name=session.device_name,
        workers=workers,
        git=git_state(os.getcwd()),
        code=git_state(str(Path(__file__).parent)),
        variables=variables(),
    )
    name = Path(ENVIRONMENT_FILE)
    if attempt == 1:
        np.save(folder / MARKS_FILE, found.marks, allow_pickle=False)
    write_text(folder / (name if attempt == 1 else f"{name.stem}-{attempt:03d}.json"), told.model_dump_json(indent=1))


def variables() -> dict[str, str]:
    """Settings in this process's environment that may matter; by name and by look no secret is among them."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if _VARIABLES.fullmatch(name) and not _SECRET.search(name) and _VALUE.fullmatch(value)
    }


@lru_cache
def _versions() -> dict[str, str]:
    return {name: installed(name) for name in PACKAGES}


@lru_cache
def git_state(folder: str) -> GitState | None:
    """Commit and state of the working tree that a folder is in, asked once a process; None: there is none, or no git.

    What a repository's own settings name as a program to watch its files is not run.
    """
    command = ["git", "-c", "core.fsmonitor=false", "-C", folder, "status", "--porcelain=v2", "--branch"]
    try:
        told = subprocess.run(
            [*command, "--untracked-files=no"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", told.stdout, re.MULTILINE)
    if told.returncode or commit is None:
        return None
    return GitState(commit=commit[1], dirty=any(not line.startswith("#") for line in told.stdout.splitlines()))


@lru_cache
def _cpu() -> str:
    """The processor's model: which vector instructions it has decides the last bits of a sum."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
