"""`images`: images at any depth below one or several folders, without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from raymix.data.files import SUFFIXES, expand, is_remote, read_files
from raymix.data.rows import Rows
from raymix.spec import ImagesSource


def index(source: ImagesSource) -> Rows:
    """All images by their path, labels all -1; one that two paths or links to its folder lead to counts once.

    Raises:
        JobError: a path is wrong, or no image is below it.
    """
    seen: set[tuple[str, str]] = set()
    folders: dict[str, str] = {}
    uris = []
    for uri in expand(source.path, SUFFIXES):
        folder, name = os.path.split(uri)
        if folder not in folders:
            folders[folder] = folder if is_remote(uri) else os.path.realpath(folder)
        place = folders[folder], name
        if place not in seen:
            seen.add(place)
            uris.append(uri)
    return Rows.of(source, uris, np.full(len(uris), -1, dtype=np.int64), (), len(uris))


def fetch(source: ImagesSource, uris: Sequence[str]) -> list[bytes]:
    """The files' bytes; OSError where one cannot be read."""
    return read_files(uris)
