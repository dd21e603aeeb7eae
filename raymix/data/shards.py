"""Data sets that are cut into many files: which of them train, and which are the validation set."""

from __future__ import annotations

import re
from collections.abc import Sequence

from raymix.data.remote import PATH
from raymix.spec import JobError

_TRAIN = frozenset({"train", "training"})
_VAL = frozenset({"val", "valid", "validation"})
_TEST = frozenset({"test", "testing"})


def train_and_val(path: str | Sequence[str], files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The training and the validation files among those that a source's `path` stands for, by their names.

    `train-00000-of-00004.parquet`, `imagenet-val-000.tar` and `train/part-0.parquet` tell what they are. Test files
    are left out. Where no file says that it is for training, and of a list, all are.

    Raises:
        JobError: beside training files lies one that does not say what it is.
    """
    if not isinstance(path, str) or len(files) == 1:
        return list(files), []
    names = [file.lower().split("/") for file in files]
    depth = next(i for i, level in enumerate(zip(*names, strict=False)) if len(set(level)) > 1)  # below the folder
    words = [frozenset(re.split(r"[/._-]", "/".join(name[depth:]))) for name in names]
    if not any(found & _TRAIN for found in words):
        return list(files), []
    parts: tuple[list[str], list[str]] = ([], [])
    for file, found in zip(files, words, strict=True):
        if found & _TRAIN:
            parts[0].append(file)
        elif found & _VAL:
            parts[1].append(file)
        elif not found & _TEST:
            problem = f"{file} is named neither train nor val nor test, as the files beside it are"
            raise JobError(PATH, problem, "name the training files in a list or a pattern")
    return parts
