"""Files and folders, local or remote: checking a path, listing it quickly, opening and reading files.

The formats on files share it; how a store is reached stands in `remote`, how paths are expanded in `expand`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from raymix.data.expand import expand, near
from raymix.data.remote import PATH, file_system, is_remote, open_remote, read_remote, remote_size
from raymix.spec import JobError

__all__ = [
    "PATH",
    "SUFFIXES",
    "Listing",
    "checked_folder",
    "expand",
    "file_size",
    "file_system",
    "images_below",
    "is_image",
    "is_remote",
    "listing",
    "open_file",
    "read_files",
]

SUFFIXES = ("jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff")
_ENDINGS = tuple(f".{suffix}" for suffix in SUFFIXES)
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".7z", ".tar.bz2", ".tar.xz", ".rar")


class Listing(NamedTuple):
    """What one folder holds, hidden entries left out, each sorted by name."""

    folders: list[str]
    images: list[str]
    num_others: int


def checked_folder(path: str) -> str:
    """The absolute path of a folder that exists, `~` expanded.

    Raises:
        JobError: it does not exist, or it is not a folder.
    """
    if "://" in path:
        raise JobError(
            PATH, f"{path} is not a local folder", "mount it, or copy it to a disk that every node can reach"
        )
    folder = os.path.abspath(os.path.expanduser(path))
    if not os.path.lexists(folder):
        raise JobError(PATH, f"no such folder: {path}", near(path, folder, os.path.isdir))
    if not os.path.isdir(folder):
        archive = folder.lower().endswith(_ARCHIVES)
        raise JobError(
            PATH, f"{path} is not a folder", "unpack it, then name the folder" if archive else "name a folder"
        )
    return folder


def is_image(name: str) -> bool:
    """Whether a file's name ends as that of an image does."""
    return name.lower().endswith(_ENDINGS)


def listing(folder: str) -> Listing:
    """Folders and images directly in `folder`; links are followed, entries are told apart by name without a stat.

    Raises:
        JobError: the folder cannot be read.
    """
    folders: list[str] = []
    images: list[str] = []
    num_others = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(name)
                elif is_image(name):
                    images.append(name)
                else:
                    num_others += 1
    except OSError as error:
        raise JobError(PATH, f"{folder} cannot be read: {error.strerror or error}") from None
    folders.sort()
    images.sort()
    return Listing(folders, images, num_others)


def images_below(folder: str) -> list[str]:
    """Paths of all images in `folder` and the folders below it, in the order of torchvision's ImageFolder.

    A folder that links make reachable twice is entered once, so a loop of links ends.
    """
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    todo = [folder]
    while todo:
        here = todo.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        held = listing(here)
        found.append((here, held.images))
        todo.extend(os.path.join(here, name) for name in reversed(held.folders))
    found.sort()
    return [f"{here}{os.sep}{name}" for here, names in found for name in names]


def open_file(path: str) -> BinaryIO:
    """A local or remote file for reading; it can seek.

    Raises:
        OSError: it cannot be opened; FileNotFoundError or PermissionError where that is why.
    """
    return open_remote(path) if is_remote(path) else open(path, "rb")


def file_size(path: str) -> int:
    """Bytes of a local or remote file.

    Raises:
        OSError: it cannot be told; FileNotFoundError or PermissionError where that is why.
    """
    return remote_size(path) if is_remote(path) else os.stat(path).st_size


def read_files(uris: Sequence[str]) -> list[bytes]:
    """The bytes of each file, local or remote.

    Raises:
        OSError: one of them cannot be read; FileNotFoundError or PermissionError where that is why.
    """
    remote = [uri for uri in uris if is_remote(uri)]
    fetched = iter(read_remote(remote) if remote else ())
    raws = []
    for uri in uris:
        if is_remote(uri):
            raws.append(next(fetched))
        else:
            with open(uri, "rb", buffering=0) as file:
                raws.append(file.read())
    return raws
