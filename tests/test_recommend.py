"""What a pilot advises, and the file that says so: loaded, checked and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.jobfile import load_spec
from raymix.recommend import advice, one_more
from raymix.report.compare import verdict
from raymix.report.judging import Judged
from raymix.report.pilot import PilotReport
from raymix.runner import check
from tests.report.factory import make_arms, make_pilot


def pilot_of(top1: dict[str, float], num_seeds: int = 5) -> PilotReport:
    arms = make_arms(top1, num_seeds)
    update = {"arms": arms, "verdict": verdict(arms, Judged(2000)), "lengths": (1.0,)}
    return make_pilot(num_seeds).model_copy(update=update)


@pytest.mark.parametrize(
    ("top1", "arm", "why"),
    [
        ({"sl": 20, "ssl_sl": 22, "mix": 30}, "mix", "it wins over ssl_sl"),
        ({"sl": 20, "ssl_sl": 30, "mix": 25}, "ssl_sl", "it is ahead of all other arms"),
        ({"ssl_sl": 20, "mix": 20.1}, "ssl_sl", "it is the simplest arm that cannot be told apart"),
        ({"mix": 20, "ssl_sl_drop": 20, "sl": 10, "ssl_sl_one": 20}, "ssl_sl_one", ""),
        ({"ssl_sl": 20}, "ssl_sl", "it is the only arm that was run"),
    ],
)
def test_the_simplest_arm_that_cannot_be_told_from_the_best_is_advised(
    top1: dict[str, float], arm: str, why: str
) -> None:
    given = advice(pilot_of(top1))
    assert given is not None
    assert given.arm == arm
    assert why in given.why
    assert "nothing was decided" not in given.why


def test_a_pilot_that_decides_nothing_advises_and_says_so() -> None:
    given = advice(pilot_of({"sl": 20, "mix": 40}, num_seeds=1))
    assert given is not None
    assert given.arm == "mix"
    assert given.why.startswith("nothing was decided")


def test_nothing_is_advised_before_a_seed_is_through() -> None:
    assert advice(pilot_of({"sl": 20, "mix": 40}).model_copy(update={"arms": {"sl": (), "mix": ()}})) is None


def test_one_more_run_may_be_further_off_than_the_mean() -> None:
    runs = make_arms({"mix": 30}, seed_sd=1.0)["mix"]
    found = one_more(runs, Judged(2000))
    assert found.low < min(run.top1 for run in runs)
    assert found.high > max(run.top1 for run in runs)


def test_the_recommended_job_is_loaded_checked_and_run(
    digits_job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = {
        **digits_job,
        "storage": str(tmp_path / "runs"),
        "data": {**digits_job["data"], "fraction": 0.4, "label_fraction": 0.5},
        "cluster": {"workers": 0, "price_per_worker_hour": 3.6},
        "pilot": {"preset": "quick", "arms": ["sl", "mix"]},
    }
    report = raymix.pilot(job, quiet=True)
    said = capsys.readouterr().err
    assert "pilot: one seed has no spread, so no difference can be told" in said
    assert "advised: " in said
    file = tmp_path / "runs" / "digits" / "recommended.yaml"
    text = file.read_text()
    first, *comments = [line for line in text.splitlines() if line.startswith("#")]
    assert first == f"# raymix run {file}"
    told = " ".join(line.lstrip("# ") for line in comments)
    given = advice(report)
    assert given is not None
    for part in (
        f"advises {given.arm}: nothing was decided",
        "clock A",
        "Predicted seconds: ",
        "Predicted cost: ",
        "data.fraction 0.4",
        "data.label_fraction 0.5",
        "Top-1 in the pilot, on its part of the data: ",
    ):
        assert part in told, part
    assert all(len(line) <= 120 for line in comments)
    spec = load_spec(file)
    assert (spec.name, spec.seed, spec.storage) == ("digits-recommended", 1, str(tmp_path / "runs"))
    assert (spec.data.fraction, spec.data.label_fraction) == (1.0, 1.0)
    plan = check(spec).plan
    assert plan.facts.num_labelled == plan.facts.num_train == 1213
    done = raymix.run(spec, quiet=True)
    assert done.status == "done"
    assert done.rows.train == 1213
