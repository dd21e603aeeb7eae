"""Equal epochs, labelled passes, updates and FLOPs beside equal seconds: interpolated between whole runs, or untold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from raymix.report.compare import verdict
from raymix.report.effort import AMOUNTS, EFFORT_HEADS, NOT_MEASURED, effort_cells, equal_cells, equals
from raymix.report.formats import as_markdown
from raymix.report.html import pilot_html
from raymix.report.judging import Judged
from raymix.report.pilot import PilotReport
from tests.report.factory import make_pilot


def faster_mix(share: float, **changes: Any) -> PilotReport:
    """A pilot whose mix arm does 1 / share as much of everything in the same seconds."""
    report = make_pilot(5, **changes)
    more = tuple(
        run.model_copy(
            update={
                name: type(value)(value / share)
                for name in ("ssl_epochs", "sl_epochs", "labelled", "labelled_tokens", "steps", "flops")
                if (value := getattr(run, name)) is not None
            }
        )
        for run in report.arms["mix"]
    )
    return report.model_copy(update={"arms": {**report.arms, "mix": more}})


def test_each_arm_says_what_it_did_at_t() -> None:
    found = dict(effort_cells(make_pilot(5)))
    assert list(found) == ["sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop", "mix"]
    assert dict(zip(EFFORT_HEADS, found["mix"], strict=True)) == {
        "SSL + SL epochs": "100 + 100",
        "labelled passes": "100.0",
        "labelled tokens": "3.28e+07",
        "images": "1,024,000",
        "updates": "4,000",
        "FLOPs": "3e+14",
    }


def test_at_a_length_that_was_run_the_gain_is_that_of_the_runs() -> None:
    report = faster_mix(1 / 1.29)  # mix at T/1.29 has done what the others have at T
    found = {(line.arm, line.by): line.gain for line in equals(report)}
    shorter = [run.top1 for run in report.arms["mix"] if run.length < 1]
    at_t = [run.top1 for run in report.arms["ssl_sl"] if run.length == 1]
    for by in AMOUNTS:
        gain = found["ssl_sl", by]
        assert gain is not None
        assert gain.value == pytest.approx(sum(shorter) / 5 - sum(at_t) / 5)
        assert gain.low < gain.value < gain.high


def test_between_two_lengths_it_is_interpolated() -> None:
    report = faster_mix(1 / 1.1)
    (gain,) = (line.gain for line in equals(report) if (line.arm, line.by) == ("ssl_sl", "epochs"))
    means = [
        sum(run.top1 for run in report.arms["mix"] if run.length == length) / 5 for length in sorted(report.lengths)[:2]
    ]
    against = sum(run.top1 for run in report.arms["ssl_sl"] if run.length == 1) / 5
    assert gain is not None
    assert min(means) - against < gain.value < max(means) - against


def test_outside_of_the_lengths_nothing_is_told() -> None:
    for report in (faster_mix(1 / 1.5), faster_mix(2.5), faster_mix(1 / 1.1, lengths=(1.0,))):
        assert all(line.gain is None for line in equals(report))
        assert {cell for _, cells in equal_cells(report) for cell in cells} == {NOT_MEASURED}


def test_flops_that_were_not_counted_are_not_compared() -> None:
    report = make_pilot(5)
    arms = {arm: tuple(run.model_copy(update={"flops": None}) for run in runs) for arm, runs in report.arms.items()}
    report = report.model_copy(update={"arms": arms})
    assert all((line.gain is None) == (line.by == "FLOPs") for line in equals(report))
    assert all(cells[-1] == "-" for _, cells in effort_cells(report))


def test_reports_label_it_as_secondary() -> None:
    report = make_pilot(5)
    for text in (as_markdown(report), pilot_html(report)):
        assert "(secondary)" in text
        assert "Secondary; the verdict is at equal step-seconds." in text
    assert re.search(r"## Beside equal seconds \(secondary\)", as_markdown(report))
    assert verdict(report.arms, Judged(2000)).text == report.verdict.text
