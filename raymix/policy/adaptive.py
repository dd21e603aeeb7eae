"""The adaptive split: how long SSL goes on is decided by what it has brought, a second against a second.

The model behind it: accuracy = a + b * ln(seconds of SSL) + c * ln(seconds of supervised steps). Then a second of SSL
brings b / t_ssl, one of mix or SL c / t_sl, and a budget is best split as t_ssl : t_sl = b : c. Trials tell b and c: a
few supervised steps from where SSL has come to, evaluated on select rows in the middle and at the end, then undone.
b is the slope of what trials reach over ln(seconds of SSL before them), c that of a trial over ln(its own seconds).
Both are as uncertain as a few hundred select rows make them, so the share that follows is weighed against a prior one:
their mean, each by one over its variance (a normal prior and a normal measurement, as any text on Bayes has it).
"""

from __future__ import annotations

import math
from statistics import fmean

from raymix.plan import Decision, Segment
from raymix.policy.costs import Outlook, known
from raymix.policy.fit import fit
from raymix.report.history import History, SegmentReport
from raymix.spec import AdaptiveSchedule

MARKS = (0.05, 0.1, 0.18, 0.3)  # shares of the budget after which a trial is made, as long as it is spent on SSL
PRIOR, PRIOR_ERROR = 0.25, 0.1  # share of the budget for SSL that trials must speak against, and how sure it is
LEAST = 0.05  # share that SSL gets in any case
SHORTEST = 8  # steps of a trial; where its share of the budget does not hold them, there is none
STALE = 4  # evaluations in a row without a new best after which mix steps give way to SL steps


def adaptive(outlook: Outlook) -> Decision | None:
    """SSL as long as another second of it brings more than one of mix or SL would, then mix, then the SL tail."""
    plan, history, rest = outlook.plan, outlook.history, outlook.left
    schedule = plan.spec.schedule
    assert isinstance(schedule, AdaptiveSchedule)
    if rest is None:
        return None
    trials = sum(report.trial_seconds for report in history.reports)
    (ssl, mix, _), whole = outlook.spent, rest + sum(outlook.spent) - trials
    share, reason = _ssl_share(history, schedule, plan.facts.num_select)
    here = plan.phases[plan.phase_at(history.next_step)].kind if history.next_step < plan.num_steps else "sl"
    stale = here == "mix" and _stale(history)
    if here == "ssl":
        ssl = max(ssl, share * whole + trials)
    elif stale:
        reason = f"mix steps have brought no new best on the select rows in {STALE} evaluations: on to SL"
    else:
        reason = history.why(reason)
    if here != "sl" and not stale:  # mix gets what SSL and the tail leave; what is over stays over
        mix = max(mix, (1 - schedule.tail) * whole + trials - ssl)
    wants = [ssl, mix, whole + trials - ssl - mix]
    news = here == "ssl" and bool(history.decisions) and reason != history.decisions[-1].reason
    return fit(outlook, wants, reason, force=history.plans_anew or news or stale)


def trial_steps(outlook: Outlook, named: Segment) -> int:
    """Steps of the trial after a segment: one is made each time that SSL has taken another of `MARKS`; 0: none."""
    plan, history, allowance, rest = outlook.plan, outlook.history, outlook.allowance, outlook.left
    schedule = plan.spec.schedule
    if not isinstance(schedule, AdaptiveSchedule) or named.kind != "ssl" or not allowance or rest is None:
        return 0
    ends_at = 1 - (rest - outlook.cost_of(named)) / allowance
    named_before = [*(report.segment for report in history.reports), *filter(None, [history.pending])]
    made = [segment.trial for segment in named_before if segment.trial]
    if not schedule.trials or not plan.facts.num_select or len(made) >= len(MARKS) or ends_at < MARKS[len(made)]:
        return 0
    if made:
        return made[0]  # as long as the first one, to be compared with it
    cost = history.rates.step_flops["sl"] if outlook.in_flops else history.rates.step_seconds["sl"]
    steps = round(schedule.trials * allowance / len(MARKS) / cost)
    return steps if steps >= SHORTEST else 0


def _ssl_share(history: History, schedule: AdaptiveSchedule, num_select: int) -> tuple[float, str]:
    """Share of the budget for SSL, and why."""
    most = min(schedule.ssl_most, 1 - schedule.tail)
    prior = min(PRIOR, most)
    trials = [report for report in known(history) if report.trial_top1 is not None]
    if len(trials) < 2:
        return prior, f"{100 * prior:.0f} % for SSL until two trials tell more"
    spent = [math.log(_ssl_seconds(history, trial)) for trial in trials]
    reached = [trial.trial_top1 or 0.0 for trial in trials]
    b, spread = _slope(spent, reached)
    c = fmean(
        (last - (trial.trial_half_top1 or 0.0)) / math.log(2) for last, trial in zip(reached, trials, strict=True)
    )
    if c <= 0:
        return prior, "trials do not learn: the share of SSL stays as it is"
    gain = max(0.0, b)
    told, error = gain / (gain + c), _error(fmean(reached), num_select)
    # of told = b / (b + c), by its derivatives; c is the mean of differences between two readings on the same rows
    error *= math.hypot(c / math.sqrt(spread), gain * math.sqrt(2 / len(trials)) / math.log(2)) / (gain + c) ** 2
    trust = PRIOR_ERROR**2 / (PRIOR_ERROR**2 + error**2)
    share = min(most, max(LEAST, trust * told + (1 - trust) * prior))
    return share, (
        f"{len(trials)} trials: SSL brings {b:.2f} points for each factor e of its seconds, supervised steps {c:.2f}, "
        f"which is {100 * told:.0f} % for SSL, give or take {100 * error:.0f}; weighed against {100 * prior:.0f} % "
        f"beforehand: {100 * share:.0f} %"
    )


def _error(top1: float, num_rows: int) -> float:
    """Standard error of an accuracy in points, at least that of one row among so many."""
    share = min(1 - 1 / num_rows, max(1 / num_rows, top1 / 100))
    return 100 * math.sqrt(share * (1 - share) / num_rows)


def _ssl_seconds(history: History, until: SegmentReport) -> float:
    """Seconds of SSL steps up to a segment's end."""
    return sum(
        report.seconds
        for report in history.reports
        if report.segment.kind == "ssl" and report.segment.start <= until.segment.start
    )


def _slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """Of the line through points by least squares; and the sum of squares of x about its mean."""
    middle = fmean(x)
    spread = sum((one - middle) ** 2 for one in x)
    return sum((one - middle) * other for one, other in zip(x, y, strict=True)) / spread, spread


def _stale(history: History) -> bool:
    """Whether the last evaluations of the mix phase brought no new best."""
    found = [r.select_top1 for r in known(history) if r.segment.kind == "mix" and r.select_top1 is not None]
    return len(found) > STALE and max(found[-STALE:]) <= max(found[:-STALE])
