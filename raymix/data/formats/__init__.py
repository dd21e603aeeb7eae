"""Where images come from: one module a format, an index without reading an image, and fetch by row.

To add a format: a module with `index` and `fetch`, its source class in `raymix.spec.sources`, and a line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from raymix.data.formats import (
    cifar_binary,
    digits,
    hf_disk,
    image_folder,
    images,
    npz,
    parquet,
    table,
    tiny_imagenet,
    torchvision_set,
    webdataset,
)
from raymix.data.groups import Columns, with_groups
from raymix.data.rows import Ids, RawImage, Rows, check_same_classes
from raymix.spec import Data, JobError, Source

S = TypeVar("S", contravariant=True)


class Format(Protocol[S]):
    """What a format can do; a module with these two functions is one."""

    def index(self, source: S) -> Rows:
        """All rows of a source, training rows first, then those of its own validation set; no image is read.

        The same source gives the same rows in the same order on every machine. Labels may be -1 where rows have none.

        Raises:
            JobError: `data.train.<field>` is wrong; `index_data` names the section that it really stands in.
        """

    def fetch(self, source: S, uris: Sequence[str]) -> Sequence[RawImage]:
        """The image of each uri, in that order; called from many threads and processes.

        Raises:
            OSError: one cannot be read, and nothing else is raised; uris are then asked for in smaller groups.
        """


FORMATS: dict[str, Format[Any]] = {
    "image_folder": image_folder,
    "images": images,
    "tiny_imagenet": tiny_imagenet,
    "table": table,
    "parquet": parquet,
    "webdataset": webdataset,
    "cifar_binary": cifar_binary,
    "hf_disk": hf_disk,
    "torchvision": torchvision_set,
    "npz": npz,
    "digits": digits,
}


# formats of which data.group may name a column
COLUMNS: Columns = {
    "table": table.column,
    "parquet": parquet.column,
    "webdataset": webdataset.column,
    "hf_disk": hf_disk.column,
}


def index_data(data: Data) -> Rows:
    """The rows of data.train and data.unlabelled, and for validation those of data.val, else the training source's own.

    Of a data.val source that has a validation set of its own, that set is taken, else all its images. Of
    data.unlabelled the validation set is left out, and so is every image that data.train or data.val has.

    Raises:
        JobError: a source is wrong, the message names the field; or the classes of train and val differ, or they share
            one of the groups that data.group asks for.
    """
    rows = index_source(data.train, "data.train")
    if len(rows.class_names) < 2:
        only = ", ".join(rows.class_names)
        problem, hint = f"only one class found: {only}", "a classifier needs two or more"
        if not only:
            problem, hint = (
                "its images have no labels",
                "give a source that has some; without, it can be data.unlabelled",
            )
            if hasattr(data.train, "label_column"):
                hint = "set data.train.label_column to the column that holds them"
        raise JobError("data.train", problem, hint)
    if data.val is not None:
        val = index_source(data.val, "data.val")
        check_same_classes(rows.class_names, val.class_names, "data.val", _name(data.val))
        rows = _with_val(rows, val)
    if data.unlabelled is not None:
        rows = _with_unlabelled(rows, index_source(data.unlabelled, "data.unlabelled"))
    return replace(grouped(rows, data), tiles=data.num_tiles)


def grouped(rows: Rows, data: Data) -> Rows:
    """The rows with their groups, where data.group asks for some.

    Raises:
        JobError: see `raymix.data.groups.with_groups`.
    """
    return with_groups(rows, data, COLUMNS)


def index_source(source: Source, field: str) -> Rows:
    """The rows of one source, which stands in the job's section `field`.

    Raises:
        JobError: the source is wrong.
    """
    try:
        return FORMATS[source.format].index(source)
    except JobError as error:
        raise JobError(error.field.replace("data.train", field, 1), error.problem, error.hint) from None


def _with_val(rows: Rows, val: Rows) -> Rows:
    """The training rows of one index and the validation rows of another, labels by class name."""
    val_ids = np.flatnonzero(val.is_val) if val.is_val.any() else np.arange(len(val))
    train = rows.take(np.flatnonzero(~rows.is_val))
    number = {name: label for label, name in enumerate(rows.class_names)}
    relabel = np.array([*(number[name] for name in val.class_names), -1], dtype=np.int64)  # -1 stays -1
    labels = relabel[val.labels[val_ids]]
    joined = _joined(train, val.take(val_ids), labels, is_val=True)
    both = set(train.uris).intersection(joined.uris[len(train) :])
    if both:
        problem = f"{len(both):,} of its images are training images too, first: {min(both)}"
        raise JobError("data.val", problem, "leave data.val out for data.train's own, or a hold-out")
    return joined


def _with_unlabelled(rows: Rows, others: Rows) -> Rows:
    """The rows of data.unlabelled between the training and the validation rows, less those that are there already."""
    known = set(rows.uris)
    offered = np.flatnonzero(~others.is_val)
    new = np.array([i for i in offered if others.uris[i] not in known], dtype=np.int64)
    if not len(new):
        raise JobError("data.unlabelled", "all of its images are in data.train or data.val", "leave it out")
    train, val = (rows.take(np.flatnonzero(rows.is_val == part)) for part in (False, True))
    none = np.full(len(new), -1, dtype=np.int64)
    joined = _joined(_joined(train, others.take(new), none, is_val=False), val, val.labels, is_val=True)
    return replace(joined, num_shared=len(offered) - len(new))


def _joined(first: Rows, second: Rows, labels: Ids, is_val: bool) -> Rows:
    """One index after another, with new labels for the second one's rows, by the class names of the first."""
    sources = first.sources + tuple(source for source in second.sources if source not in first.sources)
    place = np.array([sources.index(source) for source in second.sources], dtype=np.uint8)
    return Rows(
        uris=first.uris + second.uris,
        labels=np.concatenate([first.labels, labels]),
        is_val=np.concatenate([first.is_val, np.full(len(second), is_val)]),
        class_names=first.class_names,
        sources=sources,
        source_of=np.concatenate([first.source_of, place[second.source_of]]),
        run=max(first.run, second.run),
    )


def _name(source: Source) -> str:
    return str(getattr(source, "path", source.format))


def fetch(rows: Rows, ids: Ids) -> list[RawImage | OSError]:
    """The images of `ids`, in that order; in place of one that cannot be read stands the error."""
    raws: list[RawImage | OSError] = [b""] * len(ids)
    for number, source in enumerate(rows.sources):
        places = np.flatnonzero(rows.source_of[ids] == number)
        uris = [rows.uris[ids[place]] for place in places]
        for place, raw in zip(places, _fetch(source, uris), strict=True):
            raws[place] = raw
    return raws


def _fetch(source: Source, uris: list[str]) -> Sequence[RawImage | OSError]:
    try:
        return FORMATS[source.format].fetch(source, uris)
    except OSError as error:
        if len(uris) == 1:
            return [error]
        middle = len(uris) // 2  # halves, so that one bad file costs a few rereads and not one call an image
        return [*_fetch(source, uris[:middle]), *_fetch(source, uris[middle:])]
