"""The page and the table of a search: what was best, by which rows, and what the figure is worth."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from raymix.report.search import SearchReport
from raymix.report.search_page import search_html, search_table, trial_line
from raymix.search import choose
from raymix.search.trial import Trial
from raymix.spec import Tune

SPACE = {
    "schedule.mix_ratio": {"uniform": [0, 1]},
    "optim.lr": {"loguniform": [1e-4, 1e-2]},
    "schedule.weight": {"choice": [{"constant": 0.5}, {"cosine": [1, 0]}]},
}


def trial(number: int, **fields: Any) -> Trial:
    values = {"schedule.mix_ratio": number / 10, "optim.lr": 1e-3, "schedule.weight": {"cosine": [1, 0]}}
    told = {"status": "done", "select_top1": 60.0 + number, "worker_seconds": 10.0 + number, "device": "cpu"}
    return Trial.model_validate({"number": number, "values": values, **told, **fields})


def report_of(*trials: Trial, **fields: Any) -> SearchReport:
    tune = Tune.model_validate({"space": SPACE})
    made: dict[str, Any] = {
        "name": "parts",
        "status": "done",
        "ended": "complete",
        "search": "random",
        "objectives": ["accuracy"],
        "seed": 0,
        "space": tune.space,
        "axes": tune.axes,
        "asked": len(trials),
        "num_select": 135,
        "trials": trials,
        "earlier": (),
        "tried": choose.num_tried(trials),
        "best": choose.best(trials),
        "best_of_arm": {},
        "front": choose.front(trials),
        "device": "cpu",
        "workers": 1,
        "price_per_worker_hour": None,
        "wall_seconds": 75.0,
        "worker_seconds": 60.0,
        "cost": None,
        "environment": {"raymix": "0.1"},
    }
    return SearchReport.model_validate({**made, **fields})


def text_of(report: SearchReport) -> str:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(search_table(report))
    return console.export_text()


def test_the_page_says_what_was_chosen_on() -> None:
    page = search_html(report_of(*(trial(number) for number in range(4))))
    assert "Best: 63.0 % on select rows with schedule.mix_ratio 0.3" in page
    assert "as the best of 4" in page
    assert "Val was not read" in page
    assert page.count("<svg") == 2
    assert "Pareto front" in page
    assert "http" not in page.replace("http-equiv", "")


def test_trials_without_an_accuracy_are_told_with_their_reason() -> None:
    trials = (trial(0), trial(1, status="failed", select_top1=None, error="<b>loss</b> is not finite"))
    trials += (trial(2, status="refused", select_top1=None, error="optim.batch: 33 is not divisible"),)
    page = search_html(report_of(*trials))
    assert "&lt;b&gt;loss&lt;/b&gt; is not finite" in page
    assert "not tried: the job refuses these values together" in page
    assert "2 of 3 trials" in page
    assert report_of(*trials).tried == 2


def test_a_trial_that_ended_early_is_neither_best_nor_on_the_front() -> None:
    found = report_of(trial(0), trial(5, status="stopped"))
    assert found.best == found.trials[0]
    assert found.front == (found.trials[0],)
    assert [one.number for one in found.judged] == [0, 5], "what is done first"
    assert "ended early by ASHA" in search_html(found)


def test_a_search_without_a_trial_still_has_a_page() -> None:
    page = search_html(report_of())
    assert "No trial came to its end." in page
    assert "<svg" not in page


def test_the_table_is_short_and_has_the_best_first() -> None:
    lines = text_of(report_of(*(trial(number) for number in range(14)))).splitlines()
    assert "0013" in next(line for line in lines if line.startswith("00"))
    assert any(line.startswith("4 more in search.json") for line in lines)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "trial 1: select 61.0 %, 11.0 worker-s (mix_ratio 0.1, lr 0.001, weight cosine [1, 0])"),
        ({"status": "stopped", "arm": "sl"}, "trial 1: select 61.0 %, 11.0 worker-s, ended early by ASHA (sl, mix_"),
        ({"status": "failed", "select_top1": None, "error": "no"}, "trial 1: failed: no (mix_ratio 0.1"),
    ],
)
def test_a_trial_in_one_line(fields: dict[str, Any], line: str) -> None:
    assert trial_line(trial(1, **fields), Tune.model_validate({"space": SPACE}).axes).startswith(line)
