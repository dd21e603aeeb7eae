"""A run's folder, `<storage>/<name>/`: who may use it, what is written when, and what a resumed run finds there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from raymix import bucket
from raymix.data.rows import Rows
from raymix.jobfile import RESOLVED_FILE, job_text, part_of_job
from raymix.lock import LOCK_FILE, Tell, check_free, held
from raymix.plan import Facts, Plan
from raymix.report.folder import CHECKPOINTS, JOB_FILE, write_text
from raymix.report.ledger import Spent
from raymix.spec import JobError, JobSpec

SKIPPED_FILE = "skipped.tsv"
NEAR_FILE = "near_duplicates.tsv"
# sections that say where a run runs and what is kept, not what is trained; a resumed run may be given more of the last
WHERE = ("spec_version", "cluster", "storage", "checkpoint", "failures", "pilot", "tune", "sweep", "report", "watch")
MAY_CHANGE = (*WHERE, "budget", "goal")
_BEGUN = {
    LOCK_FILE,
    RESOLVED_FILE,
    "plan.json",
    SKIPPED_FILE,
    NEAR_FILE,
}  # what a start that was cut off may have written
_MAY_GROW = ("ssl_epochs", "sl_epochs")  # of a fixed schedule, where a run that is over is extended


class Before(NamedTuple):
    """What an earlier attempt found and decided: a resumed run must go on with it."""

    run: int  # as `Facts` has it
    skipped: dict[int, str]  # row id -> cause


class Attempt(Spent):
    """What one attempt (one command) has cost so far; kept up to date while it runs, so that a kill loses seconds."""

    groups: int  # worker groups that it took


def in_ray_job() -> bool:
    """Whether this process is the entry point of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def storage_of(spec: JobSpec) -> Path:
    """The folder that holds the run folders, absolute; a relative one lies in $RAYMIX_STORAGE where that is set.

    Of object storage it is one of this process that stands for it (`raymix.bucket`).

    Raises:
        JobError: relative, and this is a Ray job, whose working directory vanishes with it.
    """
    base = os.environ.get("RAYMIX_STORAGE")
    if bucket.is_bucket(spec.storage):
        return bucket.storage_root(spec.storage)
    try:
        storage = Path(spec.storage).expanduser()
    except RuntimeError as error:  # ~somebody who is not there
        raise JobError("storage", f"'{spec.storage}': {error}", "name a folder") from None
    if storage.is_absolute():
        return storage
    if base:
        return Path(base).expanduser().absolute() / storage
    if in_ray_job():
        problem = f"'{spec.storage}' is relative, and the working directory of a Ray job vanishes with it"
        raise JobError("storage", problem, "give an absolute path, or set RAYMIX_STORAGE where the cluster is started")
    return storage.absolute()


class RunFolder:
    """One run folder. Nothing but its lock is written before `start`."""

    stored: JobSpec  # what the run that is resumed was asked for
    grown: str | None = None  # the first field of which its job asks for more now

    def __init__(
        self,
        spec: JobSpec,
        path: Path,
        resume: bool = False,
        overwrite: bool = False,
        may_grow: bool = False,
        apart: Collection[str] = (),
    ) -> None:
        """Checks that the folder may be used. `may_grow`: a resumed job may ask for more epochs than it did.

        `apart`: folders in it that other processes keep, of which there is no copy here where it lies in a bucket.

        Raises:
            JobError: it is used, holds another job, or cannot be written; or its bucket cannot be read.
        """
        self.spec, self.path, self.overwrite = spec, path, overwrite
        if resume and overwrite:
            raise JobError("--overwrite", "contradicts --resume", "give one of them")
        _check_writable(path)
        self._mirror = bucket.mirror_for(path, apart)
        if self._mirror is not None:
            self._mirror.fetch()
        check_free(path)
        used = _is_used(path)
        self.resumed = resume and (path / JOB_FILE).is_file()
        if used and not self.resumed and not (overwrite and (path / JOB_FILE).is_file()):
            hint = "add --resume to go on, --overwrite to start anew, or another name: --set name=..."
            if not (path / JOB_FILE).is_file():
                hint = "it is no run folder; take another name: --set name=..."
            raise JobError("name", f"{self.shown} is already used", hint)
        if self.resumed:
            self._check_same_job(may_grow)

    @contextmanager
    def held(self, tell: Tell) -> Iterator[None]:
        """Keeps every other command out of the folder; `tell` hears where that takes seconds.

        Raises:
            JobError: one is in it, or has been in it in the meantime.
            Unsynced: what was written last is not in the bucket.
        """
        with held(self.path, tell) if self._mirror is None else self._mirror.held(tell):
            if not self.resumed and not self.overwrite and _is_used(self.path):
                raise JobError("name", f"{self.shown} has been used a moment ago", "add --resume to go on from there")
            yield

    def start(self, plan: Plan, store_size: int, rows: Rows | None = None, skipped: Mapping[int, str] = {}) -> None:
        """Makes the folder and writes what was asked and what will be done; of `rows`, the `skipped` with their cause.

        A resumed folder stays as it is; where its run is extended, what is asked is written anew. The plan is that of
        the start: what became of it are decisions, which the checkpoints hold.
        `resolved.json` has nothing left on auto that the data decides: a model needs to know how its images were kept.
        """
        if self.overwrite and self.path.exists():
            _clear(self.path)
            if self._mirror is not None:
                self._mirror.clear()
        self.path.mkdir(parents=True, exist_ok=True)
        if rows is not None:
            self._write_skipped(rows, skipped)
        if self.resumed and self.grown is None:
            return
        data = self.spec.data.model_copy(update={"store_size": store_size})
        write_text(self.path / RESOLVED_FILE, self.spec.model_copy(update={"data": data}).model_dump_json(indent=2))
        if not self.resumed:
            write_text(self.path / "plan.json", plan.model_dump_json(indent=2))
        write_text(self.path / JOB_FILE, job_text(self.spec))  # last: it marks a run folder

    def stored_plan(self, facts: Facts) -> Plan | None:
        """The plan of the run that is resumed, under this job, which may ask for more; None where there is none.

        Raises:
            JobError: the data is not what it was.
        """
        file = self.path / "plan.json"
        if not self.resumed or not file.is_file():
            return None
        try:
            plan = Plan.model_validate_json(file.read_bytes())
        except ValidationError:
            raise JobError("--resume", f"{file} is not a plan of this raymix", "start anew: --overwrite") from None
        if changed := plan.facts.changed(facts):
            raise JobError(
                "data", f"is not what it was when {self.shown} began ({changed[0]})", "start anew: another name"
            )
        kept = {name: getattr(self.spec, name) for name in (*MAY_CHANGE, "schedule")}
        spec = plan.spec.model_copy(update=kept)
        return plan.model_copy(update={"spec": spec, "asked": plan.laid_out_for})

    def before(self, rows: Rows) -> Before | None:
        """What the run that is resumed found of its images; None where there is none."""
        return found_before(self.path, rows) if self.resumed else None

    @property
    def shown(self) -> str:
        """How a user knows it."""
        return bucket.shown(self.path)

    def publish(self) -> None:
        """Sees that what was written is where the user asked for it: on object storage, or nowhere else than here.

        Raises:
            OSError: it could not be written there.
        """
        if self._mirror is not None:
            self._mirror.sync()
        else:
            bucket.publish(self.path)

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.path / CHECKPOINTS

    def attempts(self) -> tuple[Attempt, ...]:
        """What earlier attempts have cost."""
        return tuple(Attempt.model_validate_json(file.read_text()) for file in sorted(self.path.glob("attempt-*.json")))

    def write_attempt(self, number: int, attempt: Attempt) -> None:
        """Keeps what an attempt has cost so far."""
        write_text(self.path / f"attempt-{number:03d}.json", attempt.model_dump_json())

    def _write_skipped(self, rows: Rows, skipped: Mapping[int, str]) -> None:
        """A line for each unreadable image: cause and path."""
        if skipped:
            lines = (f"{cause}\t{rows.uris[row]}\n" for row, cause in skipped.items())
            write_text(self.path / SKIPPED_FILE, "cause\tpath\n" + "".join(lines))

    def _check_same_job(self, may_grow: bool) -> None:
        try:
            self.stored = JobSpec.model_validate_json((self.path / RESOLVED_FILE).read_bytes())
        except (OSError, ValueError, ValidationError) as error:
            problem = f"{self.shown}/{RESOLVED_FILE} cannot be read: {type(error).__name__}"
            raise JobError("--resume", problem, "start anew: --overwrite") from None
        # both whole: a field that did not exist when the run began has its default there
        before, now = (json.loads(spec.model_dump_json()) for spec in (self.stored, self.spec))
        if self.spec.data.store_size == "auto":
            before["data"]["store_size"] = "auto"
        before, now = part_of_job(before, MAY_CHANGE), part_of_job(now, MAY_CHANGE)
        if may_grow and self.spec.schedule.policy == self.stored.schedule.policy == "fixed":
            for name in _MAY_GROW:
                if now["schedule"][name] > before["schedule"][name]:
                    before["schedule"][name] = now["schedule"][name]
                    self.grown = self.grown or f"schedule.{name}"
        if (field := first_difference(before, now)) is not None:
            problem = f"{self.shown} holds another job: it differs here"
            raise JobError(field, problem, "resume with the same job, or take another name: --set name=...")


def found_before(path: Path, rows: Rows) -> Before | None:
    """What a run found of its images; None where it came to no plan."""
    plan, skipped = path / "plan.json", path / SKIPPED_FILE
    if not plan.is_file():
        return None
    run = int(json.loads(plan.read_text())["facts"].get("run", 0))
    lines = skipped.read_text().splitlines()[1:] if skipped.is_file() else []
    causes = {uri: cause for cause, _, uri in (line.partition("\t") for line in lines)}
    found = {row: causes[uri] for row, uri in enumerate(rows.uris) if uri in causes} if causes else {}
    return Before(run, found)


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """The dotted path of the first field in which two jobs differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys((*a, *b)):
            found = first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return None
    return None if a == b else path


def _is_used(path: Path) -> bool:
    """Whether there is more than what a start leaves that was cut off before it had written the job."""
    if not path.is_dir():
        return path.exists()
    return any(found.name not in _BEGUN and not found.name.endswith(".tmp") for found in path.iterdir())


def _clear(path: Path) -> None:
    """Empties a run folder but for its lock. The job goes last: without it, what is left would be no run folder."""
    for found in sorted(path.iterdir(), key=lambda found: found.name == JOB_FILE):
        if found.name == LOCK_FILE:
            continue
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found)
        else:
            found.unlink()


def _check_writable(path: Path) -> None:
    """The nearest folder that exists can be written."""
    here = path
    try:
        while not here.exists():
            here = here.parent
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise JobError("storage", f"{path}: {error.strerror}", "name a folder of your own") from None
    if not here.is_dir():
        raise JobError("name" if here == path else "storage", f"{here} is a file", "name a folder")
    if not os.access(here, os.W_OK | os.X_OK):
        raise JobError("storage", f"{here} cannot be written", "name a folder of your own")
