"""The return on investment of a pilot: what was spent once, and what that brings in each training from then on.

What was found can be used in one of two ways, and never in both at once: the rival's accuracy for fewer seconds
(`Saving`), or more accuracy for the same seconds (`Gain`). Bills are by clock B, means over seeds; the interval of an
amount is that of the speed-up or of the gain that it follows from. Where that interval does not leave zero out, no
return is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import fmean

from raymix.report.compare import MIN_SEEDS
from raymix.report.facts import lead_arm
from raymix.report.figure import Interval
from raymix.report.intervals import at_length
from raymix.report.ledger import cost_of
from raymix.report.money import MONEY, Gain, Item, Roi, Saving, Training
from raymix.report.pilot import PilotReport
from raymix.report.search import SearchReport
from raymix.spec import ReportSpec


def roi(
    report: PilotReport, asked: ReportSpec, labels: Mapping[str, int], searches: Sequence[SearchReport] = ()
) -> Roi:
    """What a pilot's findings cost and bring.

    Args:
        report: The pilot; one that was cut short or decides nothing has costs and no return.
        asked: Prices and counts of the job.
        labels: Labelled rows of train, select and val.
        searches: What was searched before it.
    """
    price, verdict = report.price_per_worker_hour, report.verdict
    unit = report.unit if price is None else MONEY
    once = (*_pilot_items(report, unit), *(_search_item(s, report, unit) for s in searches), _engineers(asked, unit))
    amounts = [item.amount for item in once if item.counted]
    total = None if None in amounts else sum(amount for amount in amounts if amount is not None)
    lead = verdict.winner if verdict.rival is None else lead_arm(report)
    open_ = _open(report)
    found = _Bills.of(report, lead, verdict.rival, unit) if not open_ and lead and verdict.rival else None
    return Roi(
        asked=asked,
        unit=unit,
        worker_unit=report.unit,
        price_per_worker_hour=price,
        lead=lead,
        rival=verdict.rival,
        open=open_,
        once=once,
        once_total=total,
        labels=dict(labels),
        labels_cost=None if asked.price_per_label is None else asked.price_per_label * sum(labels.values()),
        trainings=_trainings(report, asked),
        saving=_saving(report, found, asked, total) if found else Saving(outcome="open", why=open_),
        gain=_gain(report, found, asked, total) if found else Gain(outcome="open", why=open_),
    )


def _open(report: PilotReport) -> str:
    """Why nothing may be claimed; '' where the intervals decide."""
    if report.status != "done":
        return "runs of the pilot failed" if report.failed else "the pilot did not come to its end"
    if report.verdict.rival is None:
        return "there is no second arm to compare with"
    if report.verdict.decided:
        return ""
    return "preset quick decides nothing" if report.preset == "quick" else f"below {MIN_SEEDS} seeds nothing is decided"


# ---- what was spent ---------------------------------------------------------------------------------------------


def _pilot_items(report: PilotReport, unit: str) -> list[Item]:
    """A pilot's runs, and what else its workers were held for: start-up, step times, the time between runs.

    Held is taken as wall time times workers, as a machine is rented; runs side by side have workers each. An attempt
    that was killed leaves its finished runs and no wall time, so the rest cannot be less than nothing. What was held
    elsewhere beside runs that were merged is not known.
    """
    runs = [run for of in report.arms.values() for run in of]
    billed = sum(run.billed_worker_seconds for run in runs)
    held = report.held
    here = sum(run.billed_worker_seconds for run in runs if PurePosixPath(run.report).parent.name not in report.merged)
    what = "start-up, step times, between runs" if held > here else "not known: an attempt was killed"
    spent = [
        ("pilot: its runs", f"{len(runs)} run{'' if len(runs) == 1 else 's'}, billed", billed),
        ("pilot: beside them", what, max(0.0, held - here)),
    ]
    price = report.price_per_worker_hour
    return [_of_workers(name, what, seconds, cost_of(seconds, price), unit) for name, what, seconds in spent]


def _search_item(search: SearchReport, report: PilotReport, unit: str) -> Item:
    """A search at its own price, or else at the pilot's where it ran on the same kind of device."""
    cost, alike = search.cost, search.unit == report.unit
    if cost is None and alike:
        cost = cost_of(search.worker_seconds, report.price_per_worker_hour)
    name, what = f"search: {search.name}", f"{search.tried} configurations, billed"
    if alike:
        return _of_workers(name, what, search.worker_seconds, cost, unit)
    what = f"{what}: {search.worker_seconds:,.0f} {search.unit}"  # which nothing else here can be added to
    return Item(name=name, what=what, cost=cost, amount=cost if unit == MONEY else None)


def _of_workers(name: str, what: str, seconds: float, cost: float | None, unit: str) -> Item:
    return Item(name=name, what=what, worker_seconds=seconds, cost=cost, amount=cost if unit == MONEY else seconds)


def _engineers(asked: ReportSpec, unit: str) -> Item:
    if asked.engineer_hours is None:
        return Item(name="engineers", what="not counted: report.engineer_hours not set", counted=False)
    hours, price = asked.engineer_hours, asked.price_per_engineer_hour or 0.0
    cost = hours * price
    what = f"{hours:g} hours at {price:g}" if hours else "no hours"
    return Item(name="engineers", what=what, cost=cost, amount=cost if unit == MONEY or not cost else None)


def _trainings(report: PilotReport, asked: ReportSpec) -> tuple[Training, ...]:
    found = []
    for arm, of in report.arms.items():
        if runs := at_length(of, 1.0):
            seconds = fmean(run.billed_worker_seconds for run in runs)
            cost = cost_of(seconds, report.price_per_worker_hour)
            yearly = cost * asked.retrainings_per_year if cost is not None and asked.retrainings_per_year else None
            top1 = fmean(run.top1 for run in runs)
            found.append(Training(arm=arm, top1=top1, worker_seconds=seconds, cost=cost, cost_per_year=yearly))
    return tuple(found)


# ---- what it brings ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bills:
    """Means of a training at T, in amounts.

    At equal planned seconds a difference of two bills is chance, or the machine's: a lower one of the lead is not
    credited, a higher one comes off all that it brings.
    """

    steps: float  # the rival's part by clock A, which a speed-up shortens; what is billed beside the steps stays
    extra: float  # of the lead's bill above the rival's

    @classmethod
    def of(cls, report: PilotReport, lead: str, rival: str, unit: str) -> _Bills:
        price = report.price_per_worker_hour
        each = 1.0 if unit != MONEY or price is None else price / 3600
        ours, theirs = at_length(report.arms[lead], 1.0), at_length(report.arms[rival], 1.0)
        above = fmean(run.billed_worker_seconds for run in ours) - fmean(run.billed_worker_seconds for run in theirs)
        steps = each * fmean(run.worker_seconds for run in theirs)
        return cls(steps=steps, extra=max(0.0, each * above))

    def saving(self, speedup: float) -> float:
        """What the rival's accuracy costs less by the lead."""
        return self.steps * (1 - 1 / speedup) - self.extra


def _saving(report: PilotReport, bills: _Bills, asked: ReportSpec, once: float | None) -> Saving:
    faster, lead, rival = report.verdict.speedup, lead_arm(report), report.verdict.rival
    if faster is None:
        one = len(report.lengths) == 1
        never = f"{lead} does not reach the accuracy of {rival} at any length compared"
        return Saving(outcome="open", why="one length alone tells no speed-up" if one else never)
    if faster.low <= 0:
        return Saving(outcome="open", why=f"{lead} may not reach the accuracy of {rival} within the lengths compared")
    saved = _over(faster, bills.saving)
    per_year = _times(saved, asked.retrainings_per_year)
    if faster.high < 1 or saved.high <= 0:
        why = f"at equal accuracy a training by {lead} costs no less than one by {rival}"
        return Saving(outcome="none", why=why, per_training=saved, per_year=per_year)
    if faster.low <= 1 or saved.low <= 0:
        why = f"the interval of the {'speed-up includes 1' if faster.low <= 1 else 'saving includes 0'}"
        return Saving(outcome="open", why=why, per_training=saved, per_year=per_year)
    back = _back(once, saved)
    years = _times(back, 1 / asked.retrainings_per_year if asked.retrainings_per_year else None)
    return Saving(
        outcome="told",
        at_least=faster.value == faster.high,
        per_training=saved,
        per_year=per_year,
        break_even=back,
        break_even_years=years,
    )


def _gain(report: PilotReport, bills: _Bills, asked: ReportSpec, once: float | None) -> Gain:
    points, lead, rival = report.verdict.top1_gain, lead_arm(report), report.verdict.rival
    assert points is not None  # a decided verdict has one
    extra = bills.extra
    if points.high <= 0:
        why = f"at equal step-seconds {lead} has no point more than {rival}"
        return Gain(outcome="none", why=why, points=points, extra=extra)
    if points.low <= 0:
        return Gain(outcome="open", why="the interval of the gain includes 0", points=points, extra=extra)
    yearly = extra * (asked.retrainings_per_year or 0.0)
    worth = asked.value_per_point
    value = None
    if worth is not None and report.price_per_worker_hour is not None:
        value = _over(points, lambda gained: worth * gained - yearly)
    return Gain(
        outcome="told",
        points=points,
        extra=extra,
        per_point=_back(None if once is None else once + yearly, points),
        value_per_year=value,
        break_even_years=_back(once, value) if value is not None and value.low > 0 else None,
    )


def _over(interval: Interval, rises: Callable[[float], float]) -> Interval:
    """A rising function of a figure, with the interval that follows."""
    return Interval(value=rises(interval.value), low=rises(interval.low), high=rises(interval.high))


def _times(interval: Interval | None, factor: float | None) -> Interval | None:
    return None if interval is None or factor is None else _over(interval, lambda value: value * factor)


def _back(spent: float | None, each: Interval) -> Interval | None:
    """How many of `each`, which is above 0, make up for what was spent; the dearer end is that of its low one."""
    if spent is None:
        return None
    return Interval(value=spent / each.value, low=spent / each.high, high=spent / each.low)
