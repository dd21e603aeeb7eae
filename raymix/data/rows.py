"""Rows: what an index finds. Position is identity: row id i is uris[i], labels[i], is_val[i], on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymix.spec import JobError, Source

Ids = NDArray[np.int64]
# an image as its format holds it: an encoded file, or pixels (H, W) or (H, W, C) where it has no encoding
RawImage = bytes | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """Every image a job may use: training rows, unlabelled rows of a second source, validation rows.

    Attributes:
        uris: where each image is; its format knows how to fetch it. Unique within a source.
        labels: int64 (len,), index into class_names, -1 for none.
        is_val: bool (len,), rows of the source's own validation set or of data.val; they come last.
        class_names: in the order of the labels.
        sources: what the rows are of.
        source_of: uint8 (len,), index into `sources`.
        run: neighbouring rows that lie in one piece of a larger file and are read together; 1 where each has its file.
        num_shared: images of data.unlabelled that were left out because data.train or data.val has them.
        tiles: T, the tiles that each image is cut into where it trains (`raymix.data.tiles`).
        groups: int64 (len,), index into group_names; None: rows stand each for itself.
        group_names: of what no split may cut through.
    """

    uris: tuple[str, ...]
    labels: Ids
    is_val: NDArray[np.bool_]
    class_names: tuple[str, ...]
    sources: tuple[Source, ...]
    source_of: NDArray[np.uint8]
    run: int = 1
    num_shared: int = 0
    tiles: int = 1
    groups: Ids | None = None
    group_names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: Source,
        uris: Sequence[str],
        labels: Sequence[int] | Ids,
        class_names: Sequence[str],
        num_train: int,
        run: int = 1,
    ) -> Rows:
        """The rows of one source: the first `num_train` train, the others are its own validation set."""
        return cls(
            uris=tuple(uris),
            labels=np.asarray(labels, dtype=np.int64),
            is_val=np.arange(len(uris)) >= num_train,
            class_names=tuple(class_names),
            sources=(source,),
            source_of=np.zeros(len(uris), dtype=np.uint8),
            run=run,
        )

    def __len__(self) -> int:
        return len(self.uris)

    def take(self, ids: Ids) -> Rows:
        """Some of these rows, in the order of `ids`."""
        return replace(
            self,
            uris=tuple(self.uris[i] for i in ids),
            labels=self.labels[ids],
            is_val=self.is_val[ids],
            source_of=self.source_of[ids],
            groups=None if self.groups is None else self.groups[ids],
        )


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
