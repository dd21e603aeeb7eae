"""pydantic's findings in the user's words: the dotted field as the job writes it, what is wrong, what to do instead."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from raymix.spec import JobError, JobSpec, masked

# what a value must be, by the type of pydantic's error; {names} come from its context
_MUST_BE = {
    "int_type": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section with fields of its own",
    "model_attributes_type": "a section with fields of its own",
    "dict_type": "a section with fields of its own",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "divisible by {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of {max_length}",
}
_PATTERNS = {
    "name": "letters, digits, '.', '_' and '-', the first a letter or digit, at most 100",
    "backbone.name": "the name of a model, of letters, digits, '_', '.' and '-'",
    "backbone.factory": "package.module:factory",
}


class _Place(NamedTuple):
    """Where an error stands: the path, the section that holds its last key, and the sections that could have."""

    root: type[BaseModel]
    path: str
    section: type[BaseModel] | None
    options: tuple[type[BaseModel], ...]
    holder: Any  # annotation of what holds the value
    expected: Any  # annotation of the value
    optional: bool  # a field with a default


def first_error(error: ValidationError, root: type[BaseModel] = JobSpec) -> JobError:
    """The first of the findings in a job, or what else is a `root`, with the number of other fields that are wrong."""
    found = error.errors(include_url=False)
    # a key nobody knows explains a missing one beside it, so it goes first
    found.sort(key=lambda item: item["type"] != "extra_forbidden")
    # a job of a newer raymix may hold any number of things that this one does not know
    found.sort(key=lambda item: item["loc"] != ("spec_version",))
    first, place = found[0], _locate(found[0]["loc"], root)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, JobError):
        return JobError(cause.field, cause.problem, cause.hint)
    # a field that may be one thing or another has a finding for each
    same = [item for item in found if _locate(item["loc"], root).path == place.path]
    others = {_locate(item["loc"], root).path for item in found} - {place.path}
    field, problem, hint = _describe(first, same, place)
    return JobError(field, problem + (f"; and {len(others)} more" if others else ""), hint)


def _describe(first: Any, same: list[Any], place: _Place) -> tuple[str, str, str]:
    """Field, problem and hint of a finding."""
    kind, context, value = first["type"], first.get("ctx", {}), _shown(first["input"])
    if kind == "extra_forbidden":
        return place.path, "unknown key", _known(str(first["loc"][-1]), place)
    if kind == "missing" and isinstance(first["loc"][-1], int):
        return place.path, f"must be a list of {len(get_args(_members(place.holder)[0]))}", ""
    if kind == "missing":
        return place.path, "missing", "see raymix schema"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = context["discriminator"].strip("'")
        tags = _tags(place.expected, tag)
        if kind == "union_tag_not_found":
            return f"{place.path}.{tag}", "missing", f"one of {', '.join(tags)}"
        return f"{place.path}.{tag}", f"unknown value {_shown(first['input'][tag])}", _one_of(context["tag"], tags)
    if kind == "literal_error" and len(same) == 1:
        return place.path, f"unknown value {value}", _one_of(first["input"], get_args(place.expected))
    if kind == "string_pattern_mismatch":
        return place.path, f"must be {_PATTERNS.get(place.path, 'a path without NUL')}, not {value}", ""
    if any(item["type"] == "secret" for item in same):  # of a path, or of one in a list of them
        return place.path, "holds a secret, and a job is kept and shown", "credentials come from the environment"
    if kind == "json_invalid":
        deep = "recursion" in str(context.get("error"))
        return "job", "is nested too deeply" if deep else "holds text that is not Unicode", ""
    wanted = dict.fromkeys(_must_be(item) for item in same)
    if all(wanted):
        hint = "leave it out for its defaults" if first["input"] is None and place.optional else ""
        return place.path, f"must be {' or '.join(str(words) for words in wanted)}, not {value}", hint
    message = first["msg"].removeprefix("Value error, ")
    return place.path, f"{message[0].lower()}{message[1:]}, not {value}", ""


def _must_be(item: Any) -> str | None:
    context = item.get("ctx", {})
    if item["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    words = _MUST_BE.get(item["type"])
    return words.format(**{name: _number(value) for name, value in context.items()}) if words else None


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"a list of {len(value)}"
    text = masked(json.dumps(value, default=str, ensure_ascii=False))
    return text if len(text) <= 60 else f"{text[:50]}..."


# ---- what could have been meant ---------------------------------------------------------------------------------


def _one_of(value: Any, known: tuple[Any, ...]) -> str:
    close = difflib.get_close_matches(str(value), [str(name) for name in known], n=1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(str(name) for name in known)}"


def _known(key: str, place: _Place) -> str:
    """A hint for a key that a section does not have: another section's, another type's, a near one, or the list."""
    fields = list(place.section.model_fields) if place.section else []
    parent = place.path.rpartition(".")[0]
    for other in place.options:
        if key in other.model_fields:
            tag, value = _tag_of(other)
            return f"a field of {parent}.{tag}: {value}" if parent else f"a field of {tag}: {value}"
    if "." in key and key in _paths(place.root):
        return "in a file, sections are nested; FIELD=VALUE is for --set"
    close = [f"{parent}.{name}" if parent else name for name in difflib.get_close_matches(key, fields, n=1, cutoff=0.7)]
    elsewhere = dict.fromkeys(path for path in _paths(place.root) if path.rpartition(".")[2] == key)
    if meant := [*close, *elsewhere][:2]:
        return f"did you mean {' or '.join(meant)}?"
    return f"known here: {', '.join(fields)}"


def _paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted path of every field of a job."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in _sections(field.annotation):
            yield from _paths(inner, f"{prefix}{name}.")


def _tags(annotation: Any, tag: str) -> tuple[str, ...]:
    return tuple(value for section in _sections(annotation) for value in get_args(section.model_fields[tag].annotation))


def _tag_of(section: type[BaseModel]) -> tuple[str, str]:
    """The field that tells a section from its siblings, and its value; its name where it is the only one."""
    tags = (
        (name, get_args(field.annotation)[0])
        for name, field in section.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    )
    return next(tags, ("", section.__name__))


# ---- from pydantic's location to the user's ----------------------------------------------------------------------


def _locate(loc: tuple[int | str, ...], root: type[BaseModel]) -> _Place:
    """Where an error stands, without the tags and labels that pydantic puts in for the members of a union."""
    path: list[str] = []
    section: type[BaseModel] | None = None
    options: tuple[type[BaseModel], ...] = ()
    holder: Any = None
    expected: Any = root
    optional = False
    for part in loc:
        holder, members = expected, _members(expected)
        if len(members) > 1:  # the tag or the label of one of them
            options = _sections(expected)
            expected = next((member for member in options if part == _tag_of(member)[1]), None)
        elif isinstance(part, int):  # the value is shown, which says more than its index
            types_of = get_args(members[0]) if members else ()
            expected = types_of[min(part, len(types_of) - 1)] if types_of else None
            expected = types_of[0] if expected is Ellipsis else expected
        else:
            path.append(json.dumps(part) if "." in part else part)
            section = next(iter(_sections(expected)), None)
            options = options if expected in options else ()
            field = section.model_fields.get(part) if section else None
            expected, optional = (field.annotation, not field.is_required()) if field else (None, False)
    return _Place(root, ".".join(path), section, options, holder, expected, optional)


def _members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation, None left out; one alone for what is no union."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for inner in get_args(annotation) for member in _members(inner))
    return () if annotation in (None, type(None)) else (annotation,)


def _sections(annotation: Any) -> tuple[type[BaseModel], ...]:
    return tuple(m for m in _members(annotation) if isinstance(m, type) and issubclass(m, BaseModel))
