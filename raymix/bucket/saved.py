"""Checkpoints in a bucket: data first, the commit marker last, so that what has none is not there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from raymix.bucket.lease import holds
from raymix.bucket.store import Store

COMMIT = "commit.json"
_MARKER = re.compile(rf"step-\d+/{re.escape(COMMIT)}")
Problem = Callable[[Path], str | None]  # what is wrong with a checkpoint on this machine's disk; None: nothing


@dataclass(frozen=True)
class Saved:
    """The checkpoints of one run. It travels to whichever node rank 0 is on.

    `held`: the folder that the command holds, with its `ticket`: who lost it writes no marker.
    """

    store: Store
    held: Store
    ticket: str

    def names(self) -> list[str]:
        """Of the whole ones, newest first; they are not verified.

        Raises:
            OSError: the bucket cannot be listed.
        """
        return sorted((name.rpartition("/")[0] for name in self.store.list() if _commits(name)), reverse=True)

    def put(self, path: Path) -> None:
        """Writes a checkpoint of this machine's disk; the marker goes last.

        Raises:
            OSError: it cannot be written, or another command has the run folder.
        """
        place = self.store.below(path.name)
        place.delete(COMMIT)
        for file in sorted(path.iterdir()):
            if file.name != COMMIT:
                place.upload(file, file.name)
        if not holds(self.held, self.ticket):
            raise OSError(errno.EBUSY, "another command has taken the run over", self.held.uri)
        place.upload(path / COMMIT, COMMIT)

    def put_file(self, file: Path) -> None:
        """Writes a file that stands beside the checkpoints.

        Raises:
            OSError: it cannot be written.
        """
        self.store.upload(file, file.name)

    def fetch_file(self, file: Path) -> None:
        """Writes the one that there is to this machine's disk.

        Raises:
            OSError: it cannot be read or written.
        """
        with suppress(FileNotFoundError):
            self.store.download(file.name, file)

    def discard(self, *names: str) -> None:
        """Takes checkpoints away, the marker first, and what is there without one.

        Raises:
            OSError: that cannot be done.
        """
        found = list(self.store.list())
        whole = {name.rpartition("/")[0] for name in found if _commits(name)}
        for folder in {name.partition("/")[0] for name in found if "/" in name}:
            if folder in names:
                self.store.delete(f"{folder}/{COMMIT}")
            if folder in names or folder not in whole:
                self.store.delete_folder(folder)

    def newest(self, folder: Path, problem: Problem) -> tuple[str | None, list[str]]:
        """Name of the newest that verifies, which is in `folder` then, and a line for each newer one that does not.

        Raises:
            OSError: the bucket cannot be read.
        """
        skipped: list[str] = []
        for name in self.names():
            with self.lent(name, folder, keep=True) as path:
                found = problem(path)
            if found is None:
                return name, skipped
            shutil.rmtree(path, ignore_errors=True)
            skipped.append(f"checkpoint {name} in {self.store.uri} skipped: {found}")
        return None, skipped

    @contextmanager
    def lent(self, name: str, folder: Path, keep: bool = False) -> Iterator[Path]:
        """A checkpoint's path on this machine: the copy in `folder` if that is the same, else one for the while.

        Raises:
            OSError: it cannot be read, or not be written here.
        """
        here, place = folder / name, self.store.below(name)
        commit = place.read(COMMIT)
        with suppress(OSError):
            if (here / COMMIT).read_bytes() == commit:
                yield here
                return
        temporary = folder / f".{name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        try:
            for file in place.list():
                place.download(file, temporary / name / Path(file).name)
            if keep:
                shutil.rmtree(here, ignore_errors=True)
                os.replace(temporary / name, here)
            yield here if keep else temporary / name
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _commits(name: str) -> bool:
    return _MARKER.fullmatch(name) is not None
