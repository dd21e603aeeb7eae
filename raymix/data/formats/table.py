"""`table`: a CSV, TSV or JSONL file that names images and their labels.

Image paths are relative to `images`, or to the table's folder; absolute paths and URLs stand for themselves. An empty
label or -1 is none. Where there is a column `split`, rows of val are the validation set and rows of test are left out.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from raymix.data.expand import absent, near
from raymix.data.files import PATH, checked_folder, is_remote, listing, read_files
from raymix.data.labels import Labels, Part, of_texts, rows_of
from raymix.data.records import Columns, Record, csv_records, decoded, jsonl_records
from raymix.data.remote import file_system, in_threads, is_http, problem, remote_kind
from raymix.data.rows import Rows
from raymix.spec import JobError, TableSource

_IMAGE = ("file_name", "filename", "file", "image", "image_path", "path")
_LABEL = ("label", "class", "class_name", "category", "target")
_READERS = {"csv": csv_records, "tsv": csv_records, "jsonl": jsonl_records, "ndjson": jsonl_records}
# value of the column `split` -> 0 for train, 1 for val, None for what is left out
_SPLITS = {"": 0, "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": None, "testing": None}
_NUMBER = re.compile(r"(-?\d+(\.0)?)?")
_IMAGES = "data.train.images"
_PROBED = 100  # images of which at least one must be there


def index(source: TableSource) -> Rows:
    """Training rows, then validation rows, each in the order of the table. Class names are sorted, numbers as such.

    An image that is not there is found when it is read, unless the first 100 are all missing.

    Raises:
        JobError: the table, a column or a line of it is wrong, or an image stands in it twice.
    """
    path = _path(source)
    base = _base(source, path)
    place = _placer(base, path)
    lines: dict[str, int] = {}
    uris: tuple[list[str], list[str]] = ([], [])  # of train, of val
    texts: tuple[list[str], list[str]] = ([], [])
    for line, image, label, split in _records(source, path):
        part = 0 if split is None else _part(split, path, line)
        if part is None:
            continue
        uri = place(image, line)
        first = lines.setdefault(uri, line)
        if first != line:
            raise JobError(PATH, f"{path} line {line}: {image} stands in line {first} already", "remove one of them")
        uris[part].append(uri)
        texts[part].append(label.strip() if type(label) is str else _text(label, path, line))
    if not lines:
        raise JobError(PATH, f"{path} names no image", "a line an image is expected")
    _check_some(list(lines)[:_PROBED], source, base)
    names, codes = of_texts(_cleaned([*texts[0], *texts[1]], path))
    num_train = len(uris[0])
    train = Part(uris[0], Labels(names, codes[:num_train]), path)
    val = Part(uris[1], Labels(names, codes[num_train:]), f"split val of {path}") if uris[1] else None
    return rows_of(source, PATH, train, val)


def fetch(source: TableSource, uris: Sequence[str]) -> list[bytes]:
    """The files' bytes; OSError where one cannot be read."""
    return read_files(uris)


def column(source: TableSource, name: str, uris: Sequence[str]) -> list[str]:
    """What a column says of each image, empty for nothing.

    Raises:
        JobError: there is no such column, or what it holds is no name.
    """
    path = _path(source)
    place = _placer(_base(source, path), path)
    found = {}
    for line, image, value, split in _records(source, path, name):
        if split is None or _part(split, path, line) is not None:
            found[place(image, line)] = value.strip() if type(value) is str else _text(value, path, line, name)
    return [found[uri] for uri in uris]


def _path(source: TableSource) -> str:
    return source.path if is_remote(source.path) else os.path.abspath(os.path.expanduser(source.path))


def _records(source: TableSource, path: str, group: str | None = None) -> Iterator[Record]:
    """Line, image, label and split of each line; with `group` that column in the place of the label's."""
    suffix = (path.partition("?")[0] if is_http(path) else path).rpartition(".")[2].lower()
    if suffix not in _READERS:
        raise JobError(PATH, f"{source.path} is no table", f"its name has to end in .{', .'.join(_READERS)}")
    try:
        raw = read_files([path])[0]
    except FileNotFoundError as error:
        if is_http(path):
            raise problem(path, error) from None
        if is_remote(path):
            raise absent(path, "no such file") from None
        raise JobError(PATH, f"no such file: {source.path}", near(source.path, path)) from None
    except OSError as error:
        raise problem(path, error) from None
    return _READERS[suffix](path, decoded(path, raw), partial(_columns, source, path, group))


def _columns(source: TableSource, path: str, group: str | None, names: list[str]) -> Columns:
    image = _column(names, source.image_column, _IMAGE, "image_column", path)
    if image is None:
        what = f"{path} has no column {', '.join(_IMAGE[:-1])} or {_IMAGE[-1]}"
        raise JobError("data.train.image_column", what, f"name one of {_listed(names)}")
    asked, field = (source.label_column, "label_column") if group is None else (group, "group")
    label = _column(names, asked, _LABEL, field, path)
    split = _column(names, None, ("split",), "", path)
    held = (image, _column(names, source.label_column, _LABEL, "label_column", path))
    return Columns(image, label, split if split not in held else None)


def _column(names: list[str], asked: str | None, usual: Sequence[str], field: str, path: str) -> str | None:
    """The column that is asked for, else the first usual one there is, in lower case or not."""
    if asked is None:
        lower = {name.lower(): name for name in reversed(names)}
        return next((lower[name] for name in usual if name in lower), None)
    if asked in names:
        return asked
    close = difflib.get_close_matches(asked, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise JobError(f"data.train.{field}", f"{path} has no column {asked!r}", f"{hint}its columns are {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(name[:40] for name in names[:10]) + more


def _part(split: Any, path: str, line: int) -> int | None:
    """0 for train, 1 for val, None for test."""
    name = split.strip().lower() if isinstance(split, str) else str(split)
    if name not in _SPLITS:
        what = f"{path} line {line} has split {split!r}"
        raise JobError(PATH, what, "expected train, val or test; rename a column that means something else")
    return _SPLITS[name]


def _text(label: Any, path: str, line: int, name: str = "label") -> str:
    """A label of JSON, or what else a column holds, as text, empty for none."""
    if label is None or label != label:  # null, NaN
        return ""
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return str(int(label))
    raise JobError(PATH, f"{path} line {line} has {name} {str(label)[:60]}", f"a {name} is a text or a whole number")


def _cleaned(texts: list[str], path: str) -> list[str]:
    """Labels as texts; where all are numbers, 3.0, as tables with gaps have it, is 3, and -1 is none."""
    found = set(texts)
    for text in found:
        if not text.isascii() and text.encode(errors="replace").decode() != text:
            raise JobError(PATH, f"{path} has label {text!r}, which is not UTF-8", "rename it")
    if not all(_NUMBER.fullmatch(text) for text in found):
        return texts
    plain = {text: text.removesuffix(".0") for text in found}
    return ["" if plain[text] == "-1" else plain[text] for text in texts]


# ---- where images are -------------------------------------------------------------------------------------------


def _base(source: TableSource, path: str) -> str:
    """The folder that image paths are relative to."""
    if source.images is None:
        return (path.partition("?")[0] if is_http(path) else path).rpartition("/")[0]
    if is_remote(source.images):
        return source.images.rstrip("/")
    try:
        return checked_folder(source.images)
    except JobError as error:
        raise JobError(_IMAGES, error.problem, error.hint) from None


def _placer(base: str, path: str) -> Callable[[Any, int], str]:
    """A function of what a line calls its image, and of the line's number: where the image is."""
    scheme, _, inside = base.rpartition("://")
    store, _, folder = inside.partition("/")
    is_web = is_http(base)
    checked: set[str] = set()

    def place(image: Any, line: int) -> str:
        name = image.strip() if isinstance(image, str) else ""
        if not name or "\0" in name or (not name.isascii() and name.encode(errors="replace").decode() != name):
            raise JobError(PATH, f"{path} line {line} names no image", f"{image!r} is no path")
        if "://" in name and is_remote(name):
            root = name[: name.find("/", name.index("://") + 3)]
            if root not in checked:
                _check_store(name, path, line)
                checked.add(root)
            return name
        if not scheme or name[0] == "/":
            return os.path.normpath(f"{base}/{name}" if name[0] != "/" else name)
        full = posixpath.normpath(posixpath.join(folder, quote(name) if is_web else name))
        if full.startswith(".."):
            raise JobError(PATH, f"{path} line {line}: {name} leads out of {base}", "check the path, or set images")
        return f"{scheme}://{store}/{full}"

    return place


def _check_store(name: str, path: str, line: int) -> None:
    try:
        file_system(name)
    except JobError as error:
        raise JobError(PATH, f"{path} line {line}: {error.problem}", error.hint) from None
    except OSError as error:
        raise problem(name, error) from None


def _check_some(uris: list[str], source: TableSource, base: str) -> None:
    """At least one of the first images is there: else all paths are relative to another folder."""
    failures: list[OSError] = []

    def is_there(uri: str) -> bool:
        try:
            return remote_kind(uri) != "none" if is_remote(uri) else os.path.exists(uri)
        except OSError as error:
            failures.append(error)
            return False

    if is_there(uris[0]) or any(in_threads(is_there, uris[1:])):
        return
    if failures:
        raise problem(uris[0], failures[0])
    what = f"none of its first {len(uris)} images is there" if len(uris) > 1 else "its image is not there"
    raise JobError(_IMAGES, f"{what}, first: {uris[0]}", _suggested(uris[0], base) or _set_images(source))


def _set_images(source: TableSource) -> str:
    return f"{'change' if source.images else 'set it to'} the folder that the paths in {source.path} are relative to"


def _suggested(uri: str, base: str) -> str:
    """A folder in `base` from which the image's path leads to it."""
    if is_remote(base) or not uri.startswith(base + "/"):
        return ""
    inside = uri[len(base) + 1 :]
    for folder in listing(base).folders:
        if os.path.exists(os.path.join(base, folder, inside)):
            return f"did you mean {os.path.join(base, folder)}?"
    return ""
