"""What a sweep says of planted accuracies: crossovers, labels saved, the words, the page and the other formats."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from raymix.report.formats import as_csv, as_json, as_markdown
from raymix.report.page_sweep import sweep_html, sweep_table
from raymix.report.sweep import SweepReport
from raymix.report.sweep_words import crossing_cells, headline, saved_rows
from tests.report.sweeps import SHARES, make_sweep

CROSSOVER, SAVING = 0.3, 2.0  # mix pays below this share of the labels; sl needs so many times the labels of mix


def octaves(share: float) -> float:
    return math.log2(share / 0.1)


def crossing(_: float, labels: float) -> dict[str, float]:
    """mix is 2.5 points an octave steeper the other way: ahead of ssl_sl below CROSSOVER."""
    ahead = 2.5 * (octaves(CROSSOVER) - octaves(labels))
    return {"sl": 10 + 3 * octaves(labels), "ssl_sl": 20 + 2 * octaves(labels), "mix": 20 + 2 * octaves(labels) + ahead}


def saving(_: float, labels: float) -> dict[str, float]:
    """mix has what sl has with SAVING times as many labels."""
    return {"sl": 10 + 4 * octaves(labels), "mix": 10 + 4 * octaves(SAVING * labels)}


def same(_: float, labels: float) -> dict[str, float]:
    return dict.fromkeys(("sl", "ssl_sl", "mix"), 15 + 3 * octaves(labels))


@pytest.fixture(scope="module")
def crossed() -> SweepReport:
    return make_sweep(crossing)


@pytest.fixture(scope="module")
def alike() -> SweepReport:
    return make_sweep(same, num_val=5000)


def test_a_planted_crossover_is_found_and_told(crossed: SweepReport) -> None:
    (line,) = crossed.lines
    assert (line.axis, line.held, line.shares) == ("data.label_fraction", 1.0, SHARES)
    assert line.mixing is not None
    assert line.mixing.signs == (1, 1, -1, -1) or line.mixing.signs == (1, 0, -1, -1)
    (one,) = line.mixing.crossovers
    assert one.told
    assert not one.rises
    assert one.between == (0.25, 0.5)
    assert isinstance(one.at.low, float)
    assert isinstance(one.at.high, float)
    assert one.at.low < CROSSOVER < one.at.high
    first, rest = headline(crossed)
    assert first.startswith("Mixing pays up to 0.")
    assert any("a change of sign is not seen in this range, ahead in 4 of 4 cells" in text for text in rest), "SSL"


def test_without_a_difference_no_crossover_is_told(alike: SweepReport) -> None:
    (line,) = alike.lines
    for turns in (line.mixing, line.ssl):
        assert turns is not None
        assert not any(one.told for one in turns.crossovers)
    assert headline(alike)[0] == "At none of these shares of the labels can a difference that mixing makes be told."
    assert all(
        "told on both sides" not in cells[-1] or "may be chance" in cells[-1] for cells in crossing_cells(alike, 1.0)
    )


def test_labels_saved_are_found_and_not_extrapolated() -> None:
    (line,) = make_sweep(saving).lines
    assert line.ssl is None, "no arm with SSL but mix"
    assert [one.labels for one in line.saved] == [1000, 2500, 5000, 10_000]
    for one in line.saved[:2]:
        assert isinstance(one.needed.low, float)
        assert isinstance(one.needed.high, float)
        assert one.needed.low < SAVING * one.labels < one.needed.high
        assert one.needed.high < 1.6 * one.needed.low, "narrow enough to say something"
    assert line.saved[3].needed.value == "above"
    assert line.saved[3].needed.low == "above"


def test_without_a_saving_sl_needs_as_many_labels(alike: SweepReport) -> None:
    for one in alike.lines[0].saved[1:3]:
        low, high = one.needed.low, one.needed.high
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert low < one.labels < high


def test_a_quick_sweep_decides_nothing() -> None:
    report = make_sweep(crossing, num_seeds=1)
    assert not report.decided
    assert headline(report)[0].startswith("This decides nothing (1 seed, preset quick; it needs 5 seeds")
    assert report.lines[0].mixing is not None
    assert not any(one.told for one in report.lines[0].mixing.crossovers)
    assert all("told on both sides" not in cells[-1] for cells in crossing_cells(report, 1.0))


def test_lines_run_along_both_axes_at_every_length() -> None:
    report = make_sweep(crossing, (0.5, 1.0), (0.1, 1.0), lengths=(1.0, 2.0), num_val=500)
    assert [(line.length, line.axis, line.held) for line in report.lines[:4]] == [
        (1.0, "data.label_fraction", 1.0),
        (1.0, "data.label_fraction", 0.5),
        (1.0, "data.fraction", 1.0),
        (1.0, "data.fraction", 0.1),
    ]
    assert [line.length for line in report.lines] == [1.0] * 4 + [2.0] * 4
    assert len(saved_rows(report, 1.0)) == 4, "along the labels alone"
    page = sweep_html(report)
    assert page.count("At other lengths") == 1
    assert page.count("<svg") == 8


def test_the_formats_say_the_same(crossed: SweepReport) -> None:
    assert SweepReport.model_validate_json(as_json(crossed)) == crossed
    lines = as_csv(crossed).splitlines()
    assert len(lines) == 1 + len(SHARES) * 3
    assert lines[0].startswith("fraction,label_fraction,num_train,num_labelled,unit_seconds,length,arm,top1,low,high")
    shown = io.StringIO()
    Console(width=200, file=shown).print(sweep_table(crossed))
    texts: dict[str, Any] = {"page": sweep_html(crossed), "notebook": crossed._repr_html_()}
    texts |= {"markdown": as_markdown(crossed), "terminal": shown.getvalue()}
    for name, text in texts.items():
        for part in (
            "Mixing pays up to 0.",
            "not seen in this range",
            "images 1, labels 0.25",
            "mix wins",
            "sl needs",
        ):
            assert part in text, (name, part)
    assert 'href="cells/fraction-1-label_fraction-0.1/report.html"' in texts["page"]
    assert "http" not in texts["page"].replace("http-equiv", "")
