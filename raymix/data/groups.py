"""What no split may cut through: a name for each image, by a column of its source or by its path."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raymix.data.remote import is_remote
from raymix.data.rows import Rows
from raymix.spec import Data, GroupPattern, JobError, Source, TableSource

# by format: what a column of a source says of each uri, empty for nothing
Columns = Mapping[str, Callable[[Any, str, Sequence[str]], list[str]]]

GROUP = "data.group"
_FILES = ("image_folder", "images", "tiny_imagenet", "table")  # formats whose uris are those of single images
_MOST_SECONDS, _FREE_SECONDS = 1e-3, 5.0  # that a pattern may take of each path, and of some in any case


def with_groups(rows: Rows, data: Data, columns: Columns) -> Rows:
    """The rows with the groups that `data.group` asks for; as they are where it asks for none.

    Raises:
        JobError: a source cannot tell them, a row has none, or a given validation set shares one with labelled
            training rows.
    """
    if data.group is None:
        return rows
    names = [""] * len(rows)
    for number, source in enumerate(rows.sources):
        places = np.flatnonzero(rows.source_of == number)
        uris = [rows.uris[place] for place in places]
        section = next((name for name in ("val", "unlabelled") if getattr(data, name) == source), "train")
        found = _names(source, f"data.{section}", data.group, uris, columns)
        for place, name in zip(places.tolist(), found, strict=True):
            names[place] = name
        if "" in found:
            asked = "pattern" if isinstance(data.group, GroupPattern) else "column"
            nothing = "matches nothing in" if asked == "pattern" else f"{data.group!r} says nothing of"
            raise JobError(GROUP, f"the {asked} {nothing} {uris[found.index('')]}", "each image needs a group")
    group_names = tuple(sorted(set(names)))
    group_of = {name: group for group, name in enumerate(group_names)}
    groups = np.fromiter((group_of[name] for name in names), np.int64, len(names))
    grouped = replace(rows, groups=groups, group_names=group_names)
    _check_given(grouped, data)
    return grouped


def _names(source: Source, section: str, group: str | GroupPattern, uris: Sequence[str], columns: Columns) -> list[str]:
    """The group of each image of the source in a section of the job, empty for none."""
    if isinstance(group, GroupPattern):
        if source.format not in _FILES:
            hint = "name a column" if source.format in columns else f"it is for {', '.join(_FILES)}"
            raise JobError(GROUP, f"a pattern is searched in paths, and {section} ({source.format}) has none", hint)
        return _searched(source, group, uris)
    column = columns.get(source.format)
    if column is None:
        hint = r"search in its paths, as in group: {pattern: 'lot(\d+)'}" if source.format in _FILES else ""
        raise JobError(
            GROUP, f"{section} ({source.format}) has no columns", hint or f"they are for {', '.join(columns)}"
        )
    try:
        return column(source, group, uris)
    except JobError as error:
        raise JobError(error.field.replace("data.train.group", GROUP), error.problem, error.hint) from None


def _searched(source: Source, group: GroupPattern, uris: Sequence[str]) -> list[str]:
    """What the pattern finds in the paths below the source's folder."""
    search, root, names = group.compiled.search, _root(source, uris), list[str]()
    started = time.monotonic()
    for number, uri in enumerate(uris, start=1):
        match = search(uri.removeprefix(root).lstrip("/"))
        names.append((match[1] or "") if match else "")
        if time.monotonic() - started > _FREE_SECONDS + _MOST_SECONDS * number:
            problem = (
                f"the pattern takes too long: {_FREE_SECONDS:g} s over the first {number:,} of {len(uris):,} paths"
            )
            raise JobError("data.group.pattern", problem, "fewer of * and +, or say what comes before them")
    return names


def _root(source: Source, uris: Sequence[str]) -> str:
    """The folder that the paths of a source's images are told from."""
    if not isinstance(source, TableSource):
        return folder_of(getattr(source, "path", ""), uris)
    if source.images is not None:
        return folder_of(source.images, uris)
    return folder_of(source.path.partition("?")[0] if is_remote(source.path) else source.path, uris).rpartition("/")[0]


def folder_of(path: str | tuple[str, ...], uris: Sequence[str]) -> str:
    """A source's path as its uris begin with it; of patterns and lists the folder that they have in common."""
    if isinstance(path, str) and not set("*?[{").intersection(path):
        return path.rstrip("/") if is_remote(path) else os.path.abspath(os.path.expanduser(path)) if path else ""
    return os.path.commonprefix([min(uris), max(uris)]).rpartition("/")[0] if uris else ""  # noqa: RUF071  of any URL


def _check_given(rows: Rows, data: Data) -> None:
    """A validation set that was given has no group that labelled training rows have."""
    assert rows.groups is not None
    both = np.intersect1d(rows.groups[rows.is_val], rows.groups[~rows.is_val & (rows.labels >= 0)])
    if len(both):
        first = rows.group_names[both[0]]
        more = f" and {len(both) - 1:,} more" if len(both) > 1 else ""
        where = "the validation set of data.train" if data.val is None else "data.val"
        ways = "move its images to one of the two" + (
            "" if data.val is None else ", or leave data.val out for a hold-out"
        )
        raise JobError(GROUP, f"{where} shares group {first!r}{more} with the training rows", ways)
