"""`raymix predict` and `raymix embed`: a row for each image of a source, broken ones included, in its order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymix.data.blocks import encodable
from raymix.data.frame import Frame
from raymix.data.images import Answered
from raymix.data.rows import Ids, Rows
from raymix.datacmd.work import How, console, told
from raymix.models.flow import Asked, Done, answers, device_of, listed, loaded
from raymix.models.writing import WRITERS, check_out, writing
from raymix.spec import Embed, JobError, Predict, Reading
from raymix.train.model import Output, Trained

Columns = dict[str, pa.Array]


class Predicted(Done):
    """What `raymix predict` has written."""

    above: int
    classes: dict[str, int]


class Embedded(Done):
    """What `raymix embed` has written."""

    width: int
    dtype: str


def predict(asked: Asked, spec: Predict, out: Path, overwrite: bool = False) -> Predicted:
    """Writes id, uri, class, score, above and problem of each image to a CSV, Parquet or JSONL file.

    The score is the softmax of the logits, of an image in tiles pooled of theirs; left, top, right and bottom are
    then the tile on which the class whose probability is the score has its highest, in shares of the upright image. Of
    an image that cannot be read problem is the cause, and all of these are null.

    Raises:
        JobError: the run, SOURCE, the file or an option is wrong.
        Interrupted: on Ctrl-C; nothing is kept.
    """
    check_out(out, tuple(WRITERS), overwrite)
    return write_predictions(loaded(asked, spec), listed(spec.source, spec.part), spec, out, asked.how)


def write_predictions(trained: Trained, listing: tuple[Rows, Ids], spec: Predict, out: Path, how: How) -> Predicted:
    """As `predict`, of a model and rows that are there already."""
    positive, num_classes = place_of(spec.positive, trained.class_names), len(trained.class_names)
    counts, above = Counter[str](), 0

    def columns(values: NDArray[np.float32]) -> Columns:
        nonlocal above
        share = softmax(values[:, :num_classes])
        best = share.argmax(1)
        score = share.max(1) if positive is None else share[:, positive]
        scored = best if positive is None else np.full_like(best, positive)
        is_above = score >= spec.threshold
        names = [trained.class_names[place] for place in best]
        counts.update(names)
        above += int(is_above.sum())
        return {
            "class": pa.array(names, pa.string()),
            "score": pa.array(score, pa.float32()),
            "above": pa.array(is_above),
            **({} if trained.frame.tile is None else _tile_columns(trained.frame, values[:, num_classes:], scored)),
        }

    output: Output = "logits" if trained.frame.tile is None else "located"
    done = _written(trained, listing, spec, output, columns, out, how)
    return Predicted(**dict(done), above=above, classes=dict(counts.most_common()))


def embed(asked: Asked, spec: Embed, out: Path, overwrite: bool = False) -> Embedded:
    """Writes id, uri, embedding and problem of each image to a Parquet file; embedding is a list of fixed size.

    It is the mean of the backbone's tokens, as the classifier gets it, and of an image's tiles. Errors are those of
    `predict`.
    """
    check_out(out, (".parquet",), overwrite)
    trained = loaded(asked, spec)
    width = trained.model.f.width
    number = {"float32": np.float32, "float16": np.float16}[spec.dtype]

    def columns(values: NDArray[np.float32]) -> Columns:
        flat = pa.array(values.astype(number).reshape(-1))
        return {"embedding": pa.FixedSizeListArray.from_arrays(flat, width)}

    done = _written(trained, listed(spec.source, spec.part), spec, "features", columns, out, asked.how)
    return Embedded(**dict(done), width=width, dtype=spec.dtype)


def _tile_columns(frame: Frame, tiles: NDArray[np.float32], scored: NDArray[np.int64]) -> Columns:
    """The box of the tile that shows a class best, in shares of the upright image; `tiles` (N, classes): its number."""
    boxes = np.array(frame.boxes, np.float32)[tiles[np.arange(len(tiles)), scored].astype(np.int64)]
    return {name: pa.array(boxes[:, side]) for side, name in enumerate(("left", "top", "right", "bottom"))}


def place_of(name: str | None, class_names: tuple[str, ...]) -> int | None:
    """The place of the positive class among the model's.

    Raises:
        JobError: it is none of them.
    """
    if name is None:
        return None
    if name not in class_names:
        some = ", ".join(class_names[:8]) + (", ..." if len(class_names) > 8 else "")
        raise JobError("positive", f"the model has no class {name}", f"it has {some}")
    return class_names.index(name)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (N, classes)."""
    powers = np.exp(logits - logits.max(1, keepdims=True, initial=-np.inf))
    shares: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return shares


def _written(
    trained: Trained,
    listing: tuple[Rows, Ids],
    spec: Reading,
    output: Output,
    columns: Callable[[NDArray[np.float32]], Columns],
    out: Path,
    how: How,
) -> Done:
    """Goes through the rows and writes one for each image; `columns` makes what stands in it of the values."""
    rows, ids = listing
    no_values = columns(np.zeros((0, trained.width(output)), dtype=np.float32))
    schema = _table(rows, Answered(ids[:0], np.zeros((0, 0), np.float32), {}), no_values).schema
    skipped = Counter[str]()
    started = time.perf_counter()
    with (
        console(how, "nothing is kept") as sink,
        writing(out, schema) as write,
        answers(trained, output, rows, ids, spec, how.verbose) as found,
        closing(told(found, sink, "reading images", len(ids), num_rows)) as heard,
    ):
        for answered in heard:
            skipped.update(answered.skipped.values())
            write(_table(rows, answered, columns(answered.values)))
    return Done(
        images=len(ids),
        skipped=dict(skipped.most_common()),
        seconds=time.perf_counter() - started,
        device=device_of(spec.cluster),
        workers=spec.cluster.max_workers,
    )


def num_rows(answered: Answered) -> int:
    """Images that an answer is about, unreadable ones included."""
    return len(answered.ids) + len(answered.skipped)


def _table(rows: Rows, answered: Answered, columns: Columns) -> pa.Table:
    """The rows of an answer by id; unreadable ones have nulls in `columns`."""
    ids: Ids = np.sort(np.concatenate([answered.ids, np.array(list(answered.skipped), dtype=np.int64)]))
    place = {int(row): number for number, row in enumerate(answered.ids)}
    taken = pa.array([place.get(int(row)) for row in ids], pa.int64())
    uris = [encodable(rows.uris[row]) for row in ids]
    problems = [answered.skipped.get(int(row)) for row in ids]
    return pa.table(
        {
            "id": pa.array(ids),
            "uri": pa.array(uris, pa.string()),
            **{name: column.take(taken) for name, column in columns.items()},
            "problem": pa.array(problems, pa.string()),
        }
    )
