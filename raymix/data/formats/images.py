"""`images`: images at any depth below one or several folders, without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raymix.data.files import SUFFIXES, expand, read_files
from raymix.data.rows import Rows
from raymix.spec import ImagesSource


def index(source: ImagesSource) -> Rows:
    """All images by their path, labels all -1; one that two paths or links to its folder lead to counts once.

    Raises:
        JobError: a path is wrong, or no image is below it.
    """
    uris = expand(source.path, SUFFIXES)
    return Rows.of(source, uris, np.full(len(uris), -1, dtype=np.int64), (), len(uris))


def fetch(source: ImagesSource, uris: Sequence[str]) -> list[bytes]:
    """The files' bytes; OSError where one cannot be read."""
    return read_files(uris)
