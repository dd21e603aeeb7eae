"""From a YAML file and `--set` to a JobSpec, or to one line that names the field.

YAML aliases are refused (they let a small file unfold without end), so are duplicate keys (the first would be lost).
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from raymix.spec import JobError, JobSpec

MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Plain YAML: no aliases, no duplicate keys, and 1e-3 is a number (YAML 1.1 calls it text)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(None, None, "YAML aliases are not supported", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key '{key}'", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_spec(job: str | Path | dict[str, Any] | JobSpec, overrides: list[str] | tuple[str, ...] = ()) -> JobSpec:
    """The job in a YAML file (`-`: standard input), a dict or a JobSpec, with `field=value` overrides applied.

    Raises:
        JobError: the file or a field is wrong; the message is one line.
    """
    if isinstance(job, JobSpec):
        data = json.loads(job.model_dump_json(exclude_unset=True))
    elif isinstance(job, dict):
        data = json.loads(json.dumps(job))
    else:
        data = _parse(_read(job), str(job))
    for override in overrides:
        _apply(data, override)
    try:
        return JobSpec.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise _first_error(error, data) from None
    except ValueError as error:  # json.dumps: a value JSON has no word for
        raise JobError("job", str(error)) from None


def _read(job: str | Path) -> str:
    if str(job) == "-":
        return sys.stdin.read(MAX_BYTES)
    path = Path(job)
    if not path.exists():
        near = sorted(str(p) for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        close = difflib.get_close_matches(str(path), near, n=1, cutoff=0.6)
        raise JobError(str(job), "no such job file", f"did you mean {close[0]}?" if close else "name a YAML file")
    if not path.is_file():
        raise JobError(str(job), "not a file", "name a YAML file")
    if path.stat().st_size > MAX_BYTES:
        raise JobError(str(job), f"larger than {MAX_BYTES} bytes", "is this a job?")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise JobError(str(job), "not UTF-8 text", "is this a job?") from None
    except OSError as error:
        raise JobError(str(job), error.strerror or str(error)) from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        data = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise JobError(where + line, error.problem or "not YAML", "see raymix schema") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise JobError(where, f"not YAML: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(data, dict):
        raise JobError(where, "holds no fields", "a job is a mapping with name, data, ...; see raymix schema")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise JobError(f"--set {override}", "is not field=value", "for example --set optim.lr=1e-3")
    value = _parse(f"value: {text}" if text.strip() else "value: null", f"--set {override}")["value"]
    here: Any = data
    *parents, last = key.strip().split(".")
    for part in parents:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise JobError(f"--set {override}", f"{part} has no fields of its own")
    here[last] = value


# ---- one line that names the field --------------------------------------------------------------------------------


def _first_error(error: ValidationError, data: dict[str, Any]) -> JobError:
    """The first of pydantic's findings in the user's words, with the number of the others."""
    found = error.errors(include_url=False)
    # a key nobody knows explains a missing one beside it, so it goes first
    found.sort(key=lambda item: item["type"] != "extra_forbidden")
    first = found[0]
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    cause = (first.get("ctx") or {}).get("error")
    if isinstance(cause, JobError):
        return JobError(cause.field, cause.problem, cause.hint)
    field, model = _locate(first["loc"])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(first["loc"][-1]), list(model.model_fields) if model else [], n=1, cutoff=0.5)
        known = ", ".join(model.model_fields) if model else ""
        return JobError(field, f"unknown key{more}", f"did you mean {close[0]}?" if close else f"known here: {known}")
    if first["type"] == "missing":
        return JobError(field, f"missing{more}", "see raymix schema")
    if first["type"] == "union_tag_not_found":
        return JobError(f"{field}.{_tag_name(first)}", f"missing{more}", f"one of {_tags(first)}")
    if first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"]
        close = difflib.get_close_matches(tag, _tags(first).split(", "), n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {_tags(first)}"
        return JobError(f"{field}.{_tag_name(first)}", f"unknown value '{tag}'{more}", hint)
    message = first["msg"].removeprefix("Value error, ")
    value = json.dumps(first["input"], default=str)
    shown = f", not {value}" if len(value) <= 60 and not isinstance(first["input"], dict) else ""
    return JobError(field, f"{message[0].lower()}{message[1:]}{shown}{more}")


def _tag_name(item: Any) -> str:
    return str(item["ctx"]["discriminator"]).strip("'")


def _tags(item: Any) -> str:
    return str(item["ctx"].get("expected_tags", "those that raymix schema lists")).replace("'", "")


def _locate(loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """The dotted path a user would write, without pydantic's union tags, and the section that holds its last key."""
    path: list[str] = []
    model: type[BaseModel] | None = JobSpec
    options: tuple[type[BaseModel], ...] = ()
    for part in loc:
        if options:
            chosen = [m for m in options if any(_is_tag(f, part) for f in m.model_fields.values())]
            options = ()
            if chosen:
                model = chosen[0]
                continue
        holder = model
        path.append(str(part))
        field = model.model_fields.get(str(part)) if model else None
        if field is None:
            return ".".join(path), holder
        models = _models(field.annotation)
        options = models if len(models) > 1 else ()
        model = models[0] if len(models) == 1 else holder if part == loc[-1] else None
    return ".".join(path), model


def _is_tag(field: FieldInfo, part: int | str) -> bool:
    return part in get_args(field.annotation)


def _models(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if get_origin(annotation) is None and not get_args(annotation):
        return ()
    found: tuple[type[BaseModel], ...] = ()
    if get_origin(annotation) is not None or isinstance(annotation, type(Union[int, str])):  # noqa: UP007
        for inner in get_args(annotation):
            found += _models(inner)
    return found
