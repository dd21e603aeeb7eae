"""Folders of images as a tree, the same to a format on a disk, on s3:// and on gs://."""

from __future__ import annotations

import os
from typing import Protocol

from raymix.data import files
from raymix.data.expand import absent
from raymix.data.files import PATH, Listing, checked_folder
from raymix.data.remote import Entry, file_system, is_http, is_remote, listed, problem, remote_kind
from raymix.spec import JobError


class Tree(Protocol):
    """A folder and what is below it; hidden files and folders are not there. Every path begins with `root`."""

    root: str

    def listing(self, folder: str) -> Listing:
        """Folders and images directly in a folder that exists.

        Raises:
            JobError: it cannot be read.
        """

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at `path`."""

    def is_file(self, path: str) -> bool:
        """Whether there is a file at `path`."""

    def images_below(self, folder: str) -> list[str]:
        """Paths of all images in `folder` and the folders below it, in the order of torchvision's ImageFolder."""


def open_tree(path: str) -> Tree:
    """The tree at a local folder, which is read as it is asked for, or at one of a store, which is listed at once.

    Raises:
        JobError: there is no such folder, or it cannot be listed.
    """
    if not is_remote(path):
        return LocalTree(checked_folder(path))
    if is_http(path):
        raise JobError(PATH, f"{path} is on a web server, which has no listing", "copy it to a disk, s3:// or gs://")
    root = path.rstrip("/")
    try:
        if not file_system(path)[1]:
            raise JobError(PATH, f"{path} names nothing", "as in s3://bucket/folder")
        kind = remote_kind(root)
        if kind == "folder":
            return StoreTree(root, listed(root, recursive=True))
        if kind == "file":
            raise JobError(PATH, f"{path} is not a folder", "name a folder")
        raise absent(root, "no such folder")
    except OSError as error:
        raise problem(path, error) from None


class LocalTree:
    """A folder on a disk; links are followed."""

    def __init__(self, root: str) -> None:
        self.root = root

    def listing(self, folder: str) -> Listing:
        """Folders and images directly in `folder`."""
        return files.listing(folder)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, or a link to one."""
        return os.path.isdir(path)

    def is_file(self, path: str) -> bool:
        """Whether there is a file, or a link to one."""
        return os.path.isfile(path)

    def images_below(self, folder: str) -> list[str]:
        """All images, each folder once though links lead to it twice."""
        return files.images_below(folder)


class StoreTree:
    """A folder of a store as one listing gave it."""

    def __init__(self, root: str, entries: list[Entry]) -> None:
        self.root = root
        shown = [entry for entry in entries if "/." not in entry.uri[len(root) :]]
        self._files = {entry.uri for entry in shown if not entry.is_folder}
        folders = {root}
        for uri, is_folder in shown:  # a store has no folders: one is there because something is below it
            folder = uri if is_folder else _split(uri)[0]
            while folder not in folders:
                folders.add(folder)
                folder = _split(folder)[0]
        inside: dict[str, tuple[list[str], list[str], list[str]]] = {folder: ([], [], []) for folder in folders}
        for folder in folders - {root}:
            parent, name = _split(folder)
            inside[parent][0].append(name)
        for uri in self._files:
            parent, name = _split(uri)
            inside[parent][1 if files.is_image(name) else 2].append(name)
        self._held = {
            folder: Listing(sorted(names), sorted(images), len(others))
            for folder, (names, images, others) in inside.items()
        }

    def listing(self, folder: str) -> Listing:
        """Folders and images directly in `folder`."""
        return self._held[folder]

    def is_folder(self, path: str) -> bool:
        """Whether anything is below `path`."""
        return path in self._held

    def is_file(self, path: str) -> bool:
        """Whether there is an object."""
        return path in self._files

    def images_below(self, folder: str) -> list[str]:
        """All images, by folder and then by name."""
        found = []
        todo = [folder]
        while todo:
            here = todo.pop()
            held = self._held[here]
            found.append((here, held.images))
            todo += [f"{here}/{name}" for name in held.folders]
        found.sort()
        return [f"{here}/{name}" for here, images in found for name in images]


def _split(uri: str) -> tuple[str, str]:
    folder, _, name = uri.rpartition("/")
    return folder, name
