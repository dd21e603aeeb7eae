"""What the user names, a path or a job file, as a job, and the rows of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from raymix.data.find import find_source
from raymix.data.formats import grouped, index_data, index_source
from raymix.data.rows import Rows
from raymix.jobfile import load_spec
from raymix.spec import JobError, JobSpec

JOB_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Named:
    """What the user named. `bare`: a path, around which a job was made."""

    spec: JobSpec
    bare: bool


def named(source: str, val: str | None = None, asked_format: str | None = None, overrides: Iterable[str] = ()) -> Named:
    """The data of a job file, or a path whose format is found out.

    Raises:
        JobError: SOURCE, --val, --format or --set is wrong.
    """
    if source == "-" or source.lower().endswith(JOB_SUFFIXES):
        for value, option in ((val, "--val"), (asked_format, "--format")):
            if value is not None:
                raise JobError(option, f"{source} is a job file and says it itself", "use --set data.FIELD=VALUE")
        return Named(load_spec(source, list(overrides)), bare=False)
    data: dict[str, Any] = {"train": find_source(source, asked_format, "SOURCE")}
    if val is not None:
        data["val"] = find_source(val, None, "--val")
    return Named(load_spec({"name": "data", "data": data}, list(overrides)), bare=True)


def index(what: Named) -> Rows:
    """The rows that are meant. Those of a path alone may lack classes: an unlabelled set can be checked, too.

    Raises:
        JobError: the source is wrong, or holds no image.
    """
    data = what.spec.data
    try:
        if what.bare and data.val is None and data.unlabelled is None:
            rows = grouped(index_source(data.train, "data.train"), data)
        else:
            rows = index_data(data)
        if not len(rows):
            raise JobError("data.train", "holds no image")
    except JobError as error:
        if not what.bare:
            raise
        options = {"data.train": "SOURCE", "data.val": "--val"}
        field = error.field.removesuffix(".path").removesuffix(".format")
        raise JobError(options.get(field, error.field), error.problem, error.hint) from None
    return rows
