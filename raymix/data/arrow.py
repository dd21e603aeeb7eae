"""Columns of images and labels as Arrow holds them; Parquet files and saved Hugging Face datasets share it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from raymix.data import labels
from raymix.spec import JobError

IMAGES = ("image", "img", "jpg", "png", "bytes")
LABELS = ("label", "labels", "class", "fine_label", "target")
_IMAGE_FIELD, _LABEL_FIELD = "data.train.image_column", "data.train.label_column"


def image_column(schema: Any, asked: str | None, where: str) -> str:
    """The column of `schema` that holds images: the one asked for, else of Hugging Face's type Image, else by name.

    Raises:
        JobError: it is not there, or holds no encoded images.
    """
    name = asked or _found(schema, IMAGES, "Image")
    if name is None or name not in schema.names:
        raise _absent(_IMAGE_FIELD, name or "image", schema, where)
    kind = _payload_type(schema.field(name).type)
    if kind is None:
        problem = f"column {name!r} of {where} is {_short(schema.field(name).type)}, not the bytes of images"
        hint = "for paths of files use format table" if "string" in str(schema.field(name).type) else ""
        raise JobError(_IMAGE_FIELD, problem, hint or "binary, or a struct with a binary field 'bytes'")
    return name


def label_column(schema: Any, asked: str | None, where: str) -> str | None:
    """The column of `schema` that holds labels: the one asked for, else by name, else of type ClassLabel, else None.

    Raises:
        JobError: the one asked for is not there, or its type is none of a label.
    """
    import pyarrow.types as types

    name = asked or _found(schema, LABELS, "ClassLabel")
    if name is None:
        return None
    if name not in schema.names:
        raise _absent(_LABEL_FIELD, name, schema, where)
    kind = schema.field(name).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_boolean, types.is_floating, types.is_string, types.is_large_string)
    if not any(test(kind) for test in (*tests, types.is_null)):
        problem = f"column {name!r} of {where} is {_short(kind)}, not one label an image"
        raise JobError(_LABEL_FIELD, problem, "an integer or a text column")
    return name


def class_names(schema: Any, column: str | None, features: dict[str, Any] | None = None) -> tuple[str, ...]:
    """What Hugging Face's ClassLabel calls the labels 0, 1, ... of a column; empty where it has no names."""
    feature = (_features(schema) if features is None else features).get(column or "")
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def labels_of(column: Any, declared: Sequence[str], where: str) -> labels.Labels:
    """The labels of a chunked array of integers or texts; null is none.

    Raises:
        JobError: a label is no class.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):
        return labels.unlabelled(len(column))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        coded = column.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        try:
            names, codes = labels.of_texts(coded.dictionary.to_pylist())
        except UnicodeDecodeError:
            raise JobError(_LABEL_FIELD, f"{where} has a label that is not UTF-8 text", "write it as UTF-8") from None
        places = np.asarray(pc.fill_null(coded.indices, len(codes)))
        return labels.Labels(names, np.append(codes, -1)[places])
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)  # pandas writes numbers with gaps so
    else:
        column = column.cast(pa.int64())  # no unsigned type holds the -1 below
    values = pc.fill_null(column, -1).to_numpy()
    return labels.of_numbers(values, declared, _LABEL_FIELD, where)


def names_of(schema: Any, name: str, column: Callable[[], Any], where: str) -> list[str]:
    """What a column says of each row, empty for nothing; `column` reads it, as a chunked array.

    Raises:
        JobError: there is no such column, or what it holds is no name.
    """
    import pyarrow as pa
    import pyarrow.types as types

    if name not in schema.names:
        raise _absent("data.train.group", name, schema, where)
    kind = schema.field(name).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string, types.is_null)
    if not any(test(kind) for test in (*tests, types.is_temporal, types.is_decimal)):
        problem = f"column {name!r} of {where} is {_short(kind)}, not one name an image"
        raise JobError("data.train.group", problem, "an integer, a text or a date column")
    found = column()
    found = found.cast(found.type.value_type) if types.is_dictionary(found.type) else found
    try:
        return ["" if value is None else str(value).strip() for value in found.to_pylist()]
    except (UnicodeDecodeError, pa.ArrowException):
        problem = f"column {name!r} of {where} is not UTF-8 text"
        raise JobError("data.train.group", problem, "write it as UTF-8") from None


def places(uris: Sequence[str]) -> list[tuple[str, int, int]]:
    """The file, the batch of rows in it and the row in that batch that each uri `<file>#<batch>:<row>` names."""
    found = []
    for uri in uris:
        path, _, place = uri.rpartition("#")
        batch, _, row = place.partition(":")
        found.append((path, int(batch), int(row)))
    return found


def payloads(array: Any) -> list[tuple[bytes | None, str | None]]:
    """The bytes of each image of an array and the path beside them, each None where there is none."""
    import pyarrow as pa

    if not pa.types.is_struct(array.type):
        return [(value, None) for value in array.to_pylist()]
    return [((value or {}).get("bytes"), (value or {}).get("path")) for value in array.to_pylist()]


def _found(schema: Any, names: Sequence[str], feature_type: str) -> str | None:
    by_name = [name for name in names if name in schema.names]
    features = _features(schema)
    by_type = [name for name in schema.names if _is(features.get(name), feature_type)]
    both = [name for name in by_name if name in by_type]
    return next(iter([*both, *(by_type if len(by_type) == 1 else by_name), *by_name]), None)


def _is(feature: Any, feature_type: str) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == feature_type


def _features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of the columns, from the schema's metadata; empty where there is none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _payload_type(kind: Any) -> Any:
    """The type of the encoded images in a column of type `kind`; None where it holds none."""
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return _payload_type(kind.field(index).type) if index >= 0 else None
    return kind if types.is_binary(kind) or types.is_large_binary(kind) else None


def _absent(field: str, name: str, schema: Any, where: str) -> JobError:
    close = difflib.get_close_matches(name, schema.names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, schema.names[:20]))}"
    return JobError(field, f"{where} has no column {name!r}", hint)


def _short(kind: Any) -> str:
    text = " ".join(str(kind).split())
    return text if len(text) <= 60 else text[:57] + "..."
