"""The arms of a comparison: each way to train as a job of its own, and how long that is at measured step times."""

from __future__ import annotations

from raymix.jobfile import with_defined
from raymix.plan import Facts, Plan, resolve
from raymix.report.history import Rates
from raymix.spec import PRETRAINED, FixedSchedule, JobError, JobSpec, Mae, Pilot, check_adapted


def arms_of(spec: JobSpec, drops: bool = True) -> tuple[str, ...]:
    """The arms that a job compares: named or by default, without `ssl_sl_drop` where no patches are left out."""
    masks = isinstance(spec.objective, Mae) and drops
    return tuple(arm for arm in spec.pilot.compared if masks or arm != "ssl_sl_drop")


def arm_spec(spec: JobSpec, arm: str) -> JobSpec:
    """The job of one arm: rows, seeds and backbone are the job's own, the schedule is the arm's.

    Augmentation is the job's own, too, unless `pilot.define` says otherwise of an arm.

    Raises:
        JobError: the job cannot be compared, or refuses what `pilot.define` sets.
    """
    if arm in spec.pilot.define:
        return with_defined(spec, arm, _built_in(spec, spec.pilot.define[arm].base))
    if arm == PRETRAINED:
        backbone = spec.backbone.model_copy(update={"weights": spec.pilot.weights})
        alone = {"backbone": backbone, "pilot": Pilot()}  # with pilot.weights it would be refused when read back
        return _built_in(spec, "sl").model_copy(update=alone)
    made = _built_in(spec, arm)
    check_adapted(made, f"arm {arm}", "set backbone.weights, or leave the arm out")
    return made


def _built_in(spec: JobSpec, arm: str) -> JobSpec:
    schedule, optim = epochs_of(spec), spec.optim
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


def epochs_of(spec: JobSpec) -> FixedSchedule:
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


def flops_of(plan: Plan, rates: Rates) -> float | None:
    """FLOPs of a plan's steps, over all workers; None: those of a step are not known."""
    turns = [turn for phase in plan.phases for turn in phase.turns]
    if any(kind not in rates.step_flops for kind, _ in turns):
        return None
    return sum(rates.step_flops[kind] * steps for kind, steps in turns)


def scaled(spec: JobSpec, factor: float) -> JobSpec:
    """The same schedule, `factor` times as long."""
    schedule = epochs_of(spec)
    update = {"ssl_epochs": schedule.ssl_epochs * factor, "sl_epochs": schedule.sl_epochs * factor}
    return spec.model_copy(update={"schedule": schedule.model_copy(update=update)})


def fit_to(spec: JobSpec, facts: Facts, rates: Rates, seconds: float) -> float:
    """The factor on a job's epochs at which its plan takes so many step-seconds, to within a step of each phase."""
    factor = 1.0
    for _ in range(4):  # rounding epochs to steps leaves a little to correct
        factor *= seconds / seconds_of(resolve(scaled(spec, factor), facts), rates)
    return factor
