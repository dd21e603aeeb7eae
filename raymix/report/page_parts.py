"""What the page of a run and that of a pilot have in common, as values for the templates."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from raymix.report import words
from raymix.report.intervals import share_interval
from raymix.report.ledger import Account
from raymix.report.pilot import PilotReport
from raymix.report.plots import BLUE, GREEN, GREY, PALE, PHASE_COLORS, RED, SKY, YELLOW
from raymix.report.run import RunReport

ENDS = 10  # classes shown at each end where there are more than twice as many
STATUS_WORDS = {"done": "done", "interrupted": "interrupted, can go on", "failed": "failed"}
ACCOUNT_COLORS: dict[Account, str] = {  # steps as their phases; what brings nothing is grey or red
    "before workers": "#dfe2e6",
    "start-up": PALE,
    "prepare": GREY,
    "data wait": YELLOW,
    "ssl steps": PHASE_COLORS["ssl"],
    "mix steps": PHASE_COLORS["mix"],
    "sl steps": PHASE_COLORS["sl"],
    "trials": SKY,
    "evaluation": GREEN,
    "checkpoints": "#4b5058",
    "lost work": RED,
    "idle": "#a39a8c",
    "other": "#e4d9c7",
}
CLOCK_COLORS = (PALE, BLUE, YELLOW, GREEN, "#4b5058", "#e4d9c7")
LETTER = 0.022  # of a bar's width on a phone that a letter takes


class Part(NamedTuple):
    """A part of a bar."""

    name: str
    value: str
    share: float
    color: str

    @property
    def label(self) -> str:
        """Its name, where it is wide enough to hold one."""
        return self.name if self.share >= LETTER * len(self.name) else ""


class ClassLine(NamedTuple):
    """A class on val."""

    name: str
    num: str
    top1: str
    interval: str
    share: float


def step_kinds(step_seconds: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Kinds of step, what they are and what one costs."""
    return [(kind, words.KIND_WORDS.get(kind, ""), f"{1000 * value:,.2f}") for kind, value in step_seconds.items()]


def prefix(report: RunReport | PilotReport) -> str:
    """Ids that differ between the plots of different reports on one page, and are the same at every rendering."""
    return f"r{hashlib.sha256(report.model_dump_json().encode()).hexdigest()[:8]}-"


def price_note(price: float | None) -> str:
    """What a cost was reckoned with."""
    return "set cluster.price_per_worker_hour" if price is None else f"at {price:g} per worker-hour, clock B"


def class_lines(by_class: Sequence[tuple[int, int]], names: Sequence[str]) -> tuple[list[ClassLine], int]:
    """Classes from best to worst, those without a val row left out; and how many in the middle are not shown."""
    found = [(right / num, num, name) for (num, right), name in zip(by_class, names, strict=True) if num]
    found.sort(key=lambda one: (-one[0], one[2]))
    left_out = max(0, len(found) - 2 * ENDS)
    shown = found[:ENDS] + found[-ENDS:] if left_out else found
    lines = [
        ClassLine(
            name,
            words.count(num),
            words.percent(100 * share),
            words.percent_interval(share_interval(share * num, num)),
            share,
        )
        for share, num, name in shown
    ]
    return lines, left_out
