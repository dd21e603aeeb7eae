"""What a run takes over from earlier ones: found and told before its first step, kept in its folder from then on."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import numpy as np

from raymix import bucket
from raymix.data.kept import FIELD as KEEP_SPLITS
from raymix.data.kept import SPLITS_FILE, Found, Kept, Parts, check_kept, find, read_splits, write_splits
from raymix.data.rows import Ids, Rows
from raymix.data.splits import Splits
from raymix.lock import Tell
from raymix.report.folder import SEARCH_FILE, write_text
from raymix.report.start import START_FILE, KeptReport, Shares, Start, WeightsReport, read_start, shares_of
from raymix.report.start_words import start_lines
from raymix.spec import JobError, JobSpec


def kept_of(spec: JobSpec, rows: Rows, own: Path | None = None) -> Kept | None:
    """The splits that a job keeps; None: it makes its own.

    `own`: the folder of a run of that job that has begun: what is kept there counts, whatever the earlier one is now.

    Raises:
        JobError: there are none, or they are not of these rows.
    """
    source = spec.data.keep_splits
    if source is None:
        return None
    if own is not None and (own / SPLITS_FILE).is_file():
        return read_splits(own, str(own))
    kept = read_splits(_local(bucket.visited(source, field=KEEP_SPLITS)), source)
    check_kept(kept, rows)
    return kept


def weights_of(
    spec: JobSpec, class_names: tuple[str, ...], allow_import: tuple[str, ...], own: Path | None = None
) -> WeightsReport | None:
    """What a job's backbone begins with; None: at random.

    Raises:
        JobError: it is not there, or does not fit.
    """
    if spec.backbone.weights is None:
        return None
    if own is not None and (begun := read_start(own)) is not None:
        return begun.weights
    from raymix.train.begin import found  # torch, which other jobs' drivers have no use for

    return found(spec, class_names, allow_import)


def begin(
    folder: Path,
    spec: JobSpec,
    rows: Rows,
    splits: Splits,
    allow_import: tuple[str, ...],
    again: Path | None,
    tell: Tell,
) -> Start:
    """What a run takes over, told and written beside its own splits; of one that goes on, what is there.

    `again`: the folder of a run that is repeated, which says what it took over.

    Raises:
        JobError: it is not there any more.
        OSError: the folder cannot be written.
    """
    has_splits, begun = (folder / SPLITS_FILE).is_file(), read_start(folder)
    if has_splits and begun is not None:
        return begun
    kept = kept_of(spec, rows, again)
    found = None if kept is None else find(kept, rows)
    if not has_splits:
        apart = np.flatnonzero(found.apart) if found is not None else np.empty(0, dtype=np.int64)
        apart = np.setdiff1d(apart, np.concatenate([splits.select, splits.val]))
        write_splits(folder, rows, Parts(splits.train, splits.select, splits.val), splits.labels, apart)
    start = begun or (read_start(again) if again is not None else None)
    if start is None:
        report = None if kept is None or found is None else _report(kept, found, rows, splits)
        start = Start(weights=weights_of(spec, rows.class_names, allow_import), kept=report)
    for line in start_lines(start):
        tell(line)
    if start != Start():
        write_text(folder / START_FILE, start.model_dump_json(indent=1))
    return start


def check_again(run: Path) -> None:
    """Raises JobError where what a run that is to be repeated began with is not what it was."""
    start = read_start(run)
    if start is not None and start.weights is not None:
        from raymix.train.begin import check_there

        check_there(start.weights)


def check_apart(spec: JobSpec, folder: Path) -> None:
    """Raises JobError where a run would begin with what lies in its own folder, which it is about to use."""
    for field, source in spec.taken_over.items():
        if bucket.is_bucket(source):
            own, path = PurePath(bucket.shown(folder)), PurePath(source)
        else:
            own, path = folder, _local(source)
        if path == own or own in path.parents:
            raise JobError(field, f"{source} is in the folder of this run itself", "take another name: --set name=...")


def with_searches(spec: JobSpec) -> JobSpec:
    """The job with its `report.searches` as folders of this machine; those in a bucket are fetched.

    Raises:
        JobError: a bucket cannot be read, or has no search there.
    """
    field = "report.searches"
    fetched = (bucket.visited(one, (SEARCH_FILE,), must=True, field=field) for one in spec.report.searches)
    searches = tuple(map(str, fetched))
    return spec.model_copy(update={"report": spec.report.model_copy(update={"searches": searches})})


def _local(source: str | Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(source)))


def _report(kept: Kept, found: Found, rows: Rows, splits: Splits) -> KeptReport:
    left_out = rows.is_val & ~found.known
    same = {name: label for label, name in enumerate(kept.class_names)}
    as_then = np.array([*(same.get(name, -2) for name in rows.class_names), -1])[rows.labels]
    relabelled = (found.label >= 0) & (rows.labels >= 0) & (as_then != found.label)
    return KeptReport(
        run=kept.run,
        select=len(splits.select),
        select_gone=found.select_gone,
        val=len(splits.val),
        val_gone=found.val_gone,
        new=int(np.count_nonzero(~found.known[splits.train])),
        left_out=int(np.count_nonzero(left_out)),
        relabelled=int(np.count_nonzero(relabelled)),
        shares=shares(kept, rows, splits.train[~found.known[splits.train]], splits.labels),
    )


def shares(kept: Kept, rows: Rows, new: Ids, labels: Ids) -> Shares:
    """Classes of all labelled rows that a run had, and of the new ones among some rows with these labels."""
    names = list(dict.fromkeys((*kept.class_names, *rows.class_names)))
    number = {name: label for label, name in enumerate(names)}
    place = np.array([number[name] for name in rows.class_names])
    before = np.bincount(kept.labels[kept.labels >= 0], minlength=len(names))
    now = np.bincount(place[labels[new][labels[new] >= 0]], minlength=len(names))
    return shares_of(names, before.tolist(), now.tolist())
