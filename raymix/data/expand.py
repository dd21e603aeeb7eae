"""Which files a source's `path` stands for: files, folders, wildcards, brace ranges and lists of them."""

from __future__ import annotations

import difflib
import glob
import os
import posixpath
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import islice

from raymix.data.remote import PATH, file_system, in_threads, is_http, is_remote, listed, problem, remote_kind
from raymix.spec import JobError

_WILD = re.compile(r"[*?[]")
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_MOST = 1_000_000  # paths that braces may stand for


def expand(paths: str | tuple[str, ...], suffixes: tuple[str, ...]) -> list[str]:
    """The files that paths stand for: absolute local paths and URLs, sorted, each once.

    A path is a file; a folder, for the files in it and below it that end in one of `suffixes` ("tar" or ".tar", in any
    case; hidden ones are left out); a pattern of `*`, `?`, `[..]` and `**`, for what it matches: of files those with a
    suffix, or all where none has one; and all of these with `{a,b}` and `{000..127}` inside.

    Raises:
        JobError: one of them stands for nothing, or cannot be read.
    """
    endings = tuple("." + suffix.lstrip(".") for suffix in suffixes)
    local: set[str] = set()
    remote: list[str] = []
    for path in (paths,) if isinstance(paths, str) else paths:
        if is_remote(path):
            _check_scheme(path)
            remote += _braces(path)
        else:
            local.update(*(_local(one, endings) for one in _braces(path)))
    found = in_threads(lambda path: _web(path) if is_http(path) else _remote(path, endings), remote)
    return sorted(set(_distinct(sorted(local))).union(*found))


def _distinct(paths: list[str]) -> list[str]:
    """Without the files that a link to their folder leads to a second time."""
    folders: dict[str, str] = {}
    first: dict[tuple[str, str], str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        first.setdefault((folders[folder], name), path)
    return list(first.values())


def _check_scheme(path: str) -> None:
    if path.endswith("://"):
        raise JobError(PATH, f"{path} names nothing", "as in s3://bucket/folder")
    try:
        file_system(path)
    except OSError as error:
        raise problem(path, error) from None


def _braces(path: str) -> list[str]:
    """The path with its braces expanded as a shell would; a local file that has braces in its name is itself."""
    if "{" not in path or (not is_remote(path) and os.path.lexists(os.path.expanduser(path))):
        return [path]
    from braceexpand import braceexpand

    try:
        # a range is laid out whole before its first member comes
        small = all(abs(int(last) - int(first)) < _MOST for first, last in _RANGE.findall(path))
        found = list(islice(braceexpand(path, escape=False), _MOST + 1)) if small else []
    except ValueError:
        raise JobError(PATH, f"{path}: its braces do not pair", "as in shard-{000..127}.tar") from None
    if not small or len(found) > _MOST:
        raise JobError(PATH, f"{path} stands for more than {_MOST:,} files", "check the range")
    return found


def _local(path: str, endings: tuple[str, ...]) -> list[str]:
    full = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(full):
        return _some(files_below(full, endings), path, endings)
    if os.path.lexists(full):
        return [full]
    if not _WILD.search(full):
        raise JobError(PATH, f"no such file or folder: {path}", near(path, full))
    matched = glob.glob(full, recursive=True)
    files = [name for name in matched if not os.path.isdir(name)]
    if "**" not in full:  # which matches folders and what is in them alike
        files += [name for folder in matched if os.path.isdir(folder) for name in files_below(folder, endings)]
    if not files:
        raise JobError(PATH, f"no file matches {path}", _near_pattern(full))
    return _fitting(files, endings)


def _remote(path: str, endings: tuple[str, ...]) -> list[str]:
    path = path.rstrip("/")
    try:
        kind = remote_kind(path)
        if kind == "file":
            return [path]
        if kind == "folder":
            files = [entry.uri for entry in listed(path, recursive=True) if not entry.is_folder]
            return _some([uri for uri in files if not _hidden(uri[len(path) :])], path, endings)
        if not _WILD.search(path):
            raise absent(path)
        return _fitting(_matching(path, endings), endings)
    except OSError as error:
        raise problem(path, error) from None


def _matching(pattern: str, endings: tuple[str, ...]) -> list[str]:
    """Files of a store that a pattern matches, and those in the folders that it matches."""
    bucket = pattern.split("/", 3)[2]
    if _WILD.search(bucket):
        raise JobError(PATH, f"{pattern} has a wildcard in its bucket", "name the bucket")
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _WILD.search(part))
    base, rest = "/".join(parts[:first]), parts[first:]
    deep = len(rest) > 1 or "**" in rest
    try:
        entries = listed(base, recursive=deep)
    except FileNotFoundError as error:
        if error.strerror == "no such bucket":
            raise
        raise JobError(PATH, f"no file matches {pattern}", f"there is no {base}") from None
    entries = [entry for entry in entries if not _hidden(entry.uri[len(base) :])]
    matched = [entry for entry in entries if _fits(entry.uri[len(base) + 1 :].split("/"), rest)]
    files = [entry.uri for entry in matched if not entry.is_folder]
    if "**" not in rest:
        for folder in (entry.uri for entry in matched if entry.is_folder):
            below = [entry.uri for entry in listed(folder, recursive=True) if not entry.is_folder]
            files += [uri for uri in below if uri.lower().endswith(endings) and not _hidden(uri[len(folder) :])]
    if not files:
        raise JobError(PATH, f"no file matches {pattern}", f"{base} holds {_examples([e.uri for e in entries])}")
    return files


def _fits(parts: list[str], pattern: list[str]) -> bool:
    """Whether the names of a path match a pattern name by name; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:] or ["*"]) for i in range(len(parts)))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _hidden(inside: str) -> bool:
    return "/." in inside


def _some(files: list[str], path: str, endings: tuple[str, ...]) -> list[str]:
    fitting = [name for name in files if name.lower().endswith(endings)]
    if not fitting:
        raise JobError(PATH, f"no file below {path} ends in {', '.join(endings)}", "name the files, or another folder")
    return fitting


def _fitting(files: list[str], endings: tuple[str, ...]) -> list[str]:
    return [name for name in files if name.lower().endswith(endings)] or files


def _web(path: str) -> list[str]:
    """A file on a web server is there; folders and patterns have no listing to be looked up in."""
    before_query = path.partition("?")[0]
    if before_query.endswith("/") or "*" in before_query or "[" in before_query.partition("://")[2].partition("/")[2]:
        raise JobError(PATH, f"{path}: a web server has no listing", "name its files, as in part-{000..127}.tar")
    try:
        if remote_kind(path) == "none":
            raise JobError(PATH, f"no such file: {path}", "check the address")
        return [path]
    except OSError as error:
        raise problem(path, error) from None


def files_below(folder: str, endings: tuple[str, ...]) -> list[str]:
    """Local files below a folder that end so, hidden ones left out; a folder that links reach twice is entered once."""
    found = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(here, name) for name in names if not name.startswith(".") and name.lower().endswith(endings)
        ]
    return found


def near(path: str, full: str, wanted: Callable[[str], bool] = os.path.lexists) -> str:
    """A hint for a local path that does not exist: the parent that is missing, or a similar name that is `wanted`."""
    parent, name = os.path.split(full)
    if not os.path.isdir(parent):
        if os.path.lexists(parent):
            return f"{parent} is not a folder"
        missing = parent
        while not os.path.lexists(os.path.dirname(missing)):
            missing = os.path.dirname(missing)
        return f"{missing} does not exist either"
    try:
        names = sorted(entry for entry in os.listdir(parent) if not entry.startswith("."))
    except OSError as error:
        return f"{parent} cannot be read: {error.strerror}"
    close = [os.path.join(parent, other) for other in difflib.get_close_matches(name, names, n=3)]
    for candidate in filter(wanted, close):
        return f"did you mean {candidate}?"
    return "" if os.path.isabs(os.path.expanduser(path)) else f"looked in {os.getcwd()}"


def absent(path: str, what: str = "no such file or folder") -> JobError:
    """The error for a path of a store that does not exist, with a similar name, or what else is there, as a hint."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if parent.endswith("/"):
        return JobError(PATH, f"no such bucket: {path}")
    if path.startswith("gs://"):
        return JobError(PATH, f"{what}: {path}")  # a hint would take a listing of all that is below its parent
    try:
        names = sorted(_name(entry.uri) for entry in listed(parent, recursive=False))
    except FileNotFoundError as error:
        if error.strerror == "no such bucket":
            return problem(path, error)
        return JobError(PATH, f"{what}: {path}", f"there is no {parent} either")
    except OSError as error:
        return problem(path, error)
    close = difflib.get_close_matches(name, (other for other in names if not other.startswith(".")), n=1)
    hint = f"did you mean {parent}/{close[0]}?" if close else f"{parent} holds {_examples(names)}"
    return JobError(PATH, f"{what}: {path}", hint)


def _near_pattern(full: str) -> str:
    parts = full.split(os.sep)
    first = next(i for i, part in enumerate(parts) if _WILD.search(part))
    base = os.sep.join(parts[:first]) or os.sep
    if not os.path.isdir(base):
        return f"there is no folder {base}"
    return f"{base} holds {_examples(os.listdir(base))}"


def _name(path: str) -> str:
    return posixpath.basename(path.rstrip("/"))


def _examples(names: list[str]) -> str:
    """Up to three names, so that a typing error shows."""
    shown = sorted(_name(name) for name in names if not _name(name).startswith("."))
    more = f" and {len(shown) - 3:,} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more if shown else "nothing"
