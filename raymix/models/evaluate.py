"""`raymix evaluate`: a model held against the labels of a source; logits are kept, images are not."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from PIL import Image

from raymix.bucket import shown
from raymix.data.blocks import encodable
from raymix.data.frame import Pixels
from raymix.data.reading import read_in_order
from raymix.data.rows import Ids, Rows
from raymix.datacmd.work import console, told
from raymix.models import figures, probing
from raymix.models.costs import cost_figures
from raymix.models.figures import Floats, Ints
from raymix.models.flow import Asked, answers, device_of, listed, loaded
from raymix.models.own import Own, own_rows
from raymix.models.work import num_rows, softmax
from raymix.models.writing import check_folder, new_folder
from raymix.plan import cost_matrix
from raymix.report.beside import png
from raymix.report.evaluation import Evaluated, Mistake
from raymix.report.page_evaluation import evaluation_html
from raymix.spec import Evaluation, JobError, Source
from raymix.train.model import Trained
from raymix.watch.console import ConsoleSink

JSON, PAGE = "evaluation.json", "evaluation.html"
_SIDE = 96  # pixels of a shown mistake


class Labelled(NamedTuple):
    """The labelled rows of a source: `labels` by row id, as places in the model's class names; -1 for none."""

    rows: Rows
    ids: Ids
    labels: Ints
    unlabelled: int


class Seen(NamedTuple):
    """What the model says of the rows that can be read: `probes` what each probe takes them for."""

    ids: Ids
    p_NK: NDArray[np.float32]
    probes: list[Ints]
    skipped: dict[int, str]


def evaluate(asked: Asked, spec: Evaluation, out: Path | None, overwrite: bool = False) -> Evaluated:
    """Judges a run's model on the labelled images of a source, and writes what was found.

    Args:
        out: A new folder for evaluation.json, evaluation.html, classes.csv, confusion.csv and images.csv; None: none.

    Raises:
        JobError: the run, SOURCE, the folder or an option is wrong; nothing was written.
        Interrupted: on Ctrl-C; nothing is kept.
    """
    if out is not None:
        check_folder(out, JSON, "an evaluation", overwrite)
    trained = loaded(asked, spec)
    labelled = labelled_rows(spec, trained.class_names)
    costs, field = spec.costs, "costs"
    if costs is None:
        costs, field = trained.spec.report.costs, "report.costs"
    C_KK = None if costs is None else np.array(cost_matrix(costs, trained.class_names, field))
    own = _own(asked, spec)
    started = time.perf_counter()
    with console(asked.how, "nothing is kept") as sink:
        fits = []
        if own and (spec.knn or spec.probe):
            fits = probing.fitted(trained, own, spec, sink, asked.how.verbose)
        seen = _seen(trained, labelled, fits, spec, sink, asked.how.verbose)
        sink.stage("figures")
        found = _judged(asked, trained, spec, labelled, seen, C_KK, own, fits)
    found = found.model_copy(update={"seconds": time.perf_counter() - started})
    if out is not None:
        with new_folder(out) as part:
            (part / JSON).write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
            (part / PAGE).write_text(evaluation_html(found), encoding="utf-8")
            _write_tables(part, found, labelled, seen)
    return found


def labelled_rows(spec: Evaluation, class_names: tuple[str, ...]) -> Labelled:
    """The rows of SOURCE that have a label, matched with the model's classes by name.

    Raises:
        JobError: there are none, or one has a class that the model does not know.
    """
    rows, ids = listed(spec.source, "all" if spec.part == "auto" else spec.part)
    if spec.part == "auto" and rows.is_val.any():
        ids = np.flatnonzero(rows.is_val)
    with_label = ids[rows.labels[ids] >= 0]
    if not len(with_label):
        hint = "raymix predict takes images without labels"
        if hasattr(spec.source, "label_column"):
            hint = "set source.label_column to the column that holds them; " + hint
        raise JobError("source", f"{source_name(spec.source)} has no labels", hint)
    place = {name: number for number, name in enumerate(class_names)}
    used = [rows.class_names[label] for label in np.unique(rows.labels[with_label])]
    unknown = [name for name in used if name not in place]
    if unknown:
        named = ", ".join(map(repr, unknown[:3])) + (f" and {len(unknown) - 3} more" if len(unknown) > 3 else "")
        known = ", ".join(map(repr, class_names[:8])) + (", ..." if len(class_names) > 8 else "")
        told_of = f"{source_name(spec.source)} has {'classes' if len(unknown) > 1 else 'class'} {named}"
        raise JobError("source", f"{told_of}, unknown to the run", f"it has {known}")
    relabel = np.array([*(place.get(name, -1) for name in rows.class_names), -1], dtype=np.int64)  # -1 stays -1
    return Labelled(rows, with_label, relabel[rows.labels], len(ids) - len(with_label))


def source_name(source: Source) -> str:
    """Its path, or its format where it has none."""
    return str(getattr(source, "path", source.format))


def _own(asked: Asked, spec: Evaluation) -> Own | None:
    """The run's own rows; None where they are gone and nothing is learnt from them."""
    try:
        return own_rows(asked.run)
    except JobError as error:
        if not (spec.knn or spec.probe):
            return None
        hint = f"knn and probe learn from the run's own training images; {probing.LEAVE_OUT}"
        raise JobError(error.field, error.problem, hint) from None


def _seen(
    trained: Trained,
    labelled: Labelled,
    fits: list[probing.Fitted],
    spec: Evaluation,
    sink: ConsoleSink,
    verbose: bool,
) -> Seen:
    """One pass over the images; of their vectors only what the probes say of them is kept."""
    num_classes, skipped = len(trained.class_names), dict[int, str]()
    ids, shares = [], []
    probes: list[list[Ints]] = [[] for _ in fits]
    with (
        answers(trained, "both" if fits else "logits", labelled.rows, labelled.ids, spec, verbose) as found,
        closing(told(found, sink, "reading images", len(labelled.ids), num_rows)) as heard,
    ):
        for answered in heard:
            skipped.update(answered.skipped)
            if not len(answered.ids):
                continue
            ids.append(answered.ids)
            shares.append(softmax(answered.values[:, :num_classes]))
            for fit, said in zip(fits, probes, strict=True):
                said.append(fit.predict(answered.values[:, num_classes:]))
    if not ids:
        raise JobError("source", f"none of its {len(labelled.ids):,} labelled images can be read")
    return Seen(np.concatenate(ids), np.concatenate(shares), [np.concatenate(said) for said in probes], skipped)


def _judged(
    asked: Asked,
    trained: Trained,
    spec: Evaluation,
    labelled: Labelled,
    seen: Seen,
    C_KK: Floats | None,
    own: Own | None,
    fits: list[probing.Fitted],
) -> Evaluated:
    names, p_NK, y_N = trained.class_names, seen.p_NK, labelled.labels[seen.ids]
    num_images, num_classes = p_NK.shape
    if not np.isfinite(p_NK).all():
        raise JobError("RUN", "its model gives values that are not finite", "take another checkpoint")
    predicted_N, confidence_N = p_NK.argmax(1), p_NK.max(1)
    right_N, bin_N = predicted_N == y_N, figures.bin_of(confidence_N, spec.bins)
    c_KK = figures.confusion(y_N, predicted_N, num_classes)

    def decided(w_N: Ints) -> Floats:
        means = figures.macro(figures.confusion(y_N, predicted_N, num_classes, w_N))
        return np.append(means, figures.calibration_error(bin_N, confidence_N, right_N, w_N))

    ones = np.ones(num_images, dtype=np.int64)
    balanced, f1, calibration = figures.bootstrap(decided, decided(ones), num_images, spec.resamples)
    rate = trained.spec.report.false_alarms if spec.false_alarms is None else spec.false_alarms
    each = figures.ranked(p_NK, y_N, rate)
    means, afforded = figures.rankings(p_NK, y_N, each, rate, spec.resamples)
    auroc, average_precision, recall_at = means or (None, None, None)
    mistakes = np.flatnonzero(~right_N)
    mistakes = mistakes[np.argsort(-confidence_N[mistakes], kind="stable")][: spec.gallery]
    return Evaluated(
        run=shown(asked.run),
        source=source_name(spec.source),
        part=spec.part,
        images=num_images,
        unlabelled=labelled.unlabelled,
        skipped=dict(Counter(seen.skipped.values()).most_common()),
        trained_on=None if own is None else _trained_on(own, labelled),
        class_names=names,
        device=device_of(spec.cluster),
        workers=spec.cluster.max_workers,
        seconds=0.0,
        resamples=spec.resamples,
        ranking_resamples=afforded,
        false_alarms=rate,
        top1=figures.wilson(right_N),
        top5=figures.wilson(_among(p_NK, y_N, 5)) if num_classes > 5 else None,
        balanced_accuracy=balanced,
        f1=f1,
        auroc=auroc,
        average_precision=average_precision,
        recall_at=recall_at,
        calibration_error=calibration,
        bins=figures.bins(bin_N, confidence_N, right_N, spec.bins),
        classes=figures.classes(each, y_N, predicted_N, names),
        confusion=tuple((int(i), int(j), int(c_KK[i, j])) for i, j in np.argwhere(c_KK)),
        probes=probing.judged(fits, seen.probes, y_N, num_classes),
        costs=None if C_KK is None else cost_figures(C_KK, p_NK, y_N, names, spec.resamples),
        mistakes=_mistakes(trained, labelled, seen, mistakes),
    )


def _among(p_NK: Floats, y_N: Ints, num: int) -> NDArray[np.bool_]:
    """Whether the class is among the `num` most probable ones."""
    most = np.argpartition(-p_NK, num - 1, axis=1)[:, :num]
    found: NDArray[np.bool_] = (most == y_N[:, None]).any(1)
    return found


def _trained_on(own: Own, labelled: Labelled) -> int:
    """Images that the run trained on, by where they lie."""
    known = {os.path.abspath(own.rows.uris[row]) for row in own.train}
    return sum(os.path.abspath(labelled.rows.uris[row]) in known for row in labelled.ids)


def _mistakes(trained: Trained, labelled: Labelled, seen: Seen, places: Ints) -> tuple[Mistake, ...]:
    """Read once more, those few alone."""
    ids, found = seen.ids[places], dict[int, str]()
    frame = trained.frame
    if frame.tile is not None:  # the image as a whole is shown, not as small as a tile of it may be
        frame = frame._replace(tile=None, size=max(frame.size, _SIDE))
    if len(ids):
        for part in read_in_order(labelled.rows, ids, frame, 64):
            found.update(zip(part.ids.tolist(), map(_picture, part.pixels), strict=True))
    names, predicted_N = trained.class_names, seen.p_NK[places].argmax(1)
    return tuple(
        Mistake(
            uri=encodable(labelled.rows.uris[row]),
            label=names[labelled.labels[row]],
            predicted=names[predicted],
            confidence=float(seen.p_NK[place].max()),
            picture=found[int(row)],
        )
        for row, place, predicted in zip(ids, places, predicted_N, strict=True)
        if int(row) in found
    )


def _picture(pixels: Pixels) -> str:
    """An image as stored, (S, S, C), as a PNG of 8 bits."""
    shown = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    if len(shown) > _SIDE:
        image = Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown)
        shown = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX))
        shown = shown[:, :, None] if shown.ndim == 2 else shown
    return png(shown)


def _write_tables(part: Path, found: Evaluated, labelled: Labelled, seen: Seen) -> None:
    """classes.csv, confusion.csv and images.csv; of images that cannot be read class and score are empty."""
    flat = [one.model_dump(exclude={"recall_interval"}) for one in found.classes]
    _csv(part / "classes.csv", {name: pa.array([row[name] for row in flat]) for name in flat[0]})
    names = pa.array(found.class_names)
    label, predicted, num = (pa.array(column) for column in zip(*found.confusion, strict=True))
    _csv(part / "confusion.csv", {"label": names.take(label), "class": names.take(predicted), "images": num})
    ids = np.sort(np.concatenate([seen.ids, np.fromiter(seen.skipped, np.int64, len(seen.skipped))]))
    place = {int(row): number for number, row in enumerate(seen.ids)}
    taken = pa.array([place.get(int(row)) for row in ids], pa.int64())
    columns = {
        "id": pa.array(ids),
        "uri": pa.array([encodable(labelled.rows.uris[row]) for row in ids]),
        "label": names.take(pa.array(labelled.labels[ids])),
        "class": names.take(pa.array(seen.p_NK.argmax(1))).take(taken),
        "score": pa.array(seen.p_NK.max(1)).take(taken),
        "problem": pa.array([seen.skipped.get(int(row)) for row in ids], pa.string()),
    }
    _csv(part / "images.csv", columns)


def _csv(path: Path, columns: dict[str, pa.Array]) -> None:
    pyarrow.csv.write_csv(pa.table(columns), str(path), pyarrow.csv.WriteOptions(quoting_style="needed"))
