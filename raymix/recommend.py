"""The job that a pilot advises: `recommended.yaml` in its folder, for all the data, to be run as it is.

The rule. Where the verdict found a winner that is `mix` (without mix: the best arm), that is advised. Otherwise it is
the simplest of the arms that cannot be told apart from the best at equal step-seconds (their paired 95 % interval holds
0): what costs more to understand has to show that it is better. Simple to involved: `sl`, `pretrained`, `ssl_sl_one`,
`ssl_sl`, `ssl_sl_drop`, `mix`, then those of `pilot.define`. The same rule goes for a pilot that decides nothing, whose
advice says so.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from statistics import fmean, variance
from typing import NamedTuple

from raymix.data.rows import Rows
from raymix.jobfile import job_text
from raymix.plan import Facts, Plan
from raymix.report import words
from raymix.report.compare import paired
from raymix.report.facts import span
from raymix.report.forecast import Forecast, forecast
from raymix.report.history import Rates
from raymix.report.intervals import LEVEL, own_interval, paired_interval, standard_error, t_quantile, unpack
from raymix.report.judging import Judged
from raymix.report.known import Entry, Key, Seen, now
from raymix.report.pilot import Interval, PilotReport, PilotRun
from raymix.runner import check
from raymix.spec import ARMS, PRETRAINED, JobSpec

RECOMMENDED_FILE = "recommended.yaml"
SIMPLE = ("sl", PRETRAINED, "ssl_sl_one", "ssl_sl", "ssl_sl_drop", "mix")  # simple to involved
assert set(SIMPLE) == {*ARMS, PRETRAINED}
WIDTH = 118


class Advice(NamedTuple):
    """An arm and why it is advised, in a sentence."""

    arm: str
    why: str


def advice(report: PilotReport) -> Advice | None:
    """The arm that a pilot advises, by the rule above; None: no seed has finished its runs at T."""
    equal = paired(report.arms)
    if not equal:
        return None
    found = report.verdict
    if len(equal) == 1:
        return Advice(next(iter(equal)), "it is the only arm that was run")
    lead = "mix" if "mix" in equal else found.winner
    if found.decided and lead is not None and found.top1_gain is not None and found.top1_gain.low > 0:
        gain = f"{words.points(found.top1_gain.value)} points, 95 % interval {words.point_interval(found.top1_gain)}"
        return Advice(lead, f"it wins over {found.rival}, the best other arm, at equal step-seconds ({gain}; clock A)")
    best = max(equal, key=lambda arm: fmean(run.top1 for run in equal[arm]))
    behind = {arm: paired_interval(equal[best], runs, report.judged) for arm, runs in equal.items() if arm != best}
    alike = sorted((best, *(arm for arm, interval in behind.items() if interval.low <= 0)), key=_involved)
    open_ = "" if found.decided else "nothing was decided (a verdict needs 5 seeds and preset full); so far "
    if alike[0] == best:
        others = ", ".join(f"{arm} by {words.points(interval.value)}" for arm, interval in behind.items())
        told = "no simpler arm reaches it" if len(alike) > 1 else "it is ahead of all other arms"
        return Advice(best, f"{open_}{told} at equal step-seconds (points of top-1 ahead of {others}; clock A)")
    gap = behind[alike[0]]
    return Advice(
        alike[0],
        f"{open_}it is the simplest arm that cannot be told apart from {best}, the best, at equal step-seconds "
        f"({best} minus {alike[0]}: {words.points(gap.value)} points, 95 % interval {words.point_interval(gap)}; "
        "clock A)",
    )


def _involved(arm: str) -> int:
    return SIMPLE.index(arm) if arm in SIMPLE else len(SIMPLE)


# ---- the file -------------------------------------------------------------------------------------------------------


def recommended(
    report: PilotReport,
    given: Advice,
    arm: JobSpec,
    rows: Rows,
    rates: Rates,
    path: Path,
    allow_import: tuple[str, ...] = (),
) -> str:
    """The text of `recommended.yaml`.

    Args:
        report: The pilot's.
        given: Its advice.
        arm: The job of that arm, as long as T.
        rows: All rows of the data, listed.
        rates: The step times under which the pilot was planned.
        path: Where the file will lie.
        allow_import: As the command was told.
    """
    spec = _whole(arm, report)
    plan = check(spec, allow_import, rows).plan
    runs = paired(report.arms)[given.arm]
    trained = tuple(run.worker_seconds / report.workers / run.planned_seconds for run in runs)
    seen = tuple(Seen(at=now(), rates=rates, ratio=ratio) for ratio in trained)
    name = report.environment.get("device", report.device)
    told = forecast(plan, Entry(key=Key.of(plan), device=report.device, device_name=name, seen=seen), now())
    lines = [
        f"raymix pilot {report.name} advises {given.arm}: {given.why}.",
        f"Verdict: {report.verdict.text}",
        *_data_lines(arm, plan),
        *_predicted(told, report),
        _accuracy(runs, report, changed=arm.data != spec.data),
        *([report.note] if report.note else []),
    ]
    head = "".join(f"{line}\n" for text in lines for line in _comment(text))
    return f"# raymix run {path}\n{head}{job_text(spec, leave_out={'pilot', 'tune'})}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def _whole(arm: JobSpec, report: PilotReport) -> JobSpec:
    """The arm's job for all rows and labels, with a name of its own and a seed that the pilot did not run."""
    shares = ("fraction", "label_fraction")
    update: dict[str, object] = {name: 1.0 for name in shares if getattr(arm.data, name) < 1}
    if "label_fraction" in update and arm.data.unlabelled is None:
        update["labelled_share"] = None  # no row is without a label any more
    data = arm.data.model_copy(update=update)
    seed = (max(report.seeds) + 1) % 2**31
    return arm.model_copy(update={"name": f"{report.name[:88]}-recommended", "seed": seed, "data": data})


def _data_lines(arm: JobSpec, plan: Plan) -> list[str]:
    """Which rows it trains on, and what of them the pilot had."""
    facts: Facts = plan.facts
    tiles = f" ({facts.tiles} tiles of each image)" if facts.tiles > 1 else ""
    rows = f"{words.count(facts.num_train)} training rows{tiles}, {words.count(facts.num_labelled)} of them labelled"
    kept = f"{words.count(facts.num_select)} select and {words.count(facts.num_val)} val rows are kept out"
    lines = [f"Data: all {rows}; {kept}. Seed: one that the pilot did not run. Epochs: the arm's at T."]
    data = arm.data
    if data.fraction < 1:
        lines.append(f"The pilot had a part of the rows alone: data.fraction {data.fraction:g}.")
    if data.label_fraction < 1:
        lines.append(
            f"The pilot hid labels: data.label_fraction {data.label_fraction:g}. With all of them another arm may be "
            "best; where labels are that few, put it back."
        )
    return lines


def _predicted(told: Forecast, report: PilotReport) -> list[str]:
    costs = told.costs
    assert costs is not None  # rates of the pilot's own
    money = span(costs.money, words.money) if costs.money else words.PRICE_NOT_SET
    hours = span(costs.worker_hours, lambda value: f"{value:.3g}")
    steps = f"Predicted seconds: {span(costs.train_seconds, words.seconds)} of steps"
    return [
        f"{steps}, {span(costs.wall_seconds, words.seconds)} from start to report, on the machine of the pilot "
        f"({report.workers} x {report.device}); in brackets what its runs showed, at least 5 % either way.",
        f"Predicted cost: {money}; worker-hours {hours}.",
    ]


def _accuracy(runs: tuple[PilotRun, ...], report: PilotReport, changed: bool) -> str:
    """Top-1 of one more run, as far as the pilot's tell."""
    found = one_more(runs, report.judged)
    over = "over images alone, as one seed has no spread" if len(runs) == 1 else "of one more seed, over images too"
    told = f"{words.percent(found.value)} ({words.percent_interval(found)}, 95 % interval {over})"
    if changed:
        return f"Top-1 in the pilot, on its part of the data: {told}. What more data bring is not predicted."
    return f"Predicted top-1: {told}."


def one_more(runs: tuple[PilotRun, ...], val: Judged) -> Interval:
    """95 % interval, in percent, of the top-1 of one more run of an arm, of a seed like those seen.

    t * sqrt(error² + spread²), with the error of the mean over seeds and images and the standard deviation over seeds.
    One seed: over images alone.
    """
    own = own_interval(runs, val)
    if len(runs) == 1:
        return own
    error, _ = standard_error(unpack(runs, val))
    half = t_quantile(0.5 + LEVEL / 2, len(runs) - 1) * math.sqrt(
        (100 * error) ** 2 + variance(run.top1 for run in runs)
    )
    return Interval(value=own.value, low=max(0.0, own.value - half), high=min(100.0, own.value + half))
