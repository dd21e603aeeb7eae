"""JobSpec + Facts -> Plan; arithmetic only, and what the data cannot carry is refused here.

Epochs of a source with N rows become round(epochs * N / batch) steps (DESIGN: nothing is dropped, no ragged batch).
"""

from __future__ import annotations

import math

from raymix.plan.mistakes import cost_matrix
from raymix.plan.turns import asked, merged
from raymix.plan.types import SHARDS, Facts, Kind, Phase, Plan
from raymix.spec import MIX_KINDS, TOP, JobError, JobSpec

GOAL_TAIL = 0.3  # of a run that its goal may end: until then the rate stays up, since nobody knows when that will be


def resolve(spec: JobSpec, facts: Facts) -> Plan:
    """The plan that follows from a job and the facts; arithmetic only.

    Raises:
        JobError: the data cannot carry the job; the message names the field.
    """
    _check_rows(spec, facts)
    _check_labelled_share(spec, facts)
    _check_streaming(spec, facts)
    _check_class_weights(spec, facts)
    phases: list[Phase] = []
    start = 0
    for phase in asked(spec, facts):
        if turns := merged(phase.turns):
            total = sum(steps for _, steps in turns)
            made = Phase(
                kind=phase.kind, epochs=phase.epochs, start=start, steps=total, turns=turns, weight=phase.weight
            )
            phases.append(made)
            start += total
    # kept in the plan: a run that is resumed without its goal goes on as it began
    tail = spec.optim.decay
    if tail is None and spec.goal is not None and spec.schedule.policy != "adaptive":
        tail = GOAL_TAIL
    plan = Plan(spec=spec, facts=facts, phases=tuple(phases), tail=tail)
    _check_sides(plan)
    for field in ("shrink", "lora"):
        if getattr(spec, field) is not None and all(phase.kind != "sl" for phase in phases):
            raise JobError(field, "is of the SL phase, and there is none", "leave it out, or lower schedule.mix_ratio")
    return plan


def _check_rows(spec: JobSpec, facts: Facts) -> None:
    batch = spec.batch
    _check_metric(spec, facts)
    if facts.num_classes < 2:
        raise JobError("data.train", f"{facts.num_classes} class(es) found", "a classifier needs two or more")
    if _trains_classifier(spec) and not facts.num_labelled:
        raise JobError("data.label_fraction", "no labelled rows are left to train on", "raise it, or lower data.select")
    if batch > facts.num_train:
        raise JobError(
            "optim.batch", f"{batch} is larger than the {facts.num_train} training rows", "take a smaller batch"
        )


def _check_metric(spec: JobSpec, facts: Facts) -> None:
    """The rows that it is judged on can tell it."""
    if spec.metric == "top5" and facts.num_classes <= TOP:
        raise JobError("metric", f"of {facts.num_classes} classes the first {TOP} are all", "take top1")
    if spec.metric == "recall_at_false_alarms" and facts.num_val:
        rate, largest = spec.report.false_alarms, max(facts.class_rows, default=0) / max(1, sum(facts.class_rows))
        others = facts.num_val * (1 - largest)  # val rows have the training rows' shares, about
        if rate * others < 1:
            problem = f"{rate:g} of about {others:.0f} val images that are not of the largest class is less than one"
            hint = f"raise it to {math.ceil(1000 / max(2.0, others)) / 1000:g}, or keep more val images"
            raise JobError("report.false_alarms", problem, hint)
    if spec.metric == "cost" and spec.report.costs is not None:
        matrix = cost_matrix(spec.report.costs, facts.class_names, "report.costs")
        for name, costs in zip(facts.class_names, zip(*matrix, strict=True), strict=True):
            if not any(costs):
                problem = f"to take every image for {name} costs nothing, so there is nothing to save"
                raise JobError("report.costs", problem, "set what mistakes cost")


def _trains_classifier(spec: JobSpec) -> bool:
    schedule = spec.schedule
    if schedule.policy == "phases":
        return any(phase.kind != "ssl" for phase in schedule.phases)
    return schedule.policy == "adaptive" or bool(schedule.sl_epochs)


def _check_labelled_share(spec: JobSpec, facts: Facts) -> None:
    share, batch = spec.data.labelled_share, spec.batch
    if share is None:
        return
    if not 0 < facts.num_labelled < facts.num_train:
        which = "unlabelled" if facts.num_labelled else "labelled"
        raise JobError("data.labelled_share", f"there are no {which} training rows", "leave it out")
    if not 0 < round(share * batch) < batch:
        problem = f"{share:g} of a batch of {batch} leaves no row of one side"
        raise JobError("data.labelled_share", problem, "change it, or take a larger optim.batch")


def _check_streaming(spec: JobSpec, facts: Facts) -> None:
    """Every rank reads its own residues of 48, and so many of each stream in every batch."""
    share, workers = spec.data.labelled_share, spec.cluster.num_replicas
    if not facts.run:
        return
    if facts.run > 1 and spec.data.balance:
        together = "images are streamed out of larger files, neighbours together"
        if facts.tiles > 1:
            together = "tiles of an image are streamed together"
        problem = f"{together}, and rare classes cannot be read twice"
        raise JobError("data.balance", problem, "set data.cache=host, or optim.class_weights=balanced instead")
    if facts.run > 1 and SHARDS % workers:
        nearest = min((n for n in range(1, SHARDS + 1) if not SHARDS % n), key=lambda n: (abs(n - workers), n))
        problem = f"images are streamed in runs of {facts.run}, and {workers} does not divide {SHARDS}"
        raise JobError("cluster.workers", problem, f"the nearest that does: {nearest}")
    if share is not None and round(share * spec.batch) % workers:
        labelled, batch = round(share * spec.batch), spec.batch
        nearest = max(workers, round(labelled / workers) * workers)
        problem = f"{labelled} labelled rows a batch are not divisible by {workers} workers, and images are streamed"
        raise JobError("data.labelled_share", problem, f"the nearest that is: {nearest / batch:g}")


def _check_class_weights(spec: JobSpec, facts: Facts) -> None:
    asked = spec.optim.class_weights
    if isinstance(asked, dict) and (unknown := sorted(asked.keys() - set(facts.class_names))):
        known = ", ".join(facts.class_names[:5]) + (", ..." if facts.num_classes > 5 else "")
        raise JobError(f"optim.class_weights.{unknown[0]}", "there is no such class", f"there are {known}")


def _check_sides(plan: Plan) -> None:
    """A side that was asked for has a step at least; rounding may leave a phase without one, but not a whole side."""
    schedule, batch = plan.spec.schedule, plan.spec.batch
    if schedule.policy != "fixed":
        return  # a budget that holds no step ends the run at once and says so
    sides: list[tuple[str, float, str, int, set[Kind]]] = [
        ("schedule.ssl_epochs", schedule.ssl_epochs, "training", plan.facts.num_train, {"ssl", *MIX_KINDS}),
        ("schedule.sl_epochs", schedule.sl_epochs, "labelled", plan.facts.num_labelled, {"sl", "sl_drop", *MIX_KINDS}),
    ]
    for field, epochs, which, rows, kinds in sides:
        if epochs and not kinds.intersection(plan.kinds):
            problem = f"{epochs:g} epochs of {rows} {which} rows do not fill one batch of {batch}"
            raise JobError(field, problem, f"ask for at least {math.ceil(batch / rows)}, or a smaller optim.batch")
