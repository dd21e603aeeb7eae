"""What `raymix data drift` found: whether new rows can be told from those that a run had."""

from __future__ import annotations

import math

from pydantic import Field
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymix.report import facts, words
from raymix.report.pilot import Interval
from raymix.report.start import Shares
from raymix.report.start_words import shares_line
from raymix.report.tables import pairs
from raymix.spec import Section


class Told(Section):
    """How well a linear classifier tells the run's earlier rows from new ones by the run's embeddings of them.

    Area under the ROC curve, cross-validated: 0.5 by chance alone, 1 without a mistake (a classifier two-sample test,
    Lopez-Paz and Oquab 2017, arXiv 1610.06545). Intervals: Hanley and McNeil 1982, 95 % over images; the spread that
    cross-validation adds is not in them. Of 90 simulated samples without drift 79 held 0.5; the verdict, which asks for
    an interval above that of the earlier rows, was wrong in none.
    """

    auc: Interval = Field(description="new against earlier rows")
    null: Interval = Field(description="earlier rows against other earlier rows, as many, by the same classifier")
    rows: int = Field(description="of each of the three samples")
    held_out: bool = Field(description="the earlier rows are val and select rows; else the run was trained on most")

    @property
    def verdict(self) -> str:
        """In words."""
        if self.auc.low > max(0.5, self.null.high):
            why = "" if self.held_out else ", which may come of having been trained on these"
            return f"new rows can be told from earlier ones{why}"
        return f"no drift that {words.count(self.rows)} rows of each can tell"


class DriftReport(Section):
    """Rows, classes and embeddings."""

    run: str
    earlier: int = Field(description="rows of the run that are there still")
    new: int = Field(description="rows of SOURCE that it did not have")
    skipped: dict[str, int] = Field({}, description="of the sampled rows, unreadable: cause -> count")
    shares: Shares | None = Field(None, description="of labelled rows; null: the new ones have no labels")
    embeddings: Told
    seconds: float


def auc_interval(auc: float, num: int) -> Interval:
    """The 95 % interval of an area under the ROC curve of `num` rows a side (Hanley and McNeil 1982)."""
    one, both = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (num - 1) * (one - auc**2 + both - auc**2)) / num**2
    reach = 1.96 * math.sqrt(max(0.0, variance))
    return Interval(value=auc, low=max(0.0, auc - reach), high=min(1.0, auc + reach))


def drift_table(report: DriftReport) -> RenderableType:
    """For a terminal."""
    told, grid = report.embeddings, pairs()
    grid.add_row("rows", f"{words.count(report.earlier)} of {report.run}, {words.count(report.new)} new")
    part = "val and select rows" if told.held_out else "rows, most of which it was trained on"
    grid.add_row("embeddings", f"AUC of a linear classifier, new against earlier rows: {_auc(told.auc)}")
    grid.add_row("", f"earlier against other earlier rows: {_auc(told.null)}; 0.5: cannot be told apart")
    grid.add_row("", f"{words.count(told.rows)} rows of each; earlier ones: {part}")
    grid.add_row("", Text(told.verdict, style="bold"))
    if report.shares is not None and shares_line(report.shares):
        grid.add_row("classes", shares_line(report.shares))
    if report.skipped:
        grid.add_row("unreadable", Text(words.causes(report.skipped), style="yellow"))
    return Group(grid, *([] if report.shares is None else _class_tables(report.shares)))


def _class_tables(shares: Shares) -> list[RenderableType]:
    table = Table("class", "earlier rows", "new rows", box=box.SIMPLE, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    shown = facts.share_rows(shares)
    for name, cells in shown:
        table.add_row(name, *cells)
    left = len(shares.classes) - len(shown)
    return [table, *([Text(f"{left} more, whose share has moved less", style="dim")] if left else [])]


def _auc(found: Interval) -> str:
    return f"{found.value:.2f} (95 % {found.low:.2f} to {found.high:.2f})"
