"""Which format a path has, from its name and from what lies there: `raymix data` takes paths without a format."""

from __future__ import annotations

import difflib
import os
from typing import Any, get_args

from raymix.data.expand import files_below, near
from raymix.data.files import images_below, listing
from raymix.data.remote import is_http, is_remote, listed, problem, remote_kind
from raymix.spec import JobError, Source

NAMES = tuple(get_args(section.model_fields["format"].annotation)[0] for section in get_args(get_args(Source)[0]))
_WITHOUT_PATH = ("digits",)
_SUFFIXES = {
    "csv": "table",
    "tsv": "table",
    "jsonl": "table",
    "parquet": "parquet",
    "tar": "webdataset",
    "npz": "npz",
}
_TABLES = ("csv", "tsv", "jsonl")
_FILES = {
    "dataset_dict.json": "hf_disk",
    "dataset_info.json": "hf_disk",
    "data_batch_1.bin": "cifar_binary",
    "train.bin": "cifar_binary",
    "wnids.txt": "tiny_imagenet",
}


def find_source(text: str, asked: str | None, field: str, option: str = "--format ") -> dict[str, Any]:
    """The section of a job for a path, a URL, a pattern, or the word `digits`.

    Args:
        text: As the user wrote it.
        asked: Its format, where the user says it.
        field: To blame where it is wrong.
        option: By which the user says a format.

    Raises:
        JobError: nothing is there, or its format cannot be told.
    """
    say = f"say what it is with {option}NAME: {', '.join(NAMES)}"
    if asked is not None and asked not in NAMES:
        close = difflib.get_close_matches(asked, NAMES, n=1)
        raise JobError(option.rstrip(" ="), f"unknown value {asked}", f"did you mean {close[0]}?" if close else say)
    if asked is None and text in _WITHOUT_PATH and not os.path.exists(text):
        asked = text
    if asked in _WITHOUT_PATH:
        return {"format": asked}
    if asked is not None:
        return {"format": asked, "path": text}
    try:
        return _found(text, field, say)
    except OSError as error:
        told = problem(text, error)
        raise JobError(field, told.problem, told.hint) from None
    except JobError as error:
        raise JobError(field, error.problem, error.hint) from None


def _found(text: str, field: str, say: str) -> dict[str, Any]:
    full = text if is_remote(text) else os.path.abspath(os.path.expanduser(text))
    by_suffix = _SUFFIXES.get(text.partition("?")[0].rpartition(".")[2].lower())
    if is_remote(text):
        is_folder = not is_http(text) and not by_suffix and remote_kind(text) == "folder"
    else:
        is_folder = os.path.isdir(full)
        if not os.path.lexists(full) and not set(text) & set("*?[{"):
            raise JobError(field, f"no such file or folder: {text}", near(text, full))
    if is_folder:
        return _of_folder(text, full, field, say)
    if by_suffix is None:
        raise JobError(field, f"the format of {text} cannot be told from its name", say)
    return {"format": by_suffix, "path": text}


def _of_folder(text: str, folder: str, field: str, say: str) -> dict[str, Any]:
    folders, files = _held(folder)
    if not folders and not files:
        raise JobError(field, f"{text} is empty")
    for name, found in _FILES.items():
        if name in files:
            return {"format": found, "path": text}
    if "val" in folders and "val_annotations.txt" in _held(_joined(folder, "val"))[1]:
        return {"format": "tiny_imagenet", "path": text}
    # shards may lie a folder deeper, as in data/train-*.parquet
    below = files or [name for inner in folders for name in _held(_joined(folder, inner))[1]]
    for suffix in ("parquet", "tar"):
        if any(name.lower().endswith(f".{suffix}") for name in below):
            return {"format": _SUFFIXES[suffix], "path": text}
    if is_remote(folder):
        raise JobError(field, f"the format of {text} cannot be told from what it holds", say)
    return _of_images(text, folder, field, files, say)


def _of_images(text: str, folder: str, field: str, files: list[str], say: str) -> dict[str, Any]:
    """A local folder with images in it: in class folders, beside a table of labels, or alone."""
    held = listing(folder)
    tables = [name for name in files if name.lower().endswith(tuple(f".{suffix}" for suffix in _TABLES))]
    in_folders = any(images_below(os.path.join(folder, name)) for name in held.folders)
    if len(tables) == 1 and (in_folders or held.images):
        return {"format": "table", "path": os.path.join(text, tables[0])}
    if in_folders:
        return {"format": "image_folder", "path": text}
    if held.images:
        return {"format": "images", "path": text}
    more = ", ".join(sorted(files + held.folders)[:3])
    inner = [name for name in held.folders if files_below(os.path.join(folder, name), (".parquet", ".tar"))]
    hint = f"did you mean {os.path.join(text, inner[0])}?" if inner else say
    raise JobError(field, f"{text} holds no images and no file of a known format, but {more}", hint)


def _held(folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, hidden ones left out, sorted.

    Raises:
        OSError: it cannot be listed.
    """
    if is_remote(folder):
        entries = [
            (entry.uri.rstrip("/").rpartition("/")[2], entry.is_folder) for entry in listed(folder, recursive=False)
        ]
    else:
        with os.scandir(folder) as found:
            entries = [(entry.name, entry.is_dir()) for entry in found]
    entries = sorted(entry for entry in entries if not entry[0].startswith("."))
    return [name for name, is_folder in entries if is_folder], [name for name, is_folder in entries if not is_folder]


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
