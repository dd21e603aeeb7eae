"""The pilot: the arms of one comparison, by the rules of DESIGN section 3, in one session.

Step times are measured once, alone; T, the step-seconds of `ssl_sl` at the asked epochs, is resolved to epochs once for
each arm and length; then the plans are frozen and every seed runs them. Arms share rows, splits, seeds, augmentation,
workers and decoded images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymix.books import Clock
from raymix.conduct import Job, environment, note_on, train_one
from raymix.data.splits import facts
from raymix.plan import Facts, Kind, Plan, resolve
from raymix.report.compare import verdict
from raymix.report.folder import PILOT_FILE, RUN_FILE, read_pilot, read_run, write_text
from raymix.report.history import Rates
from raymix.report.intervals import detectable
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.reckon import priced_anew, searches_of, with_roi, write_pilot
from raymix.report.run import RunReport, Status
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import Checked, check, opened, readable, rows_of
from raymix.session import Session
from raymix.spec import FixedSchedule, JobError, JobSpec, Mae, Section
from raymix.train.task import Task
from raymix.watch import Sink

_FROZEN = "frozen.json"


class Frozen(Section):
    """What a pilot decides before its first run, and keeps when it is resumed."""

    rates: Rates
    unit_seconds: float  # T
    scale: dict[str, float]  # "<arm> <length>" -> factor on that arm's epochs


@dataclass(frozen=True, eq=False)
class _Pilot:
    """What stays the same over the runs of a pilot."""

    spec: JobSpec
    folder: RunFolder
    checked: dict[int, Checked]  # by seed
    arms: dict[str, JobSpec]
    lengths: tuple[float, ...]
    allow_import: tuple[str, ...]
    earlier_seconds: float  # wall time of the attempts before this one


def pilot(
    spec: JobSpec,
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: tuple[str, ...] = (),
) -> PilotReport:
    """Compares the job's arms at equal step-seconds; the folder holds report and runs when this returns.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: a run failed for good; those before it are kept, and `resume` goes on after them.
        Interrupted: a signal ended it; `resume` goes on.
    """
    clock = Clock()
    searches_of(spec.report)  # one that is not there is found before anything starts
    quick = spec.pilot.preset == "quick"
    seeds = range(spec.seed, spec.seed + (1 if quick else spec.pilot.seeds))
    checked = {seed: check(spec.model_copy(update={"seed": seed}), allow_import) for seed in seeds}
    first = checked[spec.seed]
    arms = {arm: arm_spec(spec, arm) for arm in arms_of(spec, first.drops)}
    for arm in arms.values():
        resolve(arm, first.plan.facts)  # an arm that the data cannot carry is found before anything starts
    if spec.optim.batch == "auto":
        problem = "auto would be another batch on another machine, and a pilot goes on where it was begun"
        raise JobError("optim.batch", problem, "name a batch, as in optim.batch=256")
    if not first.plan.facts.num_val:
        raise JobError("data.holdout", "leaves no val rows to compare on", "raise it, or give a data.val")
    folder = RunFolder(spec, storage_of(spec) / spec.name, resume, overwrite)
    before = read_pilot(folder.path) if folder.resumed and (folder.path / PILOT_FILE).is_file() else None
    if before is not None and before.status == "done":
        return write_pilot(folder.path, priced_anew(before, spec))
    earlier = before.wall_seconds if before else 0.0
    whole = _Pilot(spec, folder, checked, arms, (1.0,) if quick else spec.pilot.lengths, allow_import, earlier)
    ids = rows_of(*(one.splits for one in checked.values()))
    num_runs = len(seeds) * len(arms) * len(whole.lengths)
    with opened(first, ids, verbose=verbose, quiet=quiet, num_runs=num_runs) as (session, sink, signals):
        report = _compare(whole, session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"finished runs are kept; --resume goes on from {folder.path}", report)
    return report


def arms_of(spec: JobSpec, drops: bool = True) -> tuple[str, ...]:
    """The arms that a job compares: those it names, without `ssl_sl_drop` where no patches are left out."""
    masks = isinstance(spec.objective, Mae) and drops
    return tuple(arm for arm in spec.pilot.arms if masks or arm != "ssl_sl_drop")


def arm_spec(spec: JobSpec, arm: str) -> JobSpec:
    """The job of one arm: rows, seeds, augmentation and backbone are the job's own, the schedule is the arm's."""
    schedule, optim = _epochs(spec), spec.optim
    conventional = {"mix_ratio": 0.0, "sl_drop": 0.0}
    if arm == "mix":
        return spec
    if arm == "sl":
        schedule = schedule.model_copy(update={**conventional, "ssl_epochs": 0.0})
    elif arm == "ssl_sl_drop":
        mix = schedule.mix_ratio * min(schedule.ssl_epochs, schedule.sl_epochs)
        dropped = mix / schedule.sl_epochs if schedule.sl_epochs else 0.0
        schedule = schedule.model_copy(update={**conventional, "sl_drop": dropped})
    else:
        schedule = schedule.model_copy(update=conventional)
    restart = "never" if arm == "ssl_sl_one" else "phase"
    return spec.model_copy(update={"schedule": schedule, "optim": optim.model_copy(update={"restart": restart})})


def _epochs(spec: JobSpec) -> FixedSchedule:
    """The schedule of a job that is compared: epochs, which every arm scales to its length.

    Raises:
        JobError: it has another policy, a budget or a goal.
    """
    if not isinstance(spec.schedule, FixedSchedule):
        problem = f"{spec.schedule.policy} plans by itself, and a pilot gives every arm the same seconds"
        raise JobError("schedule.policy", problem, "compare with policy: fixed")
    for name in ("budget", "goal"):
        if getattr(spec, name) is not None:
            raise JobError(name, "would end runs that are compared at equal seconds", "leave it out of a pilot")
    return spec.schedule


def seconds_of(plan: Plan, rates: Rates) -> float:
    """Step-seconds of a plan at measured rates."""
    return sum(rates.step_seconds[kind] * steps for phase in plan.phases for kind, steps in phase.turns)


def scaled(spec: JobSpec, factor: float) -> JobSpec:
    """The same schedule, `factor` times as long."""
    schedule = _epochs(spec)
    update = {"ssl_epochs": schedule.ssl_epochs * factor, "sl_epochs": schedule.sl_epochs * factor}
    return spec.model_copy(update={"schedule": schedule.model_copy(update=update)})


def fit_to(spec: JobSpec, facts: Facts, rates: Rates, seconds: float) -> float:
    """The factor on a job's epochs at which its plan takes so many step-seconds, to within a step of each phase."""
    factor = 1.0
    for _ in range(4):  # rounding epochs to steps leaves a little to correct
        factor *= seconds / seconds_of(resolve(scaled(spec, factor), facts), rates)
    return factor


# ---- one comparison -------------------------------------------------------------------------------------------------


def _compare(whole: _Pilot, session: Session, sink: Sink, clock: Clock) -> PilotReport:
    first = whole.checked[whole.spec.seed]
    known = facts(first.rows, readable(first.splits, session), session.run)
    frozen = _frozen(whole, known, session, sink)
    done: dict[str, list[PilotRun]] = {arm: [] for arm in whole.arms}
    status: Status = "done"
    for arm, seed, length, asked in _runs(whole, frozen):
        checked = whole.checked[seed]
        splits = readable(checked.splits, session)
        plan = resolve(asked, facts(checked.rows, splits, session.run))
        path = whole.folder.path / "runs" / asked.name
        report = _finished(path)
        if report is None:
            own = RunFolder(asked, path, resume=True)
            job = Job(own, checked.rows, splits, plan, frozen.rates, whole.allow_import, alone=False)
            report = train_one(job, session, sink, Clock())
        if report.status != "done":
            status = report.status
            break
        planned = seconds_of(plan, frozen.rates)
        done[arm].append(_pilot_run(report, asked, length, planned, path.relative_to(whole.folder.path)))
    result = _report(whole, frozen, known, session, done, status, clock)
    labels = {"train": known.num_labelled, "select": known.num_select, "val": known.num_val}
    return write_pilot(whole.folder.path, with_roi(result, whole.spec.report, labels))


def _runs(whole: _Pilot, frozen: Frozen) -> Iterator[tuple[str, int, float, JobSpec]]:
    """All runs of a seed before the next seed, so that a pilot that is cut short still has paired ones."""
    for seed in whole.checked:
        for length in sorted(whole.lengths, key=lambda length: length != 1.0):  # the primary comparison first
            for arm, spec in whole.arms.items():
                name = f"{arm}-seed{seed}-T{length:.2f}"
                asked = scaled(spec, frozen.scale[f"{arm} {length:.4f}"])
                yield arm, seed, length, asked.model_copy(update={"name": name, "seed": seed})


def _frozen(whole: _Pilot, known: Facts, session: Session, sink: Sink) -> Frozen:
    """Measured step times and what follows from them; of a resumed pilot, what it froze when it began."""
    file = whole.folder.path / _FROZEN
    if whole.folder.resumed and file.is_file():
        return Frozen.model_validate_json(file.read_text())
    plans = {arm: resolve(spec, known) for arm, spec in whole.arms.items()}
    rival = resolve(arm_spec(whole.spec, "ssl_sl"), known)
    sink.stage("measuring step times")
    rates = _measure(whole, (*plans.values(), rival), session, sink)
    unit = seconds_of(rival, rates)
    scale = {
        f"{arm} {length:.4f}": fit_to(spec, known, rates, length * unit)
        for arm, spec in whole.arms.items()
        for length in whole.lengths
    }
    frozen = Frozen(rates=rates, unit_seconds=unit, scale=scale)
    whole.folder.start(whole.checked[whole.spec.seed].plan, session.frame.size)
    write_text(file, frozen.model_dump_json(indent=1))
    return frozen


def _measure(whole: _Pilot, plans: tuple[Plan, ...], session: Session, sink: Sink) -> Rates:
    kinds: dict[Kind, None] = dict.fromkeys(kind for plan in plans for kind in plan.kinds)
    first = whole.checked[whole.spec.seed]
    splits = readable(first.splits, session)
    task = Task("measure", first.plan, splits, measure=tuple(kinds), allow_import=whole.allow_import)
    return session.execute(task, sink).history.rates


def _finished(path: Path) -> RunReport | None:
    """The report of a run that an earlier attempt finished."""
    report = read_run(path) if (path / RUN_FILE).is_file() else None
    return report if report is not None and report.status == "done" else None


def _pilot_run(report: RunReport, asked: JobSpec, length: float, planned: float, path: Path) -> PilotRun:
    assert report.final is not None
    trained = report.totals.step_seconds + report.totals.data_seconds
    return PilotRun(
        seed=report.seed,
        length=length,
        top1=report.final.top1,
        correct=report.final.correct,
        worker_seconds=trained * report.workers,
        billed_worker_seconds=report.totals.worker_seconds,
        cost=report.totals.cost,
        planned_seconds=planned,
        step_seconds=report.totals.step_seconds,
        ssl_epochs=_epochs(asked).ssl_epochs,
        sl_epochs=_epochs(asked).sl_epochs,
        steps=sum(phase.steps for phase in report.phases),
        images=sum(phase.images for phase in report.phases),
        labelled=sum(phase.labelled for phase in report.phases),
        report=str(path / RUN_FILE),
    )


def _report(
    whole: _Pilot,
    frozen: Frozen,
    known: Facts,
    session: Session,
    done: dict[str, list[PilotRun]],
    status: Status,
    clock: Clock,
) -> PilotReport:
    cluster, preset = whole.spec.cluster, whole.spec.pilot.preset
    arms: dict[str, Any] = {arm: tuple(runs) for arm, runs in done.items()}
    unit = "GPU-seconds" if session.device == "cuda" else "worker-seconds"
    rival = [run.top1 for run in arms.get("ssl_sl", ())]
    return PilotReport(
        name=whole.spec.name,
        status=status,
        preset=preset,
        device=session.device,
        workers=cluster.num_replicas,
        price_per_worker_hour=cluster.price_per_worker_hour,
        unit_seconds=frozen.unit_seconds,
        lengths=whole.lengths,
        seeds=tuple(whole.checked),
        num_val=known.num_val,
        arms=arms,
        verdict=verdict(arms, known.num_val, preset, unit),
        tried=1,
        detectable=detectable(known.num_val, len(whole.checked), *([sum(rival) / len(rival)] if rival else [])),
        step_seconds=dict(frozen.rates.step_seconds),
        wall_seconds=whole.earlier_seconds + clock.seconds,
        environment=environment(session),
        note=note_on(whole.spec),
    )
