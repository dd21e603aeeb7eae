"""`digits`: the 1,797 handwritten digits that come with scikit-learn, 8x8 pixels in 17 greys. Nothing is downloaded.

The table is read from the installed package's file; importing scikit-learn itself would cost a second.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raymix.data.rows import Rows
from raymix.spec import DigitsSource, JobError


def index(source: DigitsSource) -> Rows:
    """Rows `digits:0` to `digits:1796` in the order of the file, classes '0' to '9'.

    Raises:
        JobError: scikit-learn's file is not there.
    """
    labels = _table()[:, 64].astype(np.int64)
    return Rows.of(source, [f"digits:{i}" for i in range(len(labels))], labels, "0123456789", len(labels))


def fetch(source: DigitsSource, uris: Sequence[str]) -> list[NDArray[np.uint8]]:
    """Each digit, uint8 (8, 8)."""
    pixels = (_table()[:, :64].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    return [pixels[int(uri.removeprefix("digits:"))] for uri in uris]


@functools.cache
def _table() -> NDArray[np.int64]:
    """scikit-learn's table: (1797, 65), 64 pixels of 0 to 16 row by row, then the digit."""
    spec = importlib.util.find_spec("sklearn")
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else ""
    path = os.path.join(folder, "datasets", "data", "digits.csv.gz")
    if not folder or not os.path.isfile(path):
        raise JobError(
            "data.train.format", "digits come with scikit-learn, which is not installed", "pip install scikit-learn"
        )
    with gzip.open(path, "rt", encoding="ascii") as file:
        values = np.array(file.read().replace("\n", ",").rstrip(",").split(","), dtype=np.float64)
    return values.astype(np.int64).reshape(-1, 65)
