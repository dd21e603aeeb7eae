"""Labels as a container holds them, numbers or texts, as class names and numbers of classes. Containers share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.rows import Ids, Rows, check_same_classes
from raymix.spec import JobError, Source


class Labels(NamedTuple):
    """`codes` int64 (N,), index into `names`, -1 where a row has no label."""

    names: tuple[str, ...]
    codes: Ids


class Part(NamedTuple):
    """The training rows of a source, or those of its own validation set; `where` names them in an error."""

    uris: Sequence[str]
    labels: Labels
    where: str


def rows_of(source: Source, field: str, train: Part, val: Part | None = None, run: int = 1) -> Rows:
    """The rows of a source; classes that no training row has are left out, the others keep their order.

    Validation rows without a label are left out too: nothing can be told from them.

    Args:
        field: what is to blame where the classes of `val` differ.
        run: as `Rows` has it.

    Raises:
        JobError: the validation set has other classes than the training set.
    """
    names, codes = _occurring(train.labels)
    val_names, val_codes = _occurring(val.labels) if val else Labels((), np.empty(0, dtype=np.int64))
    if val is None or not val_names:
        return Rows.of(source, train.uris, codes, names, len(train.uris), run)
    check_same_classes(names, val_names, field, val.where)
    judged = np.flatnonzero(val_codes >= 0)
    number = {name: label for label, name in enumerate(names)}
    relabel = np.array([number[name] for name in val_names], dtype=np.int64)
    uris = [*train.uris, *(val.uris[int(i)] for i in judged)]
    return Rows.of(source, uris, np.concatenate([codes, relabel[val_codes[judged]]]), names, len(train.uris), run)


def _occurring(labels: Labels) -> Labels:
    present = np.unique(labels.codes[labels.codes >= 0])
    renumber = np.full(len(labels.names) + 1, -1, dtype=np.int64)
    renumber[present] = np.arange(len(present))
    return Labels(tuple(labels.names[int(i)] for i in present), renumber[labels.codes])


def unlabelled(num_rows: int) -> Labels:
    """Rows without labels."""
    return Labels((), np.full(num_rows, -1, dtype=np.int64))


def of_numbers(values: NDArray[Any], declared: Sequence[str], field: str, where: str) -> Labels:
    """Labels from integers (N,), -1 for none; `declared` names them, else each is called by its decimal text.

    Raises:
        JobError: a label is no whole number, or none of the declared ones, or two of these have one name.
    """
    numbers = values.astype(np.int64)
    odd = np.flatnonzero(numbers != values)
    if len(odd):
        raise JobError(field, f"{where} holds {values[odd[0]]}, which is no class", "labels are integers or texts")
    if len(set(declared)) < len(declared):
        raise JobError(field, f"{where} has two classes of one name", "rename one")
    if not declared:
        present, codes = np.unique(numbers, return_inverse=True)
        if len(present) and present[0] == -1:
            return Labels(tuple(str(number) for number in present[1:]), codes.astype(np.int64) - 1)
        return Labels(tuple(str(number) for number in present), codes.astype(np.int64))
    wrong = np.flatnonzero((numbers < -1) | (numbers >= len(declared)))
    if len(wrong):
        problem = f"{where} holds label {numbers[wrong[0]]}, but {len(declared)} class names"
        raise JobError(field, problem, "labels count from 0; -1 is none")
    return Labels(tuple(declared), numbers)


def of_texts(texts: Sequence[str | None]) -> Labels:
    """Labels from texts, None or an empty one for none; class names are sorted, as numbers where all are numbers."""
    found = {text for text in texts if text}
    decimal = all(text.isdecimal() and str(int(text)) == text for text in found)
    names = sorted(found, key=int) if decimal else sorted(found)
    number: dict[str | None, int] = {name: code for code, name in enumerate(names)}
    return Labels(tuple(names), np.fromiter((number.get(text, -1) for text in texts), np.int64, len(texts)))
