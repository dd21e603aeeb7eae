"""What a run took over from an earlier one, in lines."""

from __future__ import annotations

from raymix.report import words
from raymix.report.start import KeptReport, Shares, Start, WeightsReport

SHOWN = 3  # names in a line


def start_lines(start: Start | None) -> list[str]:
    """A line for each thing; none where nothing was taken over."""
    if start is None:
        return []
    lines = [] if start.weights is None else [weights_line(start.weights)]
    if start.kept is not None:
        lines += [kept_line(start.kept), *filter(None, [shares_line(start.kept.shares)])]
    return lines


def weights_line(told: WeightsReport) -> str:
    """How much of the backbone was there, and what was not."""
    line = f"weights: {told.matched} of {told.tensors} tensors of the backbone from {told.told}"
    if told.head:
        line += ", and the classifier"
    if told.absent:
        line += f"; not in it: {_some(told.absent)}"
    if told.resized:
        line += f"; interpolated: {_some(told.resized)}"
    return f"{line}; left aside: {words.plural(told.left, 'tensor')}" if told.left else line


def kept_line(told: KeptReport) -> str:
    """What was kept, what is gone, what is new."""
    line = f"splits of {told.run}: {words.count(told.val)} val and {words.count(told.select)} select rows kept"
    changes = {
        "val rows gone": told.val_gone,
        "select rows gone": told.select_gone,
        "rows have another label": told.relabelled,
        "new rows of a validation set take no part": told.left_out,
    }
    gone = "".join(f", {words.count(number)} {what}" for what, number in changes.items() if number)
    return f"{line}{gone}; {words.count(told.new)} new training rows"


def shares_line(shares: Shares) -> str:
    """What the test of class shares says; '' where there is none."""
    if shares.p is None or shares.cramers_v is None:
        return ""
    p = "p below 0.001" if shares.p < 0.001 else f"p = {shares.p:.3f}"
    return f"class shares then and now: chi-square test {p}, Cramér's V = {shares.cramers_v:.2f}"


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
