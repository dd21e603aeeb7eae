"""What a pilot decides once, before its first run: step times, T, and each arm's epochs at each length.

Step times are measured alone; T, the step-seconds of `ssl_sl` at the asked epochs, is resolved to epochs once for each
arm and length. A resumed pilot keeps what it decided when it began.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from raymix.arms import arm_spec, fit_to, seconds_of
from raymix.plan import Facts, Kind, Plan, resolve
from raymix.report.folder import write_text
from raymix.report.history import Rates
from raymix.report.known import Key
from raymix.runfolder import RunFolder
from raymix.runner import Checked, readable
from raymix.session import Session
from raymix.spec import Defined, JobError, JobSpec, Section
from raymix.train.task import Task
from raymix.watch import Sink

_FROZEN = "frozen.json"


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

    @property
    def num_runs(self) -> int:
        """Of all arms, seeds and lengths."""
        return len(self.checked) * len(self.arms) * len(self.lengths)


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


def frozen_of(whole: Compared, known: Facts, session: Session, sink: Sink) -> Frozen:
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


def _resumed(whole: Compared, frozen: Frozen) -> Frozen:
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
    splits, measured = readable(first.splits, session), list[Rates]()
    for _, plan, arms in groups:
        own = [plans[arm] for arm in arms] + ([] if measured else [rival])
        kinds: dict[Kind, None] = dict.fromkeys(kind for one in own for kind in one.kinds)
        task = Task("measure", plan, splits, measure=tuple(kinds), allow_import=whole.allow_import)
        measured.append(session.execute(task, sink).history.rates)
    shared, *others = measured
    return shared, {arm: rates for (_, _, arms), rates in zip(groups[1:], others, strict=True) for arm in arms}
