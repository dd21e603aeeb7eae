"""Checkpoints of a run that nobody trains: to be read, from its folder or from the bucket that it lies in."""

from __future__ import annotations

from pathlib import Path

from raymix.bucket import refused, saved_of, shown
from raymix.report.folder import CHECKPOINTS
from raymix.spec import JobError
from raymix.train import checkpoint
from raymix.train.saving import BEST, best_in


def newest_of(run: Path, whose: str | None = None) -> Path:
    """The newest checkpoint that verifies, on this machine's disk.

    `whose`: whose it must be (`checkpoint.run_of`).

    Raises:
        JobError: there is none, or the bucket cannot be read.
    """
    folder, bucket = run / CHECKPOINTS, saved_of(run / CHECKPOINTS)
    if bucket is None:
        name, skipped = checkpoint.newest(folder, whose)
    else:
        try:
            name, skipped = bucket.newest(folder, lambda path: checkpoint.problem(path, whose))
        except OSError as error:
            raise refused(bucket.store.uri, error) from None
    if name is None:
        raise JobError(shown(run), "holds no checkpoint that verifies", "; ".join(skipped))
    return folder / name


def best_of(run: Path, whose: str | None = None) -> Path:
    """The checkpoint that classified the select rows best, on this machine's disk; `whose` as above.

    Raises:
        JobError: the run kept none, it does not verify, or the bucket cannot be read.
    """
    folder, bucket = run / CHECKPOINTS, saved_of(run / CHECKPOINTS)
    if bucket is not None:
        try:
            bucket.fetch_file(folder / BEST)
            if (there := best_in(folder, bucket.names())) is not None:
                with bucket.lent(there[0], folder, keep=True):
                    pass
        except OSError as error:
            raise refused(bucket.store.uri, error) from None
    found = best_in(folder)
    if found is None:
        raise JobError(shown(run), "kept no best checkpoint", "train with checkpoint.best=true, or take the newest")
    if (problem := checkpoint.problem(folder / found[0], whose)) is not None:
        raise JobError(shown(run), f"its best checkpoint {found[0]} does not verify: {problem}", "take the newest")
    return folder / found[0]
