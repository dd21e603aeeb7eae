"""`start.json`: what a run took over from an earlier one before its first step; going on asks for it no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from raymix.spec import JobError, Section

START_FILE = "start.json"


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


class Start(Section):
    """All that a run took over."""

    weights: WeightsReport | None = None
    kept: KeptReport | None = None


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
