"""The objects below one place of a bucket, by the rest of their keys. Every failure is an OSError that says why."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from raymix.data.remote import file_system, named_errors, problem
from raymix.spec import JobError


class Object(NamedTuple):
    """What a listing says of an object."""

    size: int  # bytes
    written: datetime  # by the server's clock, in whole seconds


@dataclass(frozen=True)
class Store:
    """Objects whose keys begin with that of `uri` and a slash; a name is the rest. It travels between processes."""

    uri: str

    def below(self, name: str) -> Store:
        """The objects in a folder of this one."""
        return Store(f"{self.uri}/{name}")

    def list(self) -> dict[str, Object]:
        """All of them, by name: what was written is listed from then on (S3 is strongly consistent).

        Raises:
            OSError: they cannot be listed; FileNotFoundError where there is no such bucket.
        """
        from pyarrow import fs

        system, root = self._place()
        with named_errors(self.uri):
            found = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
            # a bucket that is not there is listed as if it were empty
            there = bool(found) or system.get_file_info(root.partition("/")[0]).type != fs.FileType.NotFound
        if not there:
            raise FileNotFoundError(errno.ENOENT, "no such bucket", self.uri)
        objects = {info.path[len(root) + 1 :]: Object(info.size, info.mtime) for info in found if info.is_file}
        return {name: about for name, about in objects.items() if _is_plain(name)}

    def read(self, name: str) -> bytes:
        """An object's bytes.

        Raises:
            OSError: it cannot be read; FileNotFoundError where there is none.
        """
        system, root = self._place()
        with named_errors(f"{self.uri}/{name}"), system.open_input_stream(f"{root}/{name}") as stream:
            found: bytes = stream.read()
        return found

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        system, root = self._place()
        with named_errors(f"{self.uri}/{name}"), system.open_output_stream(f"{root}/{name}") as stream:
            stream.write(content)

    def upload(self, file: Path, name: str) -> None:
        """Writes a file as an object, whole or not at all.

        Raises:
            OSError: it cannot be read or written.
        """
        system, root = self._place()
        _copy(str(file), f"{root}/{name}", None, system, f"{self.uri}/{name}")

    def download(self, name: str, file: Path) -> None:
        """Writes an object as a file, whose folder is made.

        Raises:
            OSError: it cannot be read or written.
        """
        system, root = self._place()
        file.parent.mkdir(parents=True, exist_ok=True)
        _copy(f"{root}/{name}", str(file), system, None, f"{self.uri}/{name}")

    def delete(self, name: str) -> None:
        """Takes an object away; none is there afterwards.

        Raises:
            OSError: that cannot be done.
        """
        system, root = self._place()
        with suppress(FileNotFoundError), named_errors(f"{self.uri}/{name}"):
            system.delete_file(f"{root}/{name}")

    def delete_folder(self, name: str) -> None:
        """Takes away all that is in a folder; it may not be there.

        Raises:
            OSError: that cannot be done.
        """
        system, root = self._place()
        with suppress(FileNotFoundError), named_errors(f"{self.uri}/{name}"):
            system.delete_dir(f"{root}/{name}".rstrip("/"))

    def _place(self) -> tuple[Any, str]:
        return file_system(self.uri)


def refused(uri: str, error: OSError, field: str = "storage") -> JobError:
    """The user's view of a place in a bucket that cannot be used; `field`: of the job, which names it."""
    found = problem(uri, error)
    return JobError(field, found.problem, found.hint or "name a bucket that there is, as in s3://bucket/prefix")


def _copy(source: str, target: str, source_system: Any, target_system: Any, uri: str) -> None:
    """Copies one file; Arrow's own threads do it."""
    from pyarrow import fs

    local = fs.LocalFileSystem()
    with named_errors(uri):
        fs.copy_files(
            source, target, source_filesystem=source_system or local, destination_filesystem=target_system or local
        )


def _is_plain(name: str) -> bool:
    """Whether a name, as a local path, stays below the folder that it is in."""
    return ".." not in PurePosixPath(name).parts and not name.startswith("/") and "\\" not in name
