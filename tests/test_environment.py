"""What `environment.json` says, and what it never does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from raymix.environment import git_state, variables


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_settings_are_kept_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "4", "NCCL_DEBUG": "INFO", "RAY_TRAIN_V2_ENABLED": "1"}
    left_out = {
        "RAY_AUTH_TOKEN": "planted",
        "RAY_REDIS_PASSWORD": "planted",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"env_vars": {"A": "planted"}}}',
        "RAY_ODD": "https://user:planted@host/",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "WANDB_API_KEY": "planted",
        "HOME_SETTING": "planted",
    }
    for name, value in {**kept, **left_out}.items():
        monkeypatch.setenv(name, value)
    found = variables()
    assert kept.items() <= found.items()
    assert not found.keys() & left_out.keys()
    assert "planted" not in str(found)


def test_git_says_commit_and_whether_files_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(str(tmp_path)) is None, "no repository"
    git(tmp_path, "init", "-q")
    assert git_state.__wrapped__(str(tmp_path)) is None, "no commit"
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "one")
    clean = git_state.__wrapped__(str(tmp_path))
    assert clean is not None
    assert (len(clean.commit), clean.dirty) == (40, False)
    (tmp_path / "new").write_text("untracked files do not count")
    assert git_state.__wrapped__(str(tmp_path)) == clean
    (tmp_path / "a").write_text("2")
    changed = git_state.__wrapped__(str(tmp_path))
    assert changed is not None
    assert (changed.commit, changed.dirty) == (clean.commit, True)
    monkeypatch.setenv("PATH", "")
    assert git_state.__wrapped__(str(tmp_path)) is None, "no git"


def test_a_repository_cannot_have_its_watcher_run(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "one")
    watcher = tmp_path / "watcher.sh"
    watcher.write_text(f"#!/bin/sh\ntouch {tmp_path}/watched\n")
    watcher.chmod(0o700)
    git(tmp_path, "config", "core.fsmonitor", str(watcher))
    subprocess.run(["git", "-C", str(tmp_path), "status"], check=True, capture_output=True, env=dict(os.environ))
    assert (tmp_path / "watched").exists(), "git by itself would run it"
    (tmp_path / "watched").unlink()
    assert git_state.__wrapped__(str(tmp_path)) is not None
    assert not (tmp_path / "watched").exists()
