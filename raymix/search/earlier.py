"""What earlier searches left: the one that is resumed, and others in the same storage that searched the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raymix.jobfile import RESOLVED_FILE, part_of_job, stored_job
from raymix.search.journal import JOURNAL_FILE, Journal
from raymix.search.trial import OPEN, Trial
from raymix.spec import JobError, JobSpec, Tune

_MAY_CHANGE = ("trials", "budget", "concurrent")  # of a search that is resumed
# what may differ between searches of the same: where and how long they search, what they are called
_OTHER = ("spec_version", "name", "storage", "checkpoint", "failures", "pilot", "report", "watch")
_OTHER_CLUSTER = ("address", "object_store", "price_per_worker_hour", "price_file", "node_type")


def same_search(folder: Path, tune: Tune, shown: str) -> None:
    """Checks that a search may go on in a folder, which the user knows as `shown`.

    Raises:
        JobError: the folder holds another search, or none.
    """
    before = _job(folder).get("tune")
    if before is None or not (folder / JOURNAL_FILE).is_file():
        raise JobError("--resume", f"{shown} holds no search", "take another name: --set name=...")
    for name, value in tune.model_dump(mode="json").items():
        if name not in _MAY_CHANGE and before.get(name) != value:
            problem = f"{shown} holds another search: it differs here"
            raise JobError(f"tune.{name}", problem, "resume with the same search, or take another name")


def earlier_trials(storage: Path, spec: JobSpec) -> list[Trial]:
    """The trials of all other searches in a storage that have the same job and space, in order of folder and number.

    Raises:
        JobError: a journal cannot be read.
    """
    mine = _key(json.loads(spec.model_dump_json()))
    found = []
    for other in sorted(journal.parent for journal in storage.glob(f"*/{JOURNAL_FILE}")):
        job = _job(other)
        if other.name == spec.name or job.get("tune") is None or _key(job) != mine:
            continue
        trials = [trial for trial in Journal(other, read_only=True).trials.values() if not trial.source]
        ended = [trial for trial in trials if trial.status not in (*OPEN, "refused")]
        found += [trial.model_copy(update={"source": other.name}) for trial in ended]
    return found


def _job(folder: Path) -> dict[str, Any]:
    try:
        return stored_job(folder / RESOLVED_FILE)
    except (OSError, ValueError):
        return {}


def _key(job: dict[str, Any]) -> dict[str, Any]:
    """All of a job that its trials' accuracy and seconds depend on, and the space."""
    tune = job["tune"]
    key = part_of_job(job, (*_OTHER, "tune"))
    key["cluster"] = {name: value for name, value in job["cluster"].items() if name not in _OTHER_CLUSTER}
    key["data"] = {name: value for name, value in job["data"].items() if name != "store_size"}
    return {**key, "space": tune["space"], "arms": tune["arms"]}
