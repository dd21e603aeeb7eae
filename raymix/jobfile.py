"""From a YAML file and `--set` to a JobSpec, or to one line that names the field.

YAML as of its version 1.2, less what a job has no use for: aliases are refused (they let a small file unfold without
end), so are duplicate keys (the first would be lost), and `no`, `010`, `1:30` and dates stay the text that they are.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from raymix.joberrors import first_error
from raymix.secrets import check_secrets
from raymix.spec import JUDGED_WITH, JobError, JobSpec, Pilot, Tune, long_form, masked

S = TypeVar("S", bound=BaseModel)

RESOLVED_FILE = "resolved.json"  # a stored job, in the folder of what was made of it
MAX_LENGTH = 100_000
MOST_TRIED = 64  # combinations of other fields with which a value of a space may fit


def _refused(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases, duplicate keys, tags, and the guesses of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  filled in below

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.events.AliasEvent):
            raise _refused("YAML aliases are not supported", event)
        if getattr(event, "tag", None):
            raise _refused("YAML tags are not supported", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused(f"key {key!r} is not text", key_node)
            if key in seen:
                raise _refused(f"duplicate key '{key}'", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)


_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", "-+0123456789"),  # YAML 1.1 calls 1e-3 text
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
)
for _tag, _pattern, _first in _SCALARS:
    # the resolver asks for an empty scalar's patterns under ""
    _starts = ["" if character == "\0" else character for character in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _starts)


def load_spec(job: str | Path | dict[str, Any] | JobSpec, overrides: list[str] | tuple[str, ...] = ()) -> JobSpec:
    """The job in a YAML file (`-`: standard input), a dict or a JobSpec, with `field=value` overrides applied.

    Raises:
        JobError: the file or a field is wrong; the message is one line.
    """
    if isinstance(job, JobSpec):
        data = asked_of(job)
    elif isinstance(job, dict):
        data = json.loads(_json(job))  # a copy, with tuples as lists and paths as text
    else:
        where = "standard input" if str(job) == "-" else _clipped(str(job), 300)
        data = _yaml(_read(job, where), where)
        if not isinstance(data, dict):
            hint = "a job is a mapping with name, data, ...; see raymix schema"
            raise JobError(where, "is empty" if data is None else "holds no fields", hint)
    for override in overrides:
        _apply(data, override)
    check_secrets(data)
    _default_types(data)
    spec = _priced(_validated(data, JobSpec))
    if spec.tune is not None:
        _check_space(spec, spec.tune)
    for name in spec.pilot.define:
        with_defined(spec, name)
    return spec


def load_options(kind: type[S], data: dict[str, Any], overrides: Iterable[str]) -> S:
    """The options of a command, as `field=value` sets them over those in `data`, which is changed.

    Raises:
        JobError: one of them is wrong; the message is one line.
    """
    for override in overrides:
        _apply(data, override)
    check_secrets(data)
    return _validated(data, kind)


def stored_job(file: Path) -> dict[str, Any]:
    """A stored job, whole, as JSON has it: a field that did not exist when it was written has its default.

    Raises:
        OSError, ValueError: it cannot be read, or is no job of this raymix.
    """
    whole: dict[str, Any] = JobSpec.model_validate_json(file.read_bytes()).model_dump(mode="json")
    return whole


def part_of_job(job: dict[str, Any], without: Collection[str]) -> dict[str, Any]:
    """A whole job as JSON has it, without some sections; of `report` what its metric is reckoned with stays."""
    kept = {name: value for name, value in job.items() if name not in without}
    return {**kept, "report": {field: job["report"][field] for field in JUDGED_WITH.get(job["metric"], ())}}


def with_defined(spec: JobSpec, name: str, base: JobSpec | None = None) -> JobSpec:
    """The job, or its arm `base`, with the values that `pilot.define` gives one of its arms, and without other arms.

    Raises:
        JobError: there is no such field, or the job refuses the value.
    """
    values = spec.pilot.define[name].set
    # without the pilot's other arms: they need not fit what this one trains
    alone = (base or spec).model_copy(update={"pilot": Pilot()})
    try:
        return with_values(alone, values)
    except JobError as error:
        where = f"pilot.define.{name}.set"
        if any(error.field == path or error.field.startswith(f"{path}.") for path in values):
            raise JobError(f"{where}.{error.field}", error.problem, error.hint) from None
        raise JobError(where, f"with it, {error.field}: {error.problem}", error.hint) from None


def with_values(spec: JobSpec, values: Mapping[str, Any]) -> JobSpec:
    """The job with other values in some fields, by their paths; its search is left out.

    Raises:
        JobError: there is no such field, or the job refuses the value.
    """
    data = asked_of(spec, leave_out=("tune",))
    for path, value in values.items():
        _put(data, path.split("."), value, path)
    _default_types(data)
    return _validated(data, JobSpec)


def asked_of(spec: JobSpec, leave_out: Collection[str] = ()) -> dict[str, Any]:
    """What a job says and does not leave to its defaults, as a job file has it; `leave_out` names whole sections."""
    asked: dict[str, Any] = json.loads(spec.model_dump_json(exclude_unset=True, exclude=set(leave_out)))
    return {"spec_version": spec.spec_version, **asked}


def job_text(spec: JobSpec, leave_out: Collection[str] = ()) -> str:
    """The same as the text of a job file."""
    return yaml.safe_dump(asked_of(spec, leave_out), sort_keys=False)


def _check_space(spec: JobSpec, tune: Tune) -> None:
    """Every axis of a search is a field of the job, which takes all its values."""
    for path, axis in tune.space.items():
        others = {other: tune.space[other].probes for other in tune.space if other != path}
        for value in axis.probes:
            try:
                with_values(spec, {path: value})
            except JobError as error:
                if _fits_with(spec, path, value, others):
                    continue
                elsewhere = "" if path.startswith(error.field) else f"with {value!r} in it, {error.field}: "
                raise JobError(f"tune.space.{path}", f"{elsewhere}{error.problem}", error.hint) from None


def _fits_with(spec: JobSpec, path: str, value: Any, others: Mapping[str, tuple[Any, ...]]) -> bool:
    """Whether the job takes a value that it refuses by itself together with values of other fields of the space."""
    for together in itertools.islice(itertools.product(*others.values()), MOST_TRIED):
        with suppress(JobError):
            with_values(spec, {path: value, **dict(zip(others, together, strict=True))})
            return True
    return False


def _validated(data: dict[str, Any], kind: type[S]) -> S:
    try:
        return kind.model_validate_json(_json(data), strict=True)
    except ValidationError as error:
        raise first_error(error, kind) from None


def _priced(spec: JobSpec) -> JobSpec:
    """The job with the price of its node type, where a file says it."""
    cluster = spec.cluster
    if cluster.price_file is None:
        return spec
    prices = _yaml(_read(cluster.price_file, cluster.price_file), cluster.price_file)
    if not isinstance(prices, dict) or cluster.node_type not in prices:
        known = ", ".join(prices) if isinstance(prices, dict) else ""
        problem = f"{cluster.price_file} has no price for {cluster.node_type}"
        raise JobError("cluster.node_type", problem, f"it has {known}" if known else "a price a line, as in h100: 2.5")
    price = prices[cluster.node_type]
    if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
        raise JobError("cluster.price_file", f"{cluster.node_type}: {price!r} is not a price", "a number, as in 2.5")
    update = {"price_per_worker_hour": float(price), "price_file": None, "node_type": None}
    return spec.model_copy(update={"cluster": cluster.model_copy(update=update)})


def _read(job: str | Path, where: str) -> str:
    """The text of a job, of at most MAX_LENGTH characters."""
    try:
        if str(job) == "-":
            text = sys.stdin.read(MAX_LENGTH + 1)
        else:
            path = Path(job)
            if not path.exists():
                raise JobError(where, "no such job file", _near(path))
            if path.is_dir():
                raise JobError(where, "is a folder, not a job file", _near(path / "job.yaml"))
            with path.open(encoding="utf-8") as file:
                text = file.read(MAX_LENGTH + 1)
    except UnicodeDecodeError:
        raise JobError(where, "is not UTF-8 text", "a job is a YAML file") from None
    except OSError as error:
        raise JobError(where, error.strerror or str(error)) from None
    if len(text) > MAX_LENGTH:
        raise JobError(where, f"is larger than {MAX_LENGTH:,} characters", "a job is a YAML file of a few dozen lines")
    return text


def _clipped(text: str, longest: int) -> str:
    text = masked(text)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _near(path: Path) -> str:
    """A job file beside the one that is not there."""
    near = sorted(str(p) for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), near, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else "name a YAML file"


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark and "\n" in text.strip() else ""
        problem = error.problem or "is not YAML"
        if problem.startswith("but ") and error.context:  # half a sentence
            problem = f"{error.context}, {problem}"
        raise JobError(where + line, problem) from None
    except yaml.reader.ReaderError as error:
        raise JobError(where, f"is not YAML: {error.reason}", "a job is a text file") from None
    except RecursionError:
        raise JobError(where, "is nested too deeply", "no field of a job is more than four levels down") from None
    except ValueError:  # Python reads whole numbers of up to 4,300 digits
        raise JobError(where, "holds a number of too many digits") from None


def _json(data: dict[str, Any]) -> str:
    try:
        return json.dumps(data, default=os.fspath)
    except RecursionError:
        raise JobError("job", "is nested too deeply", "no field of a job is more than four levels down") from None
    except (TypeError, ValueError) as error:
        raise JobError("job", f"holds a value that is neither text, number, list nor mapping: {error}") from None


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one field, as in `optim.lr=1e-3`; sections on the way to it are made. No value: null."""
    where = f"--set {_clipped(override, 80)}"
    key, sign, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not sign or not all([*parents, last]):
        raise JobError(where, "is not FIELD=VALUE", "for example --set optim.lr=1e-3")
    if parents[:2] == ["tune", "space"]:  # below it, a path with dots is one key
        parents, last = parents[:2], ".".join([*parents[2:], last])
    if parents[:1] == ["sweep"]:  # so is an axis
        parents, last = ["sweep"], ".".join([*parents[1:], last])
    if parents[:2] == ["pilot", "define"] and parents[3:4] == ["set"]:  # and so it is below an arm's
        parents, last = parents[:4], ".".join([*parents[4:], last])
    _put(data, [*parents, last], _yaml(text, where), where)


def _put(data: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    """Sets one field; sections on the way to it are made."""
    if "backbone" in data:  # so that backbone.pretrained finds the section behind a short form
        data["backbone"] = long_form(data["backbone"])
    *parents, last = path
    here = data
    for part in parents:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise JobError(where, f"{part} has no fields of its own")
    here[last] = value


def _default_types(data: dict[str, Any]) -> None:
    """Name the default's type in a section that leaves it out: `--set objective.mask_ratio=0.5` means the MAE one."""
    for name, field in JobSpec.model_fields.items():
        section, tag = data.get(name), field.discriminator
        if isinstance(section, dict) and isinstance(tag, str) and isinstance(field.default, BaseModel):
            section.setdefault(tag, getattr(field.default, tag))
