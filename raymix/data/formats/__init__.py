"""Where images come from: one module a format, an index without reading an image, and fetch by row.

To add a format: a module with `index` and `fetch`, its source class in `raymix.spec`, and a line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from raymix.data.formats import digits, image_folder, tiny_imagenet
from raymix.data.rows import Ids, Rows, check_same_classes
from raymix.spec import Data, JobError, Source

S = TypeVar("S", contravariant=True)


class Format(Protocol[S]):
    """What a format can do; a module with these two functions is one."""

    def index(self, source: S) -> Rows:
        """All rows of a source, training rows first, then those of its own validation set; sorted, no image read."""

    def fetch(self, uris: Sequence[str]) -> list[bytes]:
        """The encoded image of each uri; OSError where one cannot be read."""


FORMATS: dict[str, Format[Any]] = {
    "image_folder": image_folder,
    "tiny_imagenet": tiny_imagenet,
    "digits": digits,
}


def index_data(data: Data) -> Rows:
    """The rows of data.train, and for validation those of data.val, else the training source's own.

    Of a data.val source that has a validation set of its own, that set is taken, else all its images.

    Raises:
        JobError: a source is wrong, the message names the field; or the classes of both differ.
    """
    rows = FORMATS[data.train.format].index(data.train)
    if len(rows.class_names) < 2:
        problem = f"only one class found: {', '.join(rows.class_names)}"
        raise JobError("data.train", problem, "a classifier needs two or more")
    if data.val is None:
        return rows
    try:
        val = FORMATS[data.val.format].index(data.val)
    except JobError as error:
        raise JobError(error.field.replace("data.train", "data.val", 1), error.problem, error.hint) from None
    check_same_classes(rows.class_names, val.class_names, "data.val", _name(data.val))
    return _joined(rows, val, data.val)


def _joined(rows: Rows, val: Rows, source: Source) -> Rows:
    """The training rows of one index and the validation rows of another, labels by class name."""
    train_ids = np.flatnonzero(~rows.is_val)
    val_ids = np.flatnonzero(val.is_val) if val.is_val.any() else np.arange(len(val))
    train_uris = [rows.uris[i] for i in train_ids]
    val_uris = [val.uris[i] for i in val_ids]
    both = set(train_uris).intersection(val_uris)
    if both:
        problem = f"{len(both):,} of its images are training images too, first: {min(both)}"
        raise JobError("data.val", problem, "leave data.val out for data.train's own, or a hold-out")
    number = {name: label for label, name in enumerate(rows.class_names)}
    relabel = np.array([number[name] for name in val.class_names], dtype=np.int64)
    return Rows(
        uris=(*train_uris, *val_uris),
        labels=np.concatenate([rows.labels[train_ids], relabel[val.labels[val_ids]]]),
        is_val=np.arange(len(train_ids) + len(val_ids)) >= len(train_ids),
        class_names=rows.class_names,
        formats=(rows.formats[0], source.format),
    )


def _name(source: Source) -> str:
    return str(getattr(source, "path", source.format))


def fetch(rows: Rows, ids: Ids) -> list[bytes | OSError]:
    """The encoded images of `ids`, in that order; in place of one that cannot be read stands the error."""
    raws: list[bytes | OSError] = [b""] * len(ids)
    for is_val, name in enumerate(rows.formats):
        places = np.flatnonzero(rows.is_val[ids] == bool(is_val))
        uris = [rows.uris[ids[place]] for place in places]
        for place, raw in zip(places, _fetch(FORMATS[name], uris), strict=True):
            raws[place] = raw
    return raws


def _fetch(source: Format[Any], uris: list[str]) -> Sequence[bytes | OSError]:
    try:
        return source.fetch(uris)
    except OSError as error:
        if len(uris) == 1:
            return [error]
        middle = len(uris) // 2  # halves, so that one bad file costs a few rereads and not one call an image
        return [*_fetch(source, uris[:middle]), *_fetch(source, uris[middle:])]
