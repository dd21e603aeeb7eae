"""Runs of another copy of the same pilot, made elsewhere on the same kind of device: checked, then copied."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raymix.freeze import FROZEN_FILE, Compared, Frozen, finished, keep_frozen, name_of, read_frozen
from raymix.jobfile import RESOLVED_FILE, part_of_job, stored_job
from raymix.plan import Plan
from raymix.runfolder import MAY_CHANGE, first_difference
from raymix.spec import JobError

FIELD = "pilot.merge"
_OF_THE_RUN = {"run"}  # of Facts: how a session keeps images, not what they are


def mergeable(whole: Compared) -> dict[str, Path]:
    """The finished runs of the folders in `pilot.merge` that are asked for and not finished here: name -> folder.

    Raises:
        JobError: nothing is resumed, or a folder is no copy of this pilot: another plan, job, data or device.
    """
    folders = [Path(folder).expanduser() for folder in whole.spec.pilot.merge]
    if not folders:
        return {}
    mine = read_frozen(whole)
    if mine is None:
        raise JobError(FIELD, "there is no pilot here that it could join", "resume one that has begun: --resume")
    found: dict[str, Path] = {}
    for folder in folders:
        _check_copy(whole, mine, folder)
        for arm, seed, length in whole.asked():
            name = name_of(arm, seed, length)
            run = folder / "runs" / name
            if name in found or finished(whole.folder.path / "runs" / name) or not (report := finished(run)):
                continue
            _same("device", report.environment.get("device"), mine.device, run)
            _same("data", _facts(run), whole.checked[seed].plan.facts.model_dump(mode="json", exclude=_OF_THE_RUN), run)
            found[name] = run
    return found


def merge(whole: Compared, runs: Mapping[str, Path]) -> None:
    """Copies runs that `mergeable` found; a run that was begun here and not finished gives way."""
    if (frozen := read_frozen(whole)) is not None and runs:
        merged = tuple(dict.fromkeys((*frozen.merged, *runs)))
        keep_frozen(whole, frozen.model_copy(update={"merged": merged}))
    for name, source in runs.items():
        target = whole.folder.path / "runs" / name
        partial = target.with_name(f".{name}.merging")  # a copy that is cut short is no run
        for folder in (partial, target):
            if folder.exists():
                shutil.rmtree(folder)
        shutil.copytree(source, partial)
        partial.rename(target)


def _check_copy(whole: Compared, mine: Frozen, folder: Path) -> None:
    """Raises JobError where a folder holds another plan or job; what one of the two added later may be missing."""
    if folder.resolve() == whole.folder.path.resolve():
        raise JobError(FIELD, f"{folder} is this pilot itself", "name a copy of it")
    try:
        theirs = Frozen.model_validate_json((folder / FROZEN_FILE).read_bytes())
        here, there = (stored_job(path / RESOLVED_FILE) for path in (whole.folder.path, folder))
    except (OSError, ValueError, ValidationError) as error:
        problem = f"{folder} is no folder of a pilot that has begun ({type(error).__name__})"
        raise JobError(FIELD, problem, "name a copy of this one") from None
    if not mine.device:
        raise JobError(FIELD, f"{FROZEN_FILE} does not say on which device this pilot began", "start anew: --overwrite")
    if (field := first_difference(part_of_job(here, MAY_CHANGE), part_of_job(there, MAY_CHANGE))) is not None:
        raise JobError(FIELD, f"{folder} is of another job: {field} differs", "name a copy of this pilot")
    for name in ("device", "rates", "unit_seconds"):
        _same(f"{FROZEN_FILE}: {name}", getattr(theirs, name), getattr(mine, name), folder)
    for name in ("own_rates", "scale"):
        a, b = getattr(theirs, name), getattr(mine, name)
        for key in a.keys() & b.keys():
            _same(f"{FROZEN_FILE}: {name} of {key}", a[key], b[key], folder)
    for arm in theirs.define.keys() & mine.define.keys():
        _same(f"{FROZEN_FILE}: define of {arm}", theirs.defines(arm), mine.defines(arm), folder)


def _facts(folder: Path) -> dict[str, Any]:
    plan = Plan.model_validate_json((folder / "plan.json").read_bytes())
    return plan.facts.model_dump(mode="json", exclude=_OF_THE_RUN)


def _same(what: str, theirs: object, mine: object, folder: Path) -> None:
    if theirs != mine:
        raise JobError(FIELD, f"{folder} has another {what}", "name a copy of this pilot, run on the same device")
