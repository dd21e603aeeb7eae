"""Lines of a CSV, TSV or JSONL text as records of three values: an image, its label, its split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from raymix.data.files import PATH
from raymix.spec import JobError

_FIRST = 1_000  # lines of JSON whose keys are the columns
_DELIMITERS = ",;\t"


class Columns(NamedTuple):
    """Names of the columns that are read, None where there is none."""

    image: str
    label: str | None
    split: str | None


Pick = Callable[[list[str]], Columns]
Record = tuple[int, Any, Any, Any]  # line, image, label, split; None for what is not there


def decoded(path: str, raw: bytes) -> str:
    """The text of a table in UTF-8, with or without a byte order mark.

    Raises:
        JobError: it is something else.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise JobError(PATH, f"{path} line {line} is not UTF-8 text", "save it as UTF-8") from None


def csv_records(path: str, text: str, pick: Pick) -> Iterator[Record]:
    """The lines below the header; blank ones are left out.

    Raises:
        JobError: the text is no table, or `pick` finds no column.
    """
    header = text.partition("\n")[0]
    # the one that is most frequent: spreadsheets write ; where , is the decimal sign
    delimiter = max(_DELIMITERS, key=header.count)
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True
    )
    try:
        names = [name.strip() for name in next(lines, [])]
        if not names:
            raise JobError(PATH, f"{path} is empty", "its first line names the columns")
        places = [names.index(name) if name is not None else None for name in pick(names)]
        image, label, split = places
        assert image is not None
        for fields in lines:
            if len(fields) != len(names):
                if not fields:
                    continue
                problem = f"{path} line {lines.line_num} has {len(fields)} fields, its first line {len(names)}"
                raise JobError(PATH, problem, f'put a field that holds {delimiter!r} in "quotes"')
            yield (
                lines.line_num,
                fields[image],
                None if label is None else fields[label],
                None if split is None else fields[split],
            )
    except csv.Error as error:
        raise JobError(PATH, f"{path} line {lines.line_num} cannot be read: {error}", "check its quotes") from None


def jsonl_records(path: str, text: str, pick: Pick) -> Iterator[Record]:
    """One JSON object a line; blank lines are left out.

    Raises:
        JobError: a line is no JSON object, or `pick` finds no column.
    """
    objects = _objects(path, text)
    first = list(islice(objects, _FIRST))
    if not first:
        raise JobError(PATH, f"{path} is empty", "one JSON object a line is expected")
    image, label, split = pick(list(dict.fromkeys(key for _, found in first for key in found)))
    for chunk in (first, objects):
        for line, found in chunk:
            yield (
                line,
                found.get(image),
                None if label is None else found.get(label),
                None if split is None else found.get(split),
            )


def _objects(path: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.isspace():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it cannot be parsed"
            hint = "one JSON object a line is expected"
            raise JobError(PATH, f"{path} line {number} is not JSON: {reason}", hint) from None
        if not isinstance(found, dict):
            raise JobError(
                PATH, f"{path} line {number} is not a JSON object", 'as in {"image": "a.jpg", "label": "cat"}'
            )
        yield number, found
