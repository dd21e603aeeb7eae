"""`start.json`: what a run took over from an earlier one before its first step; going on asks for it no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from raymix.report import words
from raymix.spec import JobError, Section

START_FILE = "start.json"
SHOWN = 3  # names in a line


class WeightsReport(Section):
    """Which tensors a run began with."""

    source: str = Field(description="as backbone.weights names it")
    kind: Literal["run", "export", "file"]
    file: str = Field(description="absolute path of what holds the tensors")
    prefix: str = Field("", description="of their names in it")
    told: str = Field(description="what it is, in words")
    matched: int = Field(description="tensors of the backbone that are in it")
    tensors: int = Field(description="tensors of the backbone")
    absent: tuple[str, ...] = Field((), description="those of the backbone that are not in it, and began at random")
    resized: tuple[str, ...] = Field((), description="interpolated for another image or patch size")
    left: int = Field(0, description="tensors in it that are not the backbone's, nor taken for the classifier")
    head: bool = Field(False, description="the classifier began with it, too")
    sha256: str = Field(description="of the tensors that were read, by name")

    @property
    def line(self) -> str:
        """One line: how much of it matched, and what did not."""
        line = f"weights: {self.matched} of {self.tensors} tensors of the backbone from {self.told}"
        if self.head:
            line += ", and the classifier"
        if self.absent:
            line += f"; not in it: {_some(self.absent)}"
        if self.resized:
            line += f"; interpolated: {_some(self.resized)}"
        return f"{line}; left aside: {words.plural(self.left, 'tensor')}" if self.left else line


class ClassShare(Section):
    """Labelled rows of a class."""

    name: str
    before: int = Field(description="of the earlier run")
    new: int = Field(description="that it did not have")


class Shares(Section):
    """Classes of an earlier run's labelled rows and of new ones."""

    classes: tuple[ClassShare, ...]
    p: float | None = Field(
        None, description="chi-square test of homogeneity, p-value; null: one side has no rows, or all are of one class"
    )
    cramers_v: float | None = Field(None, description="how far apart, 0 to 1")

    @property
    def line(self) -> str:
        """What the test says; '' where there is none."""
        if self.p is None or self.cramers_v is None:
            return ""
        return f"class shares then and now: chi-square test p = {_p(self.p)}, Cramér's V = {self.cramers_v:.2f}"


class KeptReport(Section):
    """The splits that a run took over, and what has become of them."""

    run: str = Field(description="as data.keep_splits names it")
    select: int
    select_gone: int = Field(description="rows that chose then and are not in the data, or have no label, any more")
    val: int
    val_gone: int
    new: int = Field(description="training rows that the earlier run did not have")
    left_out: int = Field(description="new rows of a validation set, which take no part")
    relabelled: int = Field(description="rows whose label is another one now")
    shares: Shares

    @property
    def line(self) -> str:
        """One line: what was kept, what is gone, what is new."""
        line = f"splits of {self.run}: {words.count(self.val)} val and {words.count(self.select)} select rows kept"
        told = {
            "val rows gone": self.val_gone,
            "select rows gone": self.select_gone,
            "rows have another label": self.relabelled,
            "new rows of a validation set take no part": self.left_out,
        }
        gone = "".join(f", {words.count(number)} {what}" for what, number in told.items() if number)
        return f"{line}{gone}; {words.count(self.new)} new training rows"


class Start(Section):
    """All that a run took over."""

    weights: WeightsReport | None = None
    kept: KeptReport | None = None

    @property
    def lines(self) -> list[str]:
        """A line for each."""
        lines = [] if self.weights is None else [self.weights.line]
        if self.kept is not None:
            lines += [self.kept.line, *filter(None, [self.kept.shares.line])]
        return lines


def shares_of(names: Sequence[str], before: Sequence[int], new: Sequence[int]) -> Shares:
    """Class shares of two samples that have no row in common, and whether they can be told apart (Pearson 1900)."""
    from scipy.stats import chi2_contingency  # what only reads reports has no use for it

    counts = tuple(ClassShare(name=n, before=b, new=c) for n, b, c in zip(names, before, new, strict=True))
    table = [
        [one.before for one in counts if one.before + one.new],
        [one.new for one in counts if one.before + one.new],
    ]
    if len(table[0]) < 2 or not sum(table[0]) or not sum(table[1]):
        return Shares(classes=counts)
    test = chi2_contingency(table, correction=False)
    total = sum(map(sum, table))
    return Shares(classes=counts, p=float(test.pvalue), cramers_v=math.sqrt(float(test.statistic) / total))


def read_start(run: Path) -> Start | None:
    """What a run's folder says of it; None: nothing.

    Raises:
        JobError: the file cannot be read.
    """
    try:
        return Start.model_validate_json((run / START_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise JobError(str(run), f"{START_FILE} cannot be read: {type(error).__name__}") from None


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
