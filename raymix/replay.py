"""`raymix run --replay`: a run once more, from its folder alone, and what is not the same.

Job, plan, segments and decisions are those of the first run, so a run that its budget ended has the same steps again
however long they take now. What a policy would decide is not asked.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from raymix.books import Clock
from raymix.bucket import shown, visited
from raymix.conduct import train_one
from raymix.data.fingerprint import MARKS_FILE, Fingerprint, changed, read_marks
from raymix.data.splits import facts
from raymix.job import Job
from raymix.jobfile import RESOLVED_FILE, load_spec, part_of_job
from raymix.plan import Decision, Facts, Plan, Replay
from raymix.plan import changed as plan_after
from raymix.report.environment import ENVIRONMENT_FILE, Environment
from raymix.report.folder import read_run
from raymix.report.replay import Replayed, Side, compared
from raymix.report.run import RunReport
from raymix.runfolder import WHERE, RunFolder, first_difference, found_before, storage_of
from raymix.runner import check, opened, readable, rows_of
from raymix.session import open_session
from raymix.spec import JobError, JobSpec
from raymix.starting import check_again

OPTION = "--replay"
_SUFFIX = "-replay"
_LONGEST_NAME = 100


class Original(NamedTuple):
    """The run that is repeated, as its folder tells."""

    path: Path
    spec: JobSpec  # of which its plan is: nothing is on auto
    plan: Plan
    report: RunReport
    environment: Environment
    data: Fingerprint


def replay(
    run: Path,
    overrides: list[str] | tuple[str, ...] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> Replayed:
    """Repeats a finished run into a folder `<name>-replay` and compares; overrides say where, and not what.

    Raises:
        JobError: the run cannot be repeated from its folder, or its data has changed; nothing was started or written.
        RunFailed: training failed for good.
        Interrupted: a signal ended it; a checkpoint was saved.
    """
    clock = Clock()
    run = visited(run, must=True)
    before = original(run)
    spec = _where(before, overrides)
    check_again(run)
    checked = check(spec, allow_import, own=run)
    if (problem := changed(before.data, checked.rows)) is not None:
        raise JobError(
            "data", f"is not what it was when {shown(run)} was trained: {problem}", "repeat it on the same data"
        )
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite)
    splits = checked.splits if before.plan.facts.num_val else checked.splits.without_val()  # a search's trial
    found, ids = found_before(run, checked.rows), rows_of(splits)
    opening = opened(checked, ids, folder.held, start=open_session, verbose=verbose, quiet=quiet, before=found)
    with opening as (session, sink, signals):
        left = readable(splits, session)
        now = facts(checked.rows, left, session.run)
        _check_facts(before.plan.facts, now)
        again = {
            "spec": spec,
            "replay": steps_of(before),
            "roll_backs": tuple(b.step for b in before.report.roll_backs),
        }
        made = folder.stored_plan(now) or before.plan.model_copy(update=again)
        job = Job(folder, checked.rows, left, made, allow_import=allow_import, remember=False, again=run)
        report = train_one(job, session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"checkpoint saved; {OPTION} with --resume goes on", report)
    return compared(_side(run, before.report), _side(folder.path, report))


def original(run: Path) -> Original:
    """What a run's folder holds.

    Raises:
        JobError: it is no finished run, or not all of it is there.
    """
    report = read_run(run)
    if report.status != "done":
        raise JobError(OPTION, f"{shown(run)} is not done, but {report.status}", "end it first, with --resume")
    try:
        stored = JobSpec.model_validate_json((run / RESOLVED_FILE).read_bytes())
        plan = Plan.model_validate_json((run / "plan.json").read_bytes())
        told = _environment(run)
        data = Fingerprint(told.data, read_marks(run / MARKS_FILE))
    except ValidationError as error:
        raise JobError(OPTION, f"{shown(run)}: not of this raymix: {error.title} cannot be read") from None
    except (OSError, ValueError) as error:
        missing = Path(error.filename).name if isinstance(error, FileNotFoundError) else type(error).__name__
        raise JobError(OPTION, f"{shown(run)} cannot be repeated: {missing}", "name a whole run folder") from None
    # as a run is extended, all of it but its plan's beginning is written anew
    kept = {name: getattr(stored, name) for name in (*WHERE, "budget", "goal", "schedule")}
    data_now = plan.spec.data.model_copy(update={"store_size": stored.data.store_size})
    spec = plan.spec.model_copy(update={**kept, "data": data_now})
    return Original(run, spec, plan.model_copy(update={"asked": plan.laid_out_for}), report, told, data)


def steps_of(before: Original) -> Replay:
    """The segments and decisions of a run.

    Raises:
        JobError: two decisions at one step, of which only one can be named again.
    """
    report, plan, decisions = before.report, before.plan, list[Decision]()
    assert report.ended is not None, "a run that is done says why"
    for decision in report.decisions:
        if decisions and decisions[-1].step == decision.step:
            if plan_after(plan_after(plan, decisions[-1]), decision) != plan_after(plan, decision):
                problem = f"{shown(before.path)} was extended at the step at which its budget had ended it"
                raise JobError(OPTION, problem, "such a run cannot be repeated")
            decisions.pop()
        elif decisions:
            plan = plan_after(plan, decisions[-1])
        decisions.append(decision)
    curve = report.curve
    segments = tuple((point.step, point.select_top1 is not None, point.trial) for point in curve)
    return Replay(segments=segments, decisions=tuple(decisions), ended=report.ended)


def _where(before: Original, overrides: list[str] | tuple[str, ...]) -> JobSpec:
    """The job under another name, and where the overrides say.

    Raises:
        JobError: they ask for another training.
    """
    name = before.path.resolve().name[: _LONGEST_NAME - len(_SUFFIX)] + _SUFFIX
    spec = load_spec(before.spec.model_copy(update={"name": name}), overrides)
    if (field := first_difference(_what(before.spec), _what(spec))) is not None:
        hint = "with it go name, storage, cluster, checkpoint, failures, report, data.cache and paths of the data"
        raise JobError(field, "a replay trains what the run did", hint)
    return spec


def _what(spec: JobSpec) -> Any:
    """All of a job that says what is trained."""
    what = part_of_job(json.loads(spec.model_dump_json()), ("name", *WHERE))
    del what["data"]["cache"]
    for source in filter(None, (what["data"][part] for part in ("train", "val", "unlabelled"))):
        source.pop("path", None)
    return what


def _check_facts(before: Facts, now: Facts) -> None:
    if names := before.changed(now):
        raise JobError("data", f"is not what it was: {', '.join(names)} differ", "repeat it on the same data")


def _side(run: Path, report: RunReport) -> Side:
    return Side(folder=shown(run), report=report, environment=_environment(run), tensors=_tensors(run))


def _environment(run: Path) -> Environment:
    return Environment.model_validate_json((run / ENVIRONMENT_FILE).read_bytes())


def _tensors(run: Path) -> str | None:
    """The sha256 of the last checkpoint's tensors; None: there is none that verifies."""
    from raymix.train.checkpoint import TENSORS  # torch, which a driver of Ray has no other use for
    from raymix.train.kept import newest_of

    try:
        path = newest_of(run)
    except JobError:
        return None
    with (path / TENSORS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
