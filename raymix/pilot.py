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

from pydantic import Field

from raymix.arms import arm_spec, arms_of, epochs_of, fit_to, flops_of, scaled, seconds_of
from raymix.books import Clock
from raymix.conduct import Job, environment, note_on, train_one
from raymix.data.splits import facts
from raymix.plan import Facts, Kind, Plan, resolve
from raymix.recommend import RECOMMENDED_FILE, advice, recommended
from raymix.report.compare import verdict
from raymix.report.facts import foretold_line
from raymix.report.folder import PILOT_FILE, RUN_FILE, read_pilot, read_run, write_text
from raymix.report.history import Rates
from raymix.report.intervals import detectable
from raymix.report.known import Key
from raymix.report.pilot import PilotReport, PilotRun
from raymix.report.reckon import priced_anew, searches_of, with_roi, write_pilot
from raymix.report.run import RunReport, Status, unit_on
from raymix.runfolder import RunFolder, storage_of
from raymix.runner import Checked, check, opened, readable, rows_of
from raymix.session import Session
from raymix.spec import ARMS, Defined, JobError, JobSpec, Section
from raymix.train.task import Task
from raymix.watch import Sink

_FROZEN = "frozen.json"


class Frozen(Section):
    """What a pilot decides before its first run, and keeps when it is resumed."""

    rates: Rates
    own_rates: dict[str, Rates] = Field({})  # of the defined arms whose steps are others
    define: dict[str, Defined] = Field({})  # as it was when the pilot began
    unit_seconds: float  # T
    scale: dict[str, float]  # "<arm> <length>" -> factor on that arm's epochs

    def factor(self, arm: str, length: float) -> float:
        """On an arm's epochs, at a length."""
        return self.scale[_place(arm, length)]

    def rates_of(self, arm: str) -> Rates:
        """What the steps of an arm take."""
        return self.own_rates.get(arm, self.rates)


def _place(arm: str, length: float) -> str:
    return f"{arm} {length:.4f}"


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
    for name, arm in arms.items():  # an arm that the data or the backbone cannot carry is found before anything starts
        if name not in ARMS:
            check(arm, allow_import, first.rows)
        else:
            resolve(arm, first.plan.facts)
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
        sink.note(f"pilot: {foretold_line(len(seeds), first.plan.facts.num_val)}")
        report = _compare(whole, session, sink, clock)
    if report.status == "interrupted":
        raise signals.interrupted(f"finished runs are kept; --resume goes on from {folder.path}", report)
    return report


# ---- one comparison -------------------------------------------------------------------------------------------------


def _compare(whole: _Pilot, session: Session, sink: Sink, clock: Clock) -> PilotReport:
    first = whole.checked[whole.spec.seed]
    known = facts(first.rows, readable(first.splits, session), session.run)
    frozen = _frozen(whole, known, session, sink)
    done: dict[str, list[PilotRun]] = {arm: [] for arm in whole.arms}
    status: Status = "done"
    for arm, seed, length, asked in _runs(whole, frozen):
        rates = frozen.rates_of(arm)
        checked = whole.checked[seed]
        splits = readable(checked.splits, session)
        plan = resolve(asked, facts(checked.rows, splits, session.run))
        path = whole.folder.path / "runs" / asked.name
        report = _finished(path)
        if report is None:
            own = RunFolder(asked, path, resume=True)
            job = Job(own, checked.rows, splits, plan, rates, whole.allow_import, alone=False)
            report = train_one(job, session, sink, Clock())
        if report.status != "done":
            status = report.status
            break
        done[arm].append(_pilot_run(report, plan, length, rates, path.relative_to(whole.folder.path)))
    result = _report(whole, frozen, known, session, done, status, clock)
    labels = {"train": known.num_labelled, "select": known.num_select, "val": known.num_val}
    result = write_pilot(whole.folder.path, with_roi(result, whole.spec.report, labels))
    if status == "done":
        _recommend(whole, frozen, result, sink)
    return result


def _recommend(whole: _Pilot, frozen: Frozen, report: PilotReport, sink: Sink) -> None:
    """Writes the job that the pilot advises for all the data."""
    if (given := advice(report)) is None:
        return
    path, first = whole.folder.path / RECOMMENDED_FILE, whole.checked[whole.spec.seed]
    arm = scaled(whole.arms[given.arm], frozen.factor(given.arm, 1.0))
    write_text(path, recommended(report, given, arm, first.rows, frozen.rates_of(given.arm), path, whole.allow_import))
    sink.note(f"advised: {given.arm}, as a job for all the data: {path}")


def _runs(whole: _Pilot, frozen: Frozen) -> Iterator[tuple[str, int, float, JobSpec]]:
    """All runs of a seed before the next seed, so that a pilot that is cut short still has paired ones."""
    for seed in whole.checked:
        for length in sorted(whole.lengths, key=lambda length: length != 1.0):  # the primary comparison first
            for arm, spec in whole.arms.items():
                name = f"{arm}-seed{seed}-T{length:.2f}"
                asked = scaled(spec, frozen.factor(arm, length))
                yield arm, seed, length, asked.model_copy(update={"name": name, "seed": seed})


def _frozen(whole: _Pilot, known: Facts, session: Session, sink: Sink) -> Frozen:
    """Measured step times and what follows from them; of a resumed pilot, what it froze when it began."""
    file = whole.folder.path / _FROZEN
    if whole.folder.resumed and file.is_file():
        return _resumed(whole, Frozen.model_validate_json(file.read_text()))
    plans = {arm: resolve(spec, known) for arm, spec in whole.arms.items()}
    rival = resolve(arm_spec(whole.spec, "ssl_sl"), known)
    sink.stage("measuring step times")
    rates, own = _measure(whole, plans, rival, session, sink)
    unit = seconds_of(rival, rates)
    scale = {
        _place(arm, length): fit_to(spec, known, own.get(arm, rates), length * unit)
        for arm, spec in whole.arms.items()
        for length in whole.lengths
    }
    define = whole.spec.pilot.define
    frozen = Frozen(rates=rates, own_rates=own, define=define, unit_seconds=unit, scale=scale)
    whole.folder.start(whole.checked[whole.spec.seed].plan, session.frame.size)
    write_text(file, frozen.model_dump_json(indent=1))
    return frozen


def _resumed(whole: _Pilot, frozen: Frozen) -> Frozen:
    """What the pilot froze when it began.

    Raises:
        JobError: it began with other arms.
    """
    hint = "resume with the arms that it had, or start anew: --overwrite"
    for arm in whole.arms:
        if frozen.define.get(arm) != whole.spec.pilot.define.get(arm):
            raise JobError(f"pilot.define.{arm}", "is not what it was when the pilot began", hint)
        if any(_place(arm, length) not in frozen.scale for length in whole.lengths):
            raise JobError("pilot", f"{arm} was not among the arms and lengths when it began", hint)
    return frozen


def _measure(
    whole: _Pilot, plans: dict[str, Plan], rival: Plan, session: Session, sink: Sink
) -> tuple[Rates, dict[str, Rates]]:
    """Step times of the arms that have the job's steps, in turns; then those of arms with steps of their own."""
    first = whole.checked[whole.spec.seed]
    groups: list[tuple[Key, Plan, list[str]]] = [(Key.of(first.plan), first.plan, [])]
    for arm, plan in plans.items():
        key = Key.of(plan)
        if (group := next((group for group in groups if group[0] == key), None)) is None:
            groups.append(group := (key, plan, []))
        group[2].append(arm)
    splits, measured = readable(first.splits, session), list[Rates]()
    for _, plan, arms in groups:
        own = [plans[arm] for arm in arms] + ([] if measured else [rival])
        kinds: dict[Kind, None] = dict.fromkeys(kind for one in own for kind in one.kinds)
        task = Task("measure", plan, splits, measure=tuple(kinds), allow_import=whole.allow_import)
        measured.append(session.execute(task, sink).history.rates)
    shared, *others = measured
    return shared, {arm: rates for (_, _, arms), rates in zip(groups[1:], others, strict=True) for arm in arms}


def _finished(path: Path) -> RunReport | None:
    """The report of a run that an earlier attempt finished."""
    report = read_run(path) if (path / RUN_FILE).is_file() else None
    return report if report is not None and report.status == "done" else None


def _pilot_run(report: RunReport, plan: Plan, length: float, rates: Rates, path: Path) -> PilotRun:
    assert report.final is not None
    return PilotRun(
        seed=report.seed,
        length=length,
        top1=report.final.top1,
        correct=report.final.correct,
        worker_seconds=report.totals.trained_seconds * report.workers,
        billed_worker_seconds=report.totals.worker_seconds,
        cost=report.totals.cost,
        planned_seconds=seconds_of(plan, rates),
        step_seconds=report.totals.step_seconds,
        ssl_epochs=epochs_of(plan.spec).ssl_epochs,
        sl_epochs=epochs_of(plan.spec).sl_epochs,
        steps=sum(phase.steps for phase in report.phases),
        images=sum(phase.images for phase in report.phases),
        labelled=sum(phase.labelled for phase in report.phases),
        flops=flops_of(plan, rates),
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
        num_labelled=known.num_labelled,
        arms=arms,
        verdict=verdict(arms, known.num_val, preset, unit_on(session.device)),
        tried=1,
        detectable=detectable(known.num_val, len(whole.checked)),
        step_seconds=dict(frozen.rates.step_seconds),
        wall_seconds=whole.earlier_seconds + clock.seconds,
        own_step_seconds={arm: dict(rates.step_seconds) for arm, rates in frozen.own_rates.items()},
        defined={arm: of.words for arm, of in frozen.define.items() if arm in arms},
        environment=environment(session),
        note=note_on(whole.spec),
    )
