"""Rows: what an index finds. Position is identity: row id i is uris[i], labels[i], is_val[i], on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymix.spec import JobError

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Every image a job may use, training rows first, then validation rows, each in sorted order.

    Attributes:
        uris: where each image is; its format knows how to fetch it.
        labels: int64 (len,), index into class_names, -1 for none.
        is_val: bool (len,), rows of the source's own validation set or of data.val.
        class_names: in the order of the labels.
        formats: format name of the training rows, and of the validation rows.
    """

    uris: tuple[str, ...]
    labels: Ids
    is_val: NDArray[np.bool_]
    class_names: tuple[str, ...]
    formats: tuple[str, str]

    def __len__(self) -> int:
        return len(self.uris)


def check_same_classes(train: tuple[str, ...], val: tuple[str, ...], field: str, where: str) -> None:
    """Refuse a validation set whose classes are not those of the training set.

    Raises:
        JobError: `field` is to blame; `where` says in the message what the validation set is.
    """
    extra, absent = sorted(set(val) - set(train)), sorted(set(train) - set(val))
    if extra:
        problem = f"{where} has {_named(extra)}, unknown to the training set"
        raise JobError(field, problem, f"the training set has {_named(sorted(train))}")
    if absent:
        raise JobError(field, f"{where} lacks {_named(absent)} of the training set", "both need the same classes")


def _named(classes: list[str]) -> str:
    """'class a', 'classes a, b' or 'classes a, b, c and 7 more'."""
    shown = ", ".join(repr(name) for name in classes[:3])
    more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
    return f"{'class' if len(classes) == 1 else 'classes'} {shown}{more}"
