"""The return on investment in words: the same for terminal, Markdown, report and decision page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raymix.report import words
from raymix.report.facts import num_paired
from raymix.report.figure import Interval
from raymix.report.money import MONEY, Gain, Roi, Saving
from raymix.report.pilot import PilotReport

NOT_ADDED = "what was spent once cannot be added up: a price is not set"
HORIZON = 20  # years: no machine, price or data set stays as it is for so long


def once_heads(roi: Roi) -> tuple[str, str, str, str]:
    """Heads of `once_cells`."""
    return "spent once", "what it is", _hours_name(roi.worker_unit), "cost"


def training_heads(roi: Roi) -> tuple[str, str, str, str, str]:
    """Heads of `training_cells`."""
    return "a training at T", "top-1, %", _hours_name(roi.worker_unit), "cost", "cost a year"


def amount(value: float, unit: str) -> str:
    """An amount as `Roi.unit` has it: money, or worker-hours where the price is not set."""
    figure, name = _scaled(unit, value)
    return f"{figure(value)}{name}"


def hours(worker_seconds: float) -> str:
    """Worker-seconds as hours, three figures of them."""
    value = worker_seconds / 3600
    return words.count(value) if abs(value) >= 1000 else f"{value:.3g}"


def once_cells(roi: Roi) -> list[tuple[str, str, str, str]]:
    """What was spent once: name, what it is, worker-hours, cost; the sum last."""
    cells = []
    for item in roi.once:
        held = "" if item.worker_seconds is None else hours(item.worker_seconds)
        cost = _cost(item.cost, "-" if roi.price_per_worker_hour is None else words.PRICE_NOT_SET)
        cells.append((item.name, item.what, held, cost if item.counted else "not counted"))
    seconds = sum(item.worker_seconds for item in roi.once if item.worker_seconds is not None)
    cells.append(("all", "", hours(seconds), _cost(roi.once_total if roi.unit == MONEY else None)))
    return cells


def training_cells(roi: Roi) -> list[tuple[str, str, str, str, str]]:
    """A training by each arm: arm, top-1, worker-hours, cost, cost a year."""
    return [
        (one.arm, f"{one.top1:.2f}", hours(one.worker_seconds), _cost(one.cost, "-"), _cost(one.cost_per_year, "-"))
        for one in roi.trainings
    ]


def arms_line(roi: Roi, report: PilotReport) -> str:
    """What the names on the page stand for."""
    arms = [f"{arm}: {words.ARM_WORDS[arm]}" for arm in (roi.lead, roi.rival) if arm in words.ARM_WORDS]
    unit = f"T: {words.seconds(report.unit_seconds)}, the step-seconds of ssl_sl at the asked epochs"
    return ". ".join((*arms, unit)) + "."


def tables(roi: Roi) -> dict[str, Any]:
    """All of it, for the macro `roi_tables` of the pages."""
    return {
        "findings": findings(roi),
        "once_heads": once_heads(roi),
        "once": once_cells(roi),
        "training_heads": training_heads(roi),
        "trainings": training_cells(roi),
        "labels_line": labels_line(roi),
        "lead": roi.lead,
    }


def labels_line(roi: Roi) -> str:
    """The labels, which every arm uses alike."""
    number = sum(roi.labels.values())
    parts = ", ".join(f"{words.count(of)} {name}" for name, of in roi.labels.items())
    line = f"Labels: {words.count(number)} ({parts}), {_cost(roi.labels_cost, 'report.price_per_label not set')}; "
    line += "paid whichever arm is used, so no part of the return."
    price = roi.asked.price_per_label
    if price and roi.unit == MONEY and roi.once_total is not None:
        more = words.count(roi.once_total / price)
        line += f" What was spent once would buy {more} more labels; what these would bring was not measured."
    return line


def findings(roi: Roi) -> list[tuple[str, str, str]]:
    """What it comes to: name, figure, what the figure is."""
    saving, gain, unit = roi.saving, roi.gain, roi.unit
    lead, rival = roi.lead, roi.rival
    lines = [("break-even", break_even(roi), break_even_note(roi))]
    if years := break_even_years(roi):
        lines.append(("break-even in time", years, per_year_note(roi)))
    saved = _told(saving.per_training, unit, saving.at_least) if saving.outcome == "told" else _absent(saving)
    what = f"steps of {rival} at T that {lead} does without" + (", less its higher bill at T" if gain.extra else "")
    lines.append(("saving a retraining", saved, saving.why or what))
    if saving.outcome == "told":
        yearly = _told(saving.per_year, unit, saving.at_least) if saving.per_year else "not told"
        lines.append(("saving a year", yearly, per_year_note(roi)))
    per_point = _told(gain.per_point, unit) if gain.per_point else _absent(gain)
    lines.append(("cost of a point gained", per_point, gain.why or point_note(roi)))
    if gain.value_per_year is not None:
        value = f"at {roi.asked.value_per_point:g} a point and year, less what {lead} is billed above {rival}"
        lines.append(("value of the gain a year", _told(gain.value_per_year, unit), value))
        back = "not told" if gain.break_even_years is None else f"after {_years(gain.break_even_years)}"
        lines.append(("break-even by that value", back, f"{spent_once(roi)}, over the value a year"))
    return lines


def break_even(roi: Roi) -> str:
    """After how many retrainings what was spent once is saved: '8 retrainings (6 to 12)', never, or not told."""
    saving, back = roi.saving, roi.saving.break_even
    if saving.outcome == "none":
        return "never"
    if back is None:
        return "not told"
    number = words.plural(math.ceil(back.value), "retraining")
    low, high = words.count(math.ceil(back.low)), words.count(math.ceil(back.high))
    return f"{number} or fewer (up to {high})" if saving.at_least else f"{number} ({low} to {high})"


def break_even_years(roi: Roi) -> str:
    """The same in years, at the retrainings a year that the job tells; '' where it tells none."""
    years, least = roi.saving.break_even_years, roi.saving.at_least
    if years is None:
        return ""
    return _years(years, least) if years.low <= HORIZON else f"over {HORIZON} years at the saving told"


def spent_once(roi: Roi) -> str:
    """What the sum is called: a sum without the engineers says so."""
    left_out = [item.name for item in roi.once if not item.counted]
    return f"what was spent once ({', '.join(left_out)} not counted)" if left_out else "what was spent once"


def break_even_note(roi: Roi) -> str:
    """What the break-even is, or why there is none."""
    if roi.saving.outcome != "told":
        return roi.saving.why
    if roi.once_total is None:
        return NOT_ADDED
    return f"{spent_once(roi)}, {amount(roi.once_total, roi.unit)}, over the saving a retraining"


def per_year_note(roi: Roi) -> str:
    """At how many retrainings a year."""
    yearly = roi.asked.retrainings_per_year
    return (
        f"at {yearly:g} retraining{'' if yearly == 1 else 's'} a year"
        if yearly
        else "report.retrainings_per_year not set"
    )


def point_note(roi: Roi) -> str:
    """What the cost of a point is of."""
    gain, yearly = roi.gain, roi.asked.retrainings_per_year
    assert gain.points is not None
    if roi.once_total is None:
        return NOT_ADDED
    beside = f" and {amount(gain.extra * yearly, roi.unit)} of a year's retrainings" if gain.extra and yearly else ""
    return (
        f"{spent_once(roi)}, {amount(roi.once_total, roi.unit)}{beside}, over {words.points(gain.points.value)} points "
        f"({words.point_interval(gain.points)}) at equal step-seconds"
    )


def headline(roi: Roi, report: PilotReport) -> str:
    """The answer for whoever decides, in a sentence or two."""
    lead, rival, saving, gain = roi.lead, roi.rival, roi.saving, roi.gain
    if roi.open:
        return f"No return is claimed: {roi.open}."
    if "told" in (saving.outcome, gain.outcome):
        return " Or: ".join(part for part in (_saving_sentence(roi), _gain_sentence(roi)) if part)
    if gain.outcome == "none":
        return f"No return: {gain.why}, and {saving.why}."
    seeds = words.plural(num_paired(report), "seed")
    return f"No return of {lead} over {rival} can be told with {seeds}: {gain.why}, and {saving.why}."


def _saving_sentence(roi: Roi) -> str:
    saving = roi.saving
    if saving.outcome != "told":
        return ""
    after, years = "a break-even is not told", saving.break_even_years
    if years is not None and years.low > HORIZON:
        after = f"by that, {spent_once(roi)} is not back within {HORIZON} years"
    elif saving.break_even is not None:
        after = f"{spent_once(roi)} is back after {break_even_years(roi) or break_even(roi)}"
    saved = _told(saving.per_training, roi.unit, saving.at_least)
    return f"At the accuracy of {roi.rival}, {roi.lead} saves {saved} a retraining; {after}."


def _gain_sentence(roi: Roi) -> str:
    gain = roi.gain
    if gain.outcome != "told" or gain.points is None:
        return ""
    points = f"{words.points(gain.points.value)} points of top-1 over {roi.rival} ({words.point_interval(gain.points)})"
    cost = f", {_told(gain.per_point, roi.unit)} a point" if gain.per_point else ""
    years = gain.break_even_years
    back = f"; by their value {spent_once(roi)} is back after {_years(years)}" if years else ""
    return f"At equal step-seconds, {roi.lead} brings {points}{cost}{back}."


def assumed(roi: Roi, report: PilotReport) -> list[str]:
    """What the figures rest on."""
    seeds = words.plural(num_paired(report), "seed")
    lines = [
        f"Every retraining is like the pilot's: its data, its machines ({words.plural(report.workers, 'worker')} on "
        f"{report.device}), its length. Starting the workers is in no training's bill; it is the same for every arm.",
        "The saving (equal accuracy) and the gain (equal step-seconds) are two ways to use the same finding: one or "
        "the other, not their sum.",
        f"Bills count every second that workers were held (clock B), means over {seeds}. "
        "Intervals are 95 %, those of the speed-up and of the gain; the scatter of the bills is not in them. At equal "
        "planned seconds a lower bill is taken for chance and not credited; a higher one counts.",
    ]
    if roi.price_per_worker_hour is not None:
        lines.append(f"A worker-hour costs {roi.price_per_worker_hour:g}; all money is in that currency.")
    return lines


def not_measured(roi: Roi, report: PilotReport) -> list[str]:
    """What nobody has looked at, or said."""
    asked, lines = roi.asked, []
    unset = []
    if roi.price_per_worker_hour is None:
        unset.append("cluster.price_per_worker_hour (all is in worker-hours)")
    unset += [
        f"report.{name}"
        for name in ("retrainings_per_year", "engineer_hours", "price_per_label", "value_per_point")
        if getattr(asked, name) is None
    ]
    if unset:
        lines.append(f"Not set, so not reckoned with: {', '.join(unset)}.")
    if not asked.searches:
        lines.append("No search is named in report.searches; what tuning took before the pilot is not counted.")
    lines += [
        f"Whether {roi.lead or 'mix'} needs fewer labels for the same accuracy: every arm had the same ones.",
        "Whether any of this holds for another data set, model or number of labels than the pilot's.",
    ]
    return [*lines, *([report.note] if report.note else [])]


def _hours_name(unit: str) -> str:
    return unit.replace("seconds", "hours")


def _cost(cost: float | None, unset: str = words.PRICE_NOT_SET) -> str:
    return unset if cost is None else words.money(cost)


def _told(interval: Interval | None, unit: str, least: bool = False) -> str:
    """An amount with its 95 % interval; with `least`, it and the upper end are no more than a bound."""
    if interval is None:
        return "not told"
    figure, name = _scaled(unit, interval.value)
    value, low, high = (figure(part) for part in (interval.value, interval.low, interval.high))
    return f"at least {value}{name} ({low} or more)" if least else f"{value}{name} ({low} to {high})"


def _scaled(unit: str, value: float) -> tuple[Callable[[float], str], str]:
    """How amounts near a value are written, and what follows them."""
    if unit == MONEY:
        return (lambda part: ("-" if part < 0 else "") + words.money(abs(part))), ""
    if abs(value) < 360:
        return (lambda part: f"{part:,.1f}"), f" {unit}"
    return hours, f" {_hours_name(unit)}"


def _absent(found: Saving | Gain) -> str:
    return "none" if found.outcome == "none" else "not told"


def _years(interval: Interval, least: bool = False) -> str:
    """'1.5 years (0.8 to 2.1)'; in months below two years."""
    factor, unit = (1.0, "years") if interval.value >= 2 else (12.0, "months")
    form = ",.0f" if factor * interval.value >= 100 else ",.1f"
    value, low, high = (format(factor * part, form) for part in (interval.value, interval.low, interval.high))
    return f"{value} {unit} or less (up to {high})" if least else f"{value} {unit} ({low} to {high})"
