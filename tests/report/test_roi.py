"""The return on investment: figures reckoned by hand, and what is not claimed."""

from __future__ import annotations

from typing import Any

import pytest

from raymix.report import roi_words
from raymix.report.figure import Interval
from raymix.report.money import Roi
from raymix.report.pilot import FailedRun, PilotReport, Verdict
from raymix.report.roi import roi
from raymix.spec import ReportSpec
from tests.report.factory import make_pilot
from tests.report.test_search import report_of, trial

LABELS = {"train": 800, "select": 100, "val": 100}


def of(value: float, low: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


LOST = FailedRun(name="mix-seed4-T2.00", arm="mix", seed=4, length=2.0, attempts=2, why="killed")
FASTER, GAIN = of(1.25, 1.1, 1.4), of(2.0, 1.0, 4.0)
# a training at T is billed 115.4 worker-seconds, 85.4 of them by clock A
BILLED = 25 * (3 * 30 + 85.4 * (1 / 1.29 + 1 + 2))


def made(gain: Interval | None = GAIN, faster: Interval | None = FASTER, **changes: Any) -> PilotReport:
    """A pilot of 5 seeds with a verdict of our choice, that held 2 workers for 10,000 s at 3.6 a worker-hour."""
    found = Verdict(text="", decided=True, winner="mix", rival="ssl_sl", top1_gain=gain, speedup=faster)
    report = make_pilot(5, price=changes.pop("price", 3.6))
    return report.model_copy(update={"verdict": found, "wall_seconds": 10_000.0, **changes})


def reckoned(report: PilotReport, *searches: Any, **asked: Any) -> Roi:
    return roi(report, ReportSpec.model_validate(asked), LABELS, searches)


def close(interval: Interval | None, value: float, low: float, high: float) -> bool:
    assert interval is not None
    return [interval.value, interval.low, interval.high] == pytest.approx([value, low, high])


def test_everything_that_the_pilot_held_is_spent_once() -> None:
    found = reckoned(made(), engineer_hours=10, price_per_engineer_hour=98, price_per_label=0.5)
    runs, beside, engineers = found.once
    assert runs.worker_seconds == pytest.approx(BILLED)
    assert runs.cost == pytest.approx(BILLED / 1000)
    assert beside.worker_seconds == pytest.approx(20_000 - BILLED), "wall times workers, less the runs"
    assert engineers.cost == 980
    assert found.once_total == pytest.approx(20 + 980)
    assert found.labels_cost == 500, "1,000 labels; they are paid in any case and stand outside the sum"


def test_runs_side_by_side_held_their_workers_each() -> None:
    _, beside, _ = reckoned(made(held_worker_seconds=30_000.0)).once
    assert beside.worker_seconds == pytest.approx(30_000 - BILLED)


def test_an_attempt_that_was_killed_does_not_make_the_rest_negative() -> None:
    once = reckoned(made(wall_seconds=1.0)).once
    assert [item.amount for item in once[:2]] == pytest.approx([BILLED / 1000, 0])
    assert once[1].what == "not known: an attempt was killed"


def test_merged_runs_are_billed_and_were_not_held_here() -> None:
    report = made()
    name = report.arms["mix"][0].report.split("/")[-2]
    merged = [run for of in report.arms.values() for run in of if run.report.split("/")[-2] == name]
    elsewhere = sum(run.billed_worker_seconds for run in merged)
    runs, beside, *_ = reckoned(report.model_copy(update={"merged": (name,)})).once
    assert runs.worker_seconds == pytest.approx(BILLED)
    assert beside.worker_seconds == pytest.approx(20_000 - BILLED + elsewhere)


def test_saving_and_break_even_follow_the_interval_of_the_speedup() -> None:
    found = reckoned(made(), engineer_hours=10, price_per_engineer_hour=98, retrainings_per_year=100).saving
    # steps of ssl_sl are 85.4 worker-seconds, mix needs 1 / s of them; a worker-second costs 0.001
    saved = [0.0854 * (1 - 1 / s) for s in (1.25, 1.1, 1.4)]
    assert found.outcome == "told"
    assert close(found.per_training, *saved)
    assert close(found.per_year, *(100 * amount for amount in saved))
    assert close(found.break_even, 1000 / saved[0], 1000 / saved[2], 1000 / saved[1])
    assert close(found.break_even_years, 10 / saved[0], 10 / saved[2], 10 / saved[1])


def test_a_higher_bill_comes_off_the_saving() -> None:
    report = made()
    slow = tuple(run.model_copy(update={"billed_worker_seconds": 150.0}) for run in report.arms["mix"])
    found = reckoned(report.model_copy(update={"arms": {**report.arms, "mix": slow}}))
    assert found.saving.outcome == "none", "24.4 worker-seconds at 1.4x, and 34.6 more billed at T"
    assert found.saving.break_even is None
    assert roi_words.break_even(found) == "never"
    assert found.gain.extra == pytest.approx(0.0346)


def test_a_lower_bill_at_equal_seconds_is_not_credited() -> None:
    report = made()
    cheap = tuple(run.model_copy(update={"billed_worker_seconds": 100.0}) for run in report.arms["mix"])
    found = reckoned(report.model_copy(update={"arms": {**report.arms, "mix": cheap}}))
    assert found.gain.extra == 0
    assert found.saving.per_training == reckoned(report).saving.per_training


def test_a_point_costs_what_was_spent_once_and_a_years_higher_bills() -> None:
    report = made()
    dear = tuple(run.model_copy(update={"billed_worker_seconds": 215.4}) for run in report.arms["mix"])
    report = report.model_copy(update={"arms": {**report.arms, "mix": dear}})
    once = (20_000 + max(0.0, _billed(report) - 20_000)) / 1000
    assert close(reckoned(report).gain.per_point, once / 2, once / 4, once / 1)
    # 0.1 a training more, 100 times a year
    asked = {"retrainings_per_year": 100, "value_per_point": 30.0}
    gain = reckoned(report, **asked).gain
    assert close(gain.per_point, (once + 10) / 2, (once + 10) / 4, (once + 10) / 1)
    assert close(gain.value_per_year, 50, 20, 110)
    assert close(gain.break_even_years, once / 50, once / 110, once / 20)
    small = reckoned(report, **{**asked, "value_per_point": 9.0}).gain
    assert close(small.value_per_year, 8, -1, 26)
    assert small.break_even_years is None, "the value may be less than the higher bills"


def _billed(report: PilotReport) -> float:
    return sum(run.billed_worker_seconds for runs in report.arms.values() for run in runs)


@pytest.mark.parametrize(
    ("gain", "faster", "outcomes", "whys"),
    [
        (
            Interval(value=0.5, low=-0.5, high=1.5),
            FASTER,
            ("told", "open"),
            ("", "the interval of the gain includes 0"),
        ),
        (
            GAIN,
            Interval(value=1.1, low=0.9, high=1.3),
            ("open", "told"),
            ("the interval of the speed-up includes 1", ""),
        ),
        (
            GAIN,
            Interval(value=1.1, low=0, high=1.3),
            ("open", "told"),
            ("mix may not reach the accuracy of ssl_sl", ""),
        ),
        (GAIN, None, ("open", "told"), ("mix does not reach the accuracy of ssl_sl at any length compared", "")),
        (
            of(-2, -3, -1),
            of(0.8, 0.7, 0.9),
            ("none", "none"),
            ("at equal accuracy a training by mix costs no less", "at equal step-seconds mix has no point more"),
        ),
    ],
)
def test_no_figure_where_an_interval_leaves_it_open(
    gain: Interval, faster: Interval | None, outcomes: tuple[str, str], whys: tuple[str, str]
) -> None:
    found = reckoned(made(gain, faster), retrainings_per_year=12, value_per_point=100)
    assert (found.saving.outcome, found.gain.outcome) == outcomes
    assert found.saving.why.startswith(whys[0])
    assert found.gain.why.startswith(whys[1])
    if outcomes[0] != "told":
        assert found.saving.break_even is None
        assert found.saving.break_even_years is None
    if outcomes[1] != "told":
        assert (found.gain.per_point, found.gain.value_per_year, found.gain.break_even_years) == (None, None, None)
    shown = {name: figure for name, figure, _ in roi_words.findings(found)}
    assert shown["break-even"] == {"open": "not told", "none": "never"}.get(outcomes[0], shown["break-even"])
    assert shown["cost of a point gained"] == {"open": "not told", "none": "none"}.get(
        outcomes[1], shown["cost of a point gained"]
    )


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (make_pilot(1, gain=20, price=3.0, lengths=(1.0,)), "preset quick decides nothing"),
        (make_pilot(4, gain=20, price=3.0), "below 5 seeds nothing is decided"),
        (made(status="interrupted"), "the pilot did not come to its end"),
        (made(status="failed", failed=(LOST,)), "runs of the pilot failed"),
        (
            made().model_copy(
                update={
                    "verdict": Verdict(text="", decided=False, winner="mix", rival=None, top1_gain=None, speedup=None),
                    "arms": {"mix": made().arms["mix"]},
                }
            ),
            "there is no second arm to compare with",
        ),
    ],
)
def test_nothing_is_claimed_before_something_is_decided(report: PilotReport, why: str) -> None:
    found = reckoned(report, retrainings_per_year=12, value_per_point=100)
    assert found.open == why
    assert found.saving.model_dump(exclude={"outcome", "why"}) == type(found.saving)(outcome="open").model_dump(
        exclude={"outcome", "why"}
    )
    assert found.gain.per_point is None
    assert found.once_total, "what was spent is known all the same"
    assert roi_words.headline(found, report) == f"No return is claimed: {why}."


def test_a_pilot_without_a_finished_run_has_costs_alone() -> None:
    nothing = Verdict(text="", decided=False, winner=None, rival=None, top1_gain=None, speedup=None)
    found = reckoned(made(status="interrupted", verdict=nothing, arms={"mix": ()}))
    assert found.once_total == pytest.approx(20)
    assert found.trainings == ()
    assert found.lead is None


def test_without_mix_the_return_is_the_winners() -> None:
    report = made()
    arms = {name: runs for name, runs in report.arms.items() if name != "mix"}
    found = Verdict(text="", decided=True, winner="ssl_sl", rival="sl", top1_gain=GAIN, speedup=FASTER)
    assert reckoned(report.model_copy(update={"arms": arms, "verdict": found})).lead == "ssl_sl"


def test_without_a_price_all_is_in_worker_seconds() -> None:
    found = reckoned(made(price=None), retrainings_per_year=12, value_per_point=100)
    assert found.unit == "worker-seconds"
    assert found.once_total == pytest.approx(20_000)
    assert close(found.saving.per_training, 85.4 * 0.2, 85.4 * (1 - 1 / 1.1), 85.4 * (1 - 1 / 1.4))
    assert found.gain.value_per_year is None, "money and worker-seconds do not go together"
    assert all(one.cost is None for one in found.trainings)
    shown = " ".join(figure for _, figure, _ in roi_words.findings(found))
    assert "1,171 retrainings (820 to 2,577)" in shown
    assert roi_words.once_cells(found)[-1] == ("all", "", "5.56", "price not set")


def test_engineers_cannot_be_added_to_worker_seconds() -> None:
    found = reckoned(made(price=None), engineer_hours=10, price_per_engineer_hour=98)
    assert found.once_total is None
    assert found.saving.outcome == "told"
    assert found.saving.break_even is None
    assert roi_words.break_even(found) == "not told"
    assert found.gain.per_point is None
    assert roi_words.break_even_note(found) == "what was spent once cannot be added up: a price is not set"
    assert reckoned(made(price=None), engineer_hours=0).once_total == pytest.approx(20_000), "none cost nothing"


def test_engineers_that_nobody_counted_are_said_to_be_missing() -> None:
    found = reckoned(made())
    assert found.once[-1].what == "not counted: report.engineer_hours not set"
    assert "engineers not counted" in roi_words.headline(found, made())
    assert any("report.engineer_hours" in line for line in roi_words.not_measured(found, made()))


def test_a_search_is_counted_at_its_own_price_or_the_pilots() -> None:
    search = report_of(trial(1))  # 60 worker-seconds on CPUs
    assert reckoned(made(), search).once[2].cost == pytest.approx(0.06)
    assert reckoned(made(), search.model_copy(update={"cost": 7.0})).once_total == pytest.approx(27)
    assert reckoned(made(price=None), search).once_total == pytest.approx(20_060)
    on_gpus = search.model_copy(update={"device": "cuda"})
    assert reckoned(made(), on_gpus).once_total is None, "another device, and nobody said what it costs"
    assert reckoned(made(price=None), on_gpus).once_total is None


def test_a_speedup_that_is_a_bound_gives_bounds() -> None:
    found = reckoned(made(faster=of(1.4, 1.2, 1.4)), retrainings_per_year=5000)
    assert found.saving.at_least
    assert roi_words.break_even(found) == "820 retrainings or fewer (up to 1,406)"
    assert roi_words.break_even_years(found) == "2.0 months or less (up to 3.4)"
    assert "saves at least 0.0244 (0.0142 or more) a retraining" in roi_words.headline(found, made())


def test_a_break_even_beyond_all_plans_is_called_that() -> None:
    found = reckoned(made(), retrainings_per_year=1)
    assert roi_words.break_even_years(found) == "over 20 years at the saving told"
    assert "is not back within 20 years" in roi_words.headline(found, made())


def test_a_price_of_nothing_saves_nothing() -> None:
    found = reckoned(made(price=0.0))
    assert found.saving.outcome == "none"
    assert found.once_total == 0


def test_what_was_spent_is_told_in_labels_where_these_have_a_price() -> None:
    line = roi_words.labels_line(reckoned(made(), price_per_label=0.1))
    assert line.startswith("Labels: 1,000 (800 train, 100 select, 100 val), 100.00; paid whichever arm is used")
    assert "would buy 200 more labels; what these would bring was not measured." in line
    assert "report.price_per_label not set" in roi_words.labels_line(reckoned(made()))


def test_no_other_saving_is_made_up() -> None:
    missing = " ".join(roi_words.not_measured(reckoned(made()), made()))
    assert "Whether mix needs fewer labels" in missing
    assert "No search is named" in missing
