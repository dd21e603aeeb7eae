"""What a pilot decides once, before its first run: step times, T, and each arm's epochs at each length.

Step times are measured alone; T, the step-seconds of `ssl_sl` at the asked epochs, is resolved to epochs once for each
arm and length. A resumed pilot keeps what it decided when it began; seeds, lengths and arms may be added to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from raymix.arms import arm_spec, fit_to, seconds_of
from raymix.plan import Facts, Kind, Plan, resolve
from raymix.report import words
from raymix.report.folder import RUN_FILE, read_run, write_text
from raymix.report.history import Rates
from raymix.report.known import Key
from raymix.report.requests import Request
from raymix.report.run import RunReport
from raymix.runfolder import RunFolder
from raymix.runner import Checked, readable
from raymix.session import Session
from raymix.spec import Defined, JobError, JobSpec, Section
from raymix.train.task import Task
from raymix.watch import Sink

FROZEN_FILE = "frozen.json"


@dataclass(frozen=True, eq=False)
class Compared:
    """What stays the same over the runs of a pilot."""

    spec: JobSpec
    folder: RunFolder
    checked: dict[int, Checked]  # by seed
    arms: dict[str, JobSpec]
    lengths: tuple[float, ...]
    allow_import: tuple[str, ...]
    earlier_seconds: float  # wall time of the attempts before this one
    earlier_held: float  # worker-seconds that they held
    reported: JobSpec  # `spec`, with the searches that its report names as folders of this machine

    def asked(self) -> Iterator[tuple[str, int, float]]:
        """Arm, seed and length of each run, all of a seed before the next seed: a pilot cut short has paired ones."""
        for seed in self.checked:
            for length in sorted(self.lengths, key=lambda length: length != 1.0):  # the primary comparison first
                for arm in self.arms:
                    if seed - self.spec.seed < self.spec.pilot.seeds_of(arm, length):
                        yield arm, seed, length

    @property
    def num_runs(self) -> int:
        """All runs of the comparison."""
        return sum(1 for _ in self.asked())

    def left(self) -> list[str]:
        """Names of the runs that are not finished."""
        names = [name_of(*one) for one in self.asked()]
        if not self.folder.resumed:
            return names
        return [name for name in names if finished(self.folder.path / "runs" / name) is None]

    def request(self) -> Request:
        """What this command asks for, and how much could be seen before."""
        pilot = self.spec.pilot
        return Request(
            seeds={arm: pilot.seeds_of(arm) for arm in self.arms},
            lengths={words.times(length): pilot.seeds_of("", length) for length in self.lengths},
            seen=self._seen() if self.folder.resumed else 0,
        )

    def _seen(self) -> int:
        at_unit = self.folder.path.glob(f"runs/*-T{1:.2f}")
        seeds = [path.name.rpartition("-seed")[0] for path in at_unit if finished(path)]
        return max((seeds.count(arm) for arm in set(seeds)), default=0)


class Frozen(Section):
    """What a pilot decides before its first run, and keeps when it is resumed."""

    rates: Rates
    own_rates: dict[str, Rates] = Field({})  # of the defined arms whose steps are others
    define: dict[str, Defined] = Field({})  # as it was when the pilot began
    unit_seconds: float  # T
    scale: dict[str, float]  # "<arm> <length>" -> factor on that arm's epochs
    device: str = Field("")  # on which step times were measured
    requests: tuple[Request, ...] = Field(())  # when it began, and at each extension
    merged: tuple[str, ...] = Field(())  # names of runs that another copy made

    def factor(self, arm: str, length: float) -> float:
        """On an arm's epochs, at a length."""
        return self.scale[_place(arm, length)]

    def defines(self, arm: str) -> tuple[str, dict[str, Any]] | None:
        """What a defined arm trains, however it was found; None: it is a built-in one."""
        return self.define[arm].trained if arm in self.define else None

    def rates_of(self, arm: str) -> Rates:
        """What the steps of an arm take."""
        return self.own_rates.get(arm, self.rates)


def name_of(arm: str, seed: int, length: float) -> str:
    """A run's name, and its folder's."""
    return f"{arm}-seed{seed}-T{length:.2f}"


def finished(path: Path) -> RunReport | None:
    """The report of a run that an earlier attempt finished."""
    report = read_run(path) if (path / RUN_FILE).is_file() else None
    return report if report is not None and report.status == "done" else None


def read_frozen(whole: Compared) -> Frozen | None:
    """What the pilot that is resumed decided; None: it decided nothing yet.

    Raises:
        JobError: an arm is not what it was then.
    """
    file = whole.folder.path / FROZEN_FILE
    if not whole.folder.resumed or not file.is_file():
        return None
    frozen = Frozen.model_validate_json(file.read_text())
    begun = {place.rpartition(" ")[0] for place in frozen.scale}
    for arm in whole.arms:
        now = whole.spec.pilot.define.get(arm)
        if arm in begun and frozen.defines(arm) != (now and now.trained):
            hint = "resume with the arms that it had, define another beside them, or start anew: --overwrite"
            raise JobError(f"pilot.define.{arm}", "is not what it was when the pilot began", hint)
    return frozen


def keep_frozen(whole: Compared, frozen: Frozen) -> None:
    """Writes it into the pilot's folder."""
    write_text(whole.folder.path / FROZEN_FILE, frozen.model_dump_json(indent=1))


def _place(arm: str, length: float) -> str:
    return f"{arm} {length:.4f}"


def frozen_of(whole: Compared, known: Facts, session: Session, sink: Sink) -> Frozen:
    """Measured step times and what follows from them; what a resumed pilot froze stands, and is added to."""
    plans = {arm: resolve(spec, known) for arm, spec in whole.arms.items()}
    frozen = read_frozen(whole)
    if frozen is None:
        rival = resolve(arm_spec(whole.spec, "ssl_sl"), known)
        sink.stage("measuring step times")
        rates, own = _measure(whole, plans, rival, session, sink)
        unit = seconds_of(rival, rates)
        request, device = whole.request(), session.device_name
        frozen = Frozen(rates=rates, own_rates=own, unit_seconds=unit, scale={}, device=device, requests=(request,))
    else:
        frozen = _extended(whole, frozen, plans, session, sink)
    scale = {
        place: frozen.scale.get(place) or fit_to(spec, known, frozen.rates_of(arm), length * frozen.unit_seconds)
        for arm, spec in whole.arms.items()
        for length in whole.lengths
        for place in (_place(arm, length),)
    }
    update = {
        "scale": {**frozen.scale, **scale},
        "define": {**frozen.define, **whole.spec.pilot.define},
    }
    frozen = frozen.model_copy(update=update)
    whole.folder.start(whole.checked[whole.spec.seed].plan, session.frame.size)
    keep_frozen(whole, frozen)
    return frozen


def _extended(whole: Compared, frozen: Frozen, plans: dict[str, Plan], session: Session, sink: Sink) -> Frozen:
    """What a pilot froze, with the times of steps that it had not, and with what it is asked for now."""
    begun, first = {place.rpartition(" ")[0] for place in frozen.scale}, whole.checked[whole.spec.seed].plan
    known = [(Key.of(first), frozen.rates)]
    known += [(Key.of(plans[arm]), rates) for arm, rates in frozen.own_rates.items() if arm in plans]
    own, measured = dict[str, Rates](), list[str]()
    for arm, plan in plans.items():
        if arm in begun:
            continue
        timed = (of for key, of in known if key == Key.of(plan) and set(plan.kinds) <= of.step_seconds.keys())
        if (rates := next(timed, None)) is None:
            sink.stage(f"measuring step times of {arm}")
            rates = _time(whole, plan, plan.kinds, session, sink)
            measured.append(arm)
            known.append((Key.of(plan), rates))
        if rates is not frozen.rates:
            own[arm] = rates
    request = whole.request().model_copy(update={"measured": tuple(measured)})
    requests = frozen.requests
    if not requests or not requests[-1].same(request):
        requests = (*requests, request)
    return frozen.model_copy(update={"own_rates": {**frozen.own_rates, **own}, "requests": requests})


def _measure(
    whole: Compared, plans: dict[str, Plan], rival: Plan, session: Session, sink: Sink
) -> tuple[Rates, dict[str, Rates]]:
    """Step times of the arms that have the job's steps, in turns; then those of arms with steps of their own."""
    first = whole.checked[whole.spec.seed]
    groups: list[tuple[Key, Plan, list[str]]] = [(Key.of(first.plan), first.plan, [])]
    for arm, plan in plans.items():
        key = Key.of(plan)
        if (group := next((group for group in groups if group[0] == key), None)) is None:
            groups.append(group := (key, plan, []))
        group[2].append(arm)
    measured = list[Rates]()
    for _, plan, arms in groups:
        own = [plans[arm] for arm in arms] + ([] if measured else [rival])
        kinds: dict[Kind, None] = dict.fromkeys(kind for one in own for kind in one.kinds)
        measured.append(_time(whole, plan, tuple(kinds), session, sink))
    shared, *others = measured
    return shared, {arm: rates for (_, _, arms), rates in zip(groups[1:], others, strict=True) for arm in arms}


def _time(whole: Compared, plan: Plan, kinds: tuple[Kind, ...], session: Session, sink: Sink) -> Rates:
    """What steps of these kinds take, under a plan."""
    splits = readable(whole.checked[whole.spec.seed].splits, session)
    task = Task("measure", plan, splits, measure=kinds, allow_import=whole.allow_import)
    return session.execute(task, sink).history.rates
