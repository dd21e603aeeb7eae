"""Checkpoints that are whole or not there: safetensors and JSON, hashed, renamed into place.

A checkpoint is a folder `step-000001234` with `tensors.safetensors`, `state.json` and, written last, `commit.json`:
run, step, size and sha256 of the other two, and a sha256 of its own. Nothing is ever unpickled, and no byte is trusted
that is not hashed. Times and attempts stay out of the tensor file, so equal states have equal hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from raymix.bucket import saved
from raymix.report.history import History
from raymix.spec import JobSpec
from raymix.train.hostcopy import DTYPES
from raymix.train.state import TrainState

TENSORS, STATE, COMMIT = "tensors.safetensors", "state.json", saved.COMMIT
_FILES = (TENSORS, STATE)
_CHUNK = 1 << 22
_MAX_COMMIT, _MAX_STATE = 1 << 16, 1 << 30  # bytes; a year of segments is less
_HEADER, _MAX_ENTRY = 1 << 16, 1 << 10  # bytes that the tensors' header may have, and for each tensor more


class NotSaved(RuntimeError):  # noqa: N818 (it is what happened)
    """A checkpoint that must be there could not be written; the message is one line."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a checkpoint will hold. `tensors` is a whole file in the state's own host memory, until the next one."""

    run: str
    history: History
    tensors: memoryview

    @property
    def step(self) -> int:
        """Steps done."""
        return self.history.done_steps

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"step-{self.step:09d}"


def run_of(spec: JobSpec) -> str:
    """Whose a checkpoint is: what a run keeps for its whole life, wherever its folder is moved to."""
    return f"{spec.name} (seed {spec.seed})"


def names(folder: Path) -> list[str]:
    """Names of the checkpoints in a folder, newest first, verified or not."""
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.glob("step-*") if path.is_dir()), reverse=True)


def snapshot(state: TrainState, run: str) -> Snapshot:
    """A copy of the state as it is between two steps."""
    return Snapshot(run, state.history, state.host.take(state.tensors()))


def write(folder: Path, taken: Snapshot) -> Path:
    """Writes a checkpoint: files, then the commit marker, all to the disk, then the rename that makes it visible.

    Raises:
        OSError: the disk is full, read-only or gone; what was written of it is taken away again.
    """
    final = folder / taken.name
    if final.exists() and problem(final, taken.run) is None and _history(final).roll_backs == taken.history.roll_backs:
        return final  # a stop right after a save: the same step gives the same state
    _make(folder)
    for left in folder.glob(".step-*"):  # by a writer that was killed; rank 0 is the only one
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f".{final.name}.{os.getpid()}"
    try:
        temporary.mkdir()
        commit: dict[str, Any] = {"run": taken.run, "step": taken.step}
        commit[TENSORS] = _put(temporary / TENSORS, taken.tensors)
        commit[STATE] = _put(temporary / STATE, memoryview(taken.history.model_dump_json().encode()))
        _put(temporary / COMMIT, memoryview(_sealed(commit)))
        _fsync_folder(temporary)
        discard(final)  # one that does not verify
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync_folder(folder)
    return final


def discard(path: Path) -> None:
    """Takes a checkpoint away: at once by its name, so that what is cut off here leaves no half of one."""
    gone = path.with_name(f".{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


def newest(folder: Path, run: str | None = None, state: TrainState | None = None) -> tuple[str | None, list[str]]:
    """Name of the newest checkpoint that verifies, and a line for each newer one that does not.

    `run`: whose it must be (`run_of`); `state`: what it must fit into.
    """
    skipped: list[str] = []
    for name in names(folder):
        found = problem(folder / name, run, state)
        if found is None:
            return name, skipped
        skipped.append(f"checkpoint {_printable(name)} skipped: {found}")
    return None, skipped


def read(path: Path, state: TrainState) -> None:
    """Loads a verified checkpoint into the state.

    Raises:
        ValueError: a tensor is missing, misshapen or not the state's; the state is as it was.
    """
    state.load(load_file(path / TENSORS))
    state.history = _history(path)


def problem(path: Path, run: str | None = None, state: TrainState | None = None) -> str | None:
    """What is wrong with a checkpoint, in one line; None: it is as it was written, by `run`, and fits into `state`."""
    try:
        if path.is_symlink():
            return "it is a link"
        found = _mismatch(path, _commit(path), run)
        if found is None and state is not None:
            found = _misfit(path / TENSORS, state.tensors())
        if found is None and f"step-{_history(path).done_steps:09d}" != path.name:
            found = f"{STATE} is of another step"
    except OSError as error:
        found = f"{Path(error.filename).name if error.filename else path.name}: {error.strerror or error}"
    except (ValidationError, SafetensorError, ValueError, RecursionError) as error:
        found = str(error)
    return None if found is None else _printable(found)


def _commit(path: Path) -> dict[str, Any]:
    """What `commit.json` says; a byte that was changed anywhere in it shows."""
    raw = _bytes(path / COMMIT, _MAX_COMMIT)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{COMMIT} is no JSON: {error}") from None
    if not isinstance(found, dict) or found.keys() != {"run", "step", *_FILES, "sha256"}:
        raise ValueError(f"{COMMIT} is not raymix's")
    del found["sha256"]
    if raw != _sealed(found):
        raise ValueError(f"{COMMIT} does not match its sha256")
    return found


def _mismatch(path: Path, commit: Mapping[str, Any], run: str | None) -> str | None:
    """Where a checkpoint is not what its commit says, or that is not what its place says."""
    if run is not None and commit["run"] != run:
        return f"it is of the run {commit['run']}, not {run}"
    if not isinstance(commit["step"], int) or f"step-{commit['step']:09d}" != path.name:
        return f"it holds step {commit['step']}"
    for name in _FILES:
        with _opened(path / name) as file:
            wanted, size = commit[name], os.fstat(file.fileno()).st_size
            if not isinstance(wanted, dict) or wanted.keys() != {"bytes", "sha256"}:
                return f"{COMMIT} is not raymix's"
            if size != wanted["bytes"]:
                return f"{name} is {size} bytes long, not {wanted['bytes']}"
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted["sha256"]:
                return f"{name} does not match its sha256"
    return None


def _misfit(file: Path, tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor that a file holds in another form than the state, lacks or has beyond it."""
    with _opened(file) as opened:
        header = int.from_bytes(opened.read(8), "little")
    if header > _HEADER + _MAX_ENTRY * len(tensors):
        return f"{TENSORS} has a header of {header} bytes"
    wanted = {name: (DTYPES[value.dtype], list(value.shape)) for name, value in tensors.items()}
    with safe_open(file, framework="pt") as opened:
        slices = ((name, opened.get_slice(name)) for name in opened.keys())  # noqa: SIM118 (it is no dict)
        found = {name: (part.get_dtype(), part.get_shape()) for name, part in slices}
    for name in sorted(wanted.keys() | found.keys()):
        if found.get(name) != wanted.get(name):
            told = [" ".join(map(str, of[name])) if name in of else "nothing" for of in (found, wanted)]
            return f"tensor {name}: {told[0]} instead of {told[1]}"
    return None


def _history(path: Path) -> History:
    try:
        return History.model_validate_json(_bytes(path / STATE, _MAX_STATE))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{STATE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _sealed(commit: Mapping[str, Any]) -> bytes:
    """The bytes of `commit.json`, the last of which hash the others."""
    digest = hashlib.sha256(json.dumps(commit).encode()).hexdigest()
    return json.dumps({**commit, "sha256": digest}, indent=1).encode()


def _put(path: Path, content: memoryview) -> dict[str, int | str]:
    """A new file, to the disk; size and sha256 of what was to be written, not of what a disk may have made of it."""
    digest = hashlib.sha256()
    with path.open("xb", buffering=0) as file:
        for chunk in _chunks(content):
            digest.update(chunk)
            while chunk:
                chunk = chunk[file.write(chunk) :]
        os.fsync(file.fileno())
    return {"bytes": len(content), "sha256": digest.hexdigest()}


def _chunks(content: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(content), _CHUNK):
        yield content[start : start + _CHUNK]


def _opened(path: Path) -> BufferedReader:
    """A plain file, open to be read. A link may lead anywhere, and a pipe would be waited for.

    Raises:
        OSError: it is neither, or not there.
    """
    if path.is_symlink():
        raise OSError(None, "it is a link", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no file", str(path))
    return os.fdopen(descriptor, "rb")


def _bytes(path: Path, limit: int) -> bytes:
    """A whole file.

    Raises:
        ValueError: it is larger than any that raymix writes.
    """
    with _opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > limit:
            raise ValueError(f"{path.name} is {size} bytes long")
        return file.read()


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        _fsync_folder(folder.parent)


def _fsync_folder(path: Path) -> None:
    """Puts the folder's entries on the disk: a rename is not there before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _printable(text: str) -> str:
    """One line of what a file may have made up."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:300]
