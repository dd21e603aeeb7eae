"""Checkpoints that are whole or not there: safetensors and JSON, hashed, renamed into place.

A checkpoint is a folder `step-000001234` with `tensors.safetensors`, `state.json` and, written last, `commit.json`
with the size and sha256 of the other two. Nothing is ever unpickled. Times and attempts stay out of the tensor file,
so equal states have equal hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from raymix.plan import Plan
from raymix.report.folder import write_text
from raymix.report.history import History
from raymix.train.state import TrainState

TENSORS, STATE = "tensors.safetensors", "state.json"
_FILES = (TENSORS, STATE)


class Checkpoints:
    """The checkpoints of one run; `folder` None keeps none. Only rank 0 writes, by its own clock."""

    def __init__(self, folder: Path | None, every: float, keep: int) -> None:
        self.folder, self.every, self.keep = folder, every, keep
        self.seconds = 0.0  # spent on saving
        self._last = time.monotonic()

    @classmethod
    def of(cls, plan: Plan, folder: str | None, rank: int) -> Checkpoints:
        """The checkpoints that a job asks for."""
        spec = plan.spec.checkpoint
        return cls(Path(folder) if folder and rank == 0 else None, spec.every, spec.keep)

    def save_if_due(self, state: TrainState) -> None:
        """Saves when the last time is long enough ago."""
        if self.folder and time.monotonic() - self._last >= self.every:
            self.save(state)

    def save(self, state: TrainState) -> None:
        """Saves now, and lets go of all but the newest."""
        if self.folder is None:
            return
        started = time.monotonic()
        current = write(self.folder, state).name
        found = names(self.folder)
        # what claims to be newer did not verify when this run started, so it must not push out what does
        newer = [name for name in found if name > current]
        for old in (*newer, *reversed(found[len(newer) + self.keep :])):
            shutil.rmtree(self.folder / old, ignore_errors=True)
        self._last = time.monotonic()
        self.seconds += self._last - started


def names(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder, newest first, verified or not."""
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def write(folder: Path, state: TrainState) -> Path:
    """Writes a checkpoint: files, then the commit marker, then the rename that makes it visible."""
    final = folder / f"step-{state.history.done_steps:09d}"
    if final.exists() and _problem(final) is None:
        return final  # a stop right after a save: the same step gives the same state
    temporary = folder / f".{final.name}.{os.getpid()}"
    for left in folder.glob(".step-*"):  # by a writer that was killed; rank 0 is the only one
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors = {name: value.detach().contiguous().cpu() for name, value in state.tensors().items()}
    save_file(tensors, temporary / TENSORS)
    write_text(temporary / STATE, state.history.model_dump_json())
    commit = {
        name: {"bytes": (temporary / name).stat().st_size, "sha256": _sha256(temporary / name)} for name in _FILES
    }
    write_text(temporary / "commit.json", json.dumps(commit, indent=1))
    shutil.rmtree(final, ignore_errors=True)  # one that does not verify
    os.replace(temporary, final)
    for changed in (final, folder):
        _fsync_folder(changed)
    return final


def newest(folder: Path) -> tuple[str | None, list[str]]:
    """Name of the newest checkpoint that verifies, and a line for each newer one that does not."""
    skipped: list[str] = []
    for name in names(folder):
        problem = _problem(folder / name)
        if problem is None:
            return name, skipped
        skipped.append(f"checkpoint {name} skipped: {problem}")
    return None, skipped


def read(path: Path, state: TrainState) -> None:
    """Loads a verified checkpoint into the state."""
    state.load(load_file(path / TENSORS))
    state.history = History.model_validate_json((path / STATE).read_text())


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint; None: it is as it was written."""
    try:
        commit = json.loads((path / "commit.json").read_text())
        for name in _FILES:
            file, wanted = path / name, commit[name]
            if file.stat().st_size != wanted["bytes"]:
                return f"{name} is {file.stat().st_size} bytes long, not {wanted['bytes']}"
            if _sha256(file) != wanted["sha256"]:
                return f"{name} does not match its sha256"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _fsync_folder(path: Path) -> None:
    """Puts the folder's entries on the disk: a rename is not there before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest
