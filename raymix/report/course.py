"""The course of a run in words and cells: why it ended, its budget, decisions, trials, and where its seconds went."""

from __future__ import annotations

from raymix.plan import Decision
from raymix.report import words
from raymix.report.run import BudgetReport, Point, RunReport

FIRST, LAST = 5, 15  # decisions that a page shows
LEAST_SHARE = 0.005  # of what the terminal names
ACCOUNT_WORDS = {
    "before workers": "the command starts and looks at its data; no worker is held yet",
    "start-up": "workers start and images are read, until training is prepared",
    "prepare": "steps are compiled, warmed up and measured before the first one",
    "data wait": "steps wait for their images",
    "ssl steps": "self-supervised steps",
    "mix steps": "steps of the mix phase, of either loss",
    "sl steps": "supervised steps",
    "trials": "supervised trials of what SSL has brought so far, then undone",
    "evaluation": "select rows while training, val at the end",
    "checkpoints": "writing them",
    "lost work": "what training did not go on from after something had died, and the restart",
    "idle": "workers wait for each other, for what comes next, or for the report",
    "other": "not booked anywhere",
}


def ended_line(report: RunReport) -> str:
    """Why the run is over; '' where that is told by its status alone."""
    if report.ended is None:
        return ""
    if not sum(phase.steps for phase in report.phases):
        return "The budget was spent before the first step: nothing was trained, and val was not read."
    goal = report.goal
    return {
        "complete": "Ended: every planned step was done.",
        "budget": "Ended: the budget was spent.",
        "goal": f"Ended: the goal of {words.percent(goal.top1 if goal else None)} on select was reached.",
        "patience": f"Ended: no new best on select in {words.plural(goal.patience or 0 if goal else 0, 'evaluation')}.",
    }[report.ended]


def budget_line(report: RunReport) -> str:
    """What was asked to be spent, what was, and by how much that is over or under; '' without a budget."""
    budget = report.budget
    if budget is None:
        return ""
    hours = "GPU-hours" if report.unit == "GPU-seconds" else "worker-hours"
    name = {"wall": "wall time", "training": "training", "worker_hours": hours, "money": "cost", "flops": "FLOPs"}[
        budget.currency
    ]
    over = budget.spent - budget.asked
    share = f" ({abs(over) / budget.asked:.1%})".replace("%", " %") if budget.asked else ""
    return (
        f"Budget, {name}: asked {_amount(budget, budget.asked)}, spent {_amount(budget, budget.spent)}, "
        f"{_amount(budget, abs(over))}{share} {'over' if over > 0 else 'under'}."
    )


def _amount(budget: BudgetReport, value: float) -> str:
    if budget.currency in ("wall", "training"):
        return words.seconds(value)
    return words.money(value) if budget.currency == "money" else f"{value:.4g}"


def workers_text(report: RunReport) -> str:
    """'2 workers'; 'up to 3 workers' where their number changed."""
    held = words.plural(report.workers, "worker")
    return f"up to {held}" if report.groups else held


def groups_line(report: RunReport) -> str:
    """The groups of an elastic run with their sizes and when each was there; '' where workers were fixed."""
    told = (
        f"{group.workers} from {words.seconds(group.since)} to {words.seconds(group.until)}" for group in report.groups
    )
    return f"workers: {', '.join(told)}" if report.groups else ""


def decision_cells(report: RunReport) -> tuple[list[tuple[str, str, str]], int]:
    """Step, phase lengths and reason of the first and last decisions; and how many between them are left out."""
    cells = [(words.count(one.step), _lengths(report, one), one.reason) for one in report.decisions]
    left_out = max(0, len(cells) - FIRST - LAST)
    return (cells[:FIRST] + cells[-LAST:] if left_out else cells), left_out


def trial_cells(report: RunReport) -> list[tuple[str, str, str]]:
    """Step, and what a supervised trial after it reached in its middle and at its end."""
    return [
        (words.count(point.step), words.percent(point.trial_half_top1), words.percent(point.trial_top1))
        for point in _trials(report)
    ]


def lines(report: RunReport) -> list[str]:
    """The course of a run for a terminal: ending, budget, and of decisions and trials the number and the last."""
    found = [ended_line(report), budget_line(report), groups_line(report)]
    if report.decisions:
        last = report.decisions[-1]
        which = f"the last at step {words.count(last.step)}: {_lengths(report, last)} ({last.reason})"
        found.append(f"{words.plural(len(report.decisions), 'change')} of plan, {which}")
    if cells := trial_cells(report):
        step, half, end = cells[-1]
        found.append(f"{words.plural(len(cells), 'trial')}, the last at step {step}: {half} halfway, {end} at its end")
    return [line for line in found if line]


def ledger_cells(report: RunReport) -> list[tuple[str, str, str, str, str]]:
    """The ledger as cells: account, worker-seconds, share, cost, what it is."""
    ledger = report.ledger
    if ledger is None:
        return []
    return [
        (
            entry.account,
            words.tenths(entry.worker_seconds),
            f"{100 * ledger.share(entry):.1f} %",
            words.money(entry.cost),
            ACCOUNT_WORDS[entry.account],
        )
        for entry in ledger.entries
    ]


def ledger_total(report: RunReport) -> tuple[str, str, str, str]:
    """The sum of the ledger, in the same cells."""
    total = report.ledger.worker_seconds if report.ledger else 0.0
    name = f"wall time x {workers_text(report)}"
    return name, words.tenths(total), "100.0 %" if total else "-", words.money(report.totals.cost)


def ledger_line(report: RunReport) -> str:
    """The shares of wall time times workers, without what is next to nothing; '' without a ledger."""
    if report.ledger is None:
        return ""
    shares = [(entry.account, report.ledger.share(entry)) for entry in report.ledger.entries]
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares if share >= LEAST_SHARE)
    held = workers_text(report)
    return f"wall {words.seconds(report.totals.wall_seconds)} x {held}: {told}"


def _trials(report: RunReport) -> list[Point]:
    return [point for point in report.curve if point.trial_top1 is not None]


def _lengths(report: RunReport, decision: Decision) -> str:
    """'ssl 120, mix 40, sl 90': steps of each phase; numbers alone where nobody wrote the kinds down."""
    # an extension adds phases at the end, which decisions before it do not know
    kinds = report.planned or ("",) * len(decision.steps)
    told = zip(kinds, decision.steps, strict=False)
    return ", ".join(f"{kind} {words.count(steps)}".strip() for kind, steps in told)
