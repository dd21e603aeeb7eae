"""Folders of images on a disk: checking a path, listing it quickly, reading files. The formats on files share it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import NamedTuple

from raymix.spec import JobError

PATH = "data.train.path"  # index_data turns it into data.val.path where the source is data.val
SUFFIXES = ("jpg", "jpeg", "png", "bmp", "webp", "gif", "tif", "tiff")
_SUFFIXES = frozenset(SUFFIXES)
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
        raise JobError(PATH, f"no such folder: {path}", _near(path, folder))
    if not os.path.isdir(folder):
        archive = folder.lower().endswith(_ARCHIVES)
        raise JobError(
            PATH, f"{path} is not a folder", "unpack it, then name the folder" if archive else "name a folder"
        )
    return folder


def _near(path: str, folder: str) -> str:
    """A hint for a path that does not exist: the parent that is missing, or a folder with a similar name."""
    parent, name = os.path.split(folder)
    if not os.path.isdir(parent):
        if os.path.lexists(parent):
            return f"{parent} is not a folder"
        missing = parent
        while not os.path.lexists(os.path.dirname(missing)):
            missing = os.path.dirname(missing)
        return f"{missing} does not exist either"
    close = difflib.get_close_matches(name, listing(parent).folders, n=1)
    if close:
        return f"did you mean {os.path.join(parent, close[0])}?"
    return "" if os.path.isabs(os.path.expanduser(path)) else f"looked in {os.getcwd()}"


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
                elif name.rpartition(".")[2].lower() in _SUFFIXES:
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


def read_files(uris: Sequence[str]) -> list[bytes]:
    """The bytes of each file.

    Raises:
        OSError: one of them cannot be read.
    """
    raws = []
    for uri in uris:
        with open(uri, "rb", buffering=0) as file:
            raws.append(file.read())
    return raws
