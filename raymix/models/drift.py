"""`raymix data drift`: whether new images are like those that a run was trained and judged on."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.formats import index_data
from raymix.data.kept import Kept, are_same, find, read_splits
from raymix.data.rows import Ids, Rows
from raymix.datacmd.work import console, told
from raymix.models.flow import Asked, answers, listed, loaded
from raymix.models.work import num_rows
from raymix.report.drift import DriftReport, Told, auc_interval
from raymix.spec import Drift, JobError
from raymix.starting import shares
from raymix.train.model import Trained
from raymix.watch.console import ConsoleSink

_LEAST_HELD_OUT = 100  # val and select rows from which on they alone stand for the earlier ones
_LEAST = 20  # rows of a sample
_ITERATIONS = 300
_SEED = 0

Vectors = NDArray[np.float32]


class _Sides(NamedTuple):
    """Earlier and new rows, each of an index of its own."""

    earlier: Rows
    apart: Ids  # val and select rows of the run
    known: Ids  # all that it had
    new: Rows
    new_ids: Ids


def drift(asked: Asked, spec: Drift) -> DriftReport:
    """Compares the rows of SOURCE that a run did not have with those that it had, by class and by its embeddings.

    Raises:
        JobError: the run or SOURCE is wrong, or holds too few rows.
        Interrupted: on Ctrl-C.
    """
    kept = read_splits(asked.run, str(asked.run), "RUN")
    trained = loaded(asked, spec)
    sides = _sides(kept, trained, spec)
    held_out = len(sides.apart) >= _LEAST_HELD_OUT
    pool = sides.apart if held_out else sides.known
    num = min(spec.rows, len(sides.new_ids), len(pool) // 2)
    if num < _LEAST:
        problem = f"{len(pool):,} earlier and {len(sides.new_ids):,} new rows are too few to compare"
        raise JobError("SOURCE", problem, f"at least {_LEAST} new and {2 * _LEAST} earlier ones are needed")
    started, rng, skipped = time.perf_counter(), np.random.default_rng(_SEED), Counter[str]()
    with console(asked.how, "nothing is kept") as sink:
        samples = (
            (sides.earlier, rng.permutation(pool)[: 2 * num], "reading earlier images"),
            (sides.new, rng.permutation(sides.new_ids)[:num], "reading new images"),
        )
        before, now = (_embedded(trained, *sample, spec, sink, asked.how.verbose, skipped) for sample in samples)
        sink.stage("fitting classifiers")
        embeddings = _told(before, now, spec.folds, held_out)
    labelled = sides.new.labels[sides.new_ids] >= 0
    return DriftReport(
        run=str(asked.run),
        earlier=len(sides.known),
        new=len(sides.new_ids),
        skipped=dict(skipped),
        shares=shares(kept, sides.new, sides.new_ids, sides.new.labels) if labelled.any() else None,
        embeddings=embeddings,
        seconds=time.perf_counter() - started,
    )


def _sides(kept: Kept, trained: Trained, spec: Drift) -> _Sides:
    """The run's rows where its job says they are, or else in SOURCE; and those of SOURCE that it did not have.

    Raises:
        JobError: SOURCE is wrong, or the run's images are nowhere.
    """
    rows, ids = listed(spec.source, spec.part)
    here, same = find(kept, rows), are_same(kept, rows)
    new = ids[~here.known[ids]] if same else ids  # the same names may stand for other images
    try:
        earlier = index_data(trained.spec.data)
        found = find(kept, earlier) if are_same(kept, earlier) else None
    except JobError:
        found = None
    if found is None:
        if not same:
            raise JobError("RUN", f"the images of {kept.run} are not where they were", "name a SOURCE that has them")
        earlier, found = rows, here
    apart = np.concatenate([found.parts.select, found.parts.val])
    return _Sides(earlier, apart, np.flatnonzero(found.known), rows, new)


def _embedded(
    trained: Trained,
    rows: Rows,
    ids: Ids,
    text: str,
    spec: Drift,
    sink: ConsoleSink,
    verbose: bool,
    skipped: Counter[str],
) -> Vectors:
    """The embeddings (N, D) of those that can be read, in the order of `ids`; the others are counted."""
    with (
        answers(trained, "features", rows, ids, spec, verbose) as found,
        closing(told(found, sink, text, len(ids), num_rows)) as heard,
    ):
        parts = []
        for answered in heard:
            parts.append(answered.values)
            skipped.update(answered.skipped.values())
    return np.concatenate(parts)


def _told(before: Vectors, now: Vectors, folds: int, held_out: bool) -> Told:
    """New against earlier, and earlier against earlier, with as many rows in each sample."""
    num = min(len(now), len(before) // 2)
    if num < _LEAST:
        raise JobError("SOURCE", f"{num} images of a side can be read, too few to compare", f"{_LEAST} are needed")
    first, second = before[:num], before[num : 2 * num]
    new, null = (_auc(first, other, folds) for other in (now[:num], second))
    return Told(auc=auc_interval(new, num), null=auc_interval(null, num), rows=num, held_out=held_out)


def _auc(first: Vectors, second: Vectors, folds: int) -> float:
    """Cross-validated, the mean over folds: scores of several classifiers are on no common scale."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    cut = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
    side = np.repeat([0, 1], [len(first), len(second)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the direction is found long before the last digit
        scores = cross_val_score(model, np.concatenate([first, second]), side, cv=cut, scoring="roc_auc")
    return float(scores.mean())
