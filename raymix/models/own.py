"""The rows that a run was trained with and judged on, listed anew from its job."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from raymix.data.formats import index_data
from raymix.data.rows import Ids, Rows
from raymix.data.splits import split
from raymix.plan import Plan
from raymix.report.folder import read_run
from raymix.report.run import RunReport
from raymix.spec import JobError
from raymix.starting import kept_of


class Own(NamedTuple):
    """A run's rows, its plan and its report."""

    rows: Rows
    train: Ids
    labelled: Ids
    val: Ids
    plan: Plan
    report: RunReport


def own_rows(run: Path) -> Own:
    """Lists the data of a run's job and cuts it as the run did; no image is read.

    Raises:
        JobError: the folder holds no finished run, or its data is not there any more.
    """
    try:
        plan = Plan.model_validate_json((run / "plan.json").read_text())
    except (OSError, ValueError) as error:
        raise JobError(str(run), f"holds no run: {type(error).__name__}: {error}", "name a run folder") from None
    rows = index_data(plan.spec.data)
    if rows.class_names != plan.facts.class_names:
        raise JobError("data.train", "holds other classes than when the run was trained", "bring its data back")
    parts = split(rows, plan.spec.data, plan.spec.seed, kept_of(plan.spec, rows, run))
    return Own(rows, parts.train, parts.labelled, parts.val, plan, read_run(run))
