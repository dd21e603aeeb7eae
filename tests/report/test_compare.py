"""What a verdict says, and when it says that it decides nothing."""

from __future__ import annotations

import numpy as np
import pytest

from raymix.report.compare import verdict
from raymix.report.judging import Judged
from raymix.report.pilot import PilotRun
from tests.report.factory import make_arm, make_arms, make_pilot


def test_a_clear_win_names_gain_interval_rival_clock_and_cost() -> None:
    found = verdict(make_arms({"sl": 20, "ssl_sl": 30, "mix": 40}), Judged(2000))
    assert found.decided
    assert (found.winner, found.rival, found.clock) == ("mix", "ssl_sl", "A")
    assert found.top1_gain is not None
    assert found.top1_gain.low > 0
    assert found.text.startswith(f"mix wins: {found.top1_gain.value:+.2f} points of top-1 over ssl_sl")
    for part in ("best of the 2 other arms", "95 % interval", "n = 5 paired seeds", "2,000 val images"):
        assert part in found.text
    assert "clock A" in found.text
    assert "price not set" in found.text


def test_the_gain_is_over_the_best_of_the_others_not_the_weakest() -> None:
    arms = make_arms({"sl": 15, "ssl_sl": 31, "ssl_sl_one": 25, "mix": 36})
    means = {name: np.mean([run.top1 for run in runs]) for name, runs in arms.items()}
    found = verdict(arms, Judged(2000))
    assert found.rival == "ssl_sl"
    assert found.top1_gain is not None
    assert found.top1_gain.value == pytest.approx(means["mix"] - means["ssl_sl"])


def test_a_loss_is_called_a_loss() -> None:
    found = verdict(make_arms({"ssl_sl": 40, "sl": 20, "mix": 30}), Judged(2000))
    assert found.decided
    assert (found.winner, found.rival) == ("ssl_sl", "ssl_sl")
    assert found.top1_gain is not None
    assert found.top1_gain.high < 0
    assert found.text.startswith("mix loses: -")
    assert "pay" not in found.text


def test_no_difference_is_said_with_its_limit_and_seeds() -> None:
    found = verdict(make_arms({"ssl_sl": 30, "mix": 30}), Judged(2000))
    assert found.decided
    assert found.text.startswith("No difference above ")
    assert "points detectable with 5 seeds between mix and ssl_sl, the only other arm" in found.text
    assert "wins" not in found.text
    assert "pay" not in found.text


@pytest.mark.parametrize("num_seeds", [1, 2, 4])
def test_too_few_seeds_decide_nothing(num_seeds: int) -> None:
    found = verdict(make_arms({"ssl_sl": 20, "mix": 60}, num_seeds), Judged(2000))
    assert not found.decided
    assert found.text.startswith("This decides nothing (")
    assert "wins" not in found.text
    assert found.top1_gain is not None
    assert found.speedup is None
    assert ("over images alone" in found.text) == (num_seeds == 1)


def test_the_quick_preset_decides_nothing_with_any_number_of_seeds() -> None:
    found = verdict(make_arms({"ssl_sl": 20, "mix": 60}), Judged(2000), preset="quick")
    assert not found.decided
    assert "preset quick" in found.text


def test_without_mix_the_best_arm_meets_the_second_best() -> None:
    found = verdict(make_arms({"sl": 20, "ssl_sl": 40, "ssl_sl_one": 30}), Judged(2000))
    assert (found.winner, found.rival) == ("ssl_sl", "ssl_sl_one")
    assert found.text.startswith("ssl_sl wins")
    assert found.text.endswith("mix was not compared: ssl_sl was picked after seeing the results, which favours it.")


def test_one_arm_has_nobody_to_beat() -> None:
    found = verdict(make_arms({"mix": 40}), Judged(2000))
    assert not found.decided
    assert (found.winner, found.rival, found.top1_gain) == ("mix", None, None)
    assert "Only mix was run" in found.text


@pytest.mark.parametrize("arms", [{}, {"mix": (), "sl": ()}])
def test_nothing_run_is_nothing_compared(arms: dict[str, tuple[PilotRun, ...]]) -> None:
    found = verdict(arms, Judged(2000))
    assert not found.decided
    assert found.winner is None
    assert found.text.startswith("Nothing to compare yet")


def test_a_pilot_cut_short_counts_the_seeds_that_all_arms_have() -> None:
    arms = make_arms({"ssl_sl": 20, "mix": 40})
    found = verdict({**arms, "mix": arms["mix"][:3], "sl": ()}, Judged(2000))
    assert not found.decided
    assert "3 seeds" in found.text


def test_arms_that_answer_alike_are_no_difference() -> None:
    same = make_arms({"ssl_sl": 30})["ssl_sl"]
    found = verdict({"ssl_sl": same, "mix": same}, Judged(2000))
    assert found.text.startswith("No difference above 0.05 points")
    assert found.top1_gain is not None
    assert found.top1_gain.low == found.top1_gain.high == 0


def test_other_lengths_do_not_enter_the_gain() -> None:
    arms = make_arms({"ssl_sl": 30, "mix": 30})
    longer = {"ssl_sl": arms["ssl_sl"], "mix": arms["mix"] + make_arm(np.ones((5, 2000), dtype=bool), 2.0)}
    assert verdict(longer, Judged(2000)).top1_gain == verdict(arms, Judged(2000)).top1_gain


def test_unequal_seconds_are_not_called_equal() -> None:
    arms = make_arms({"ssl_sl": 30, "mix": 40})
    slow = tuple(run.model_copy(update={"planned_seconds": 60.0}) for run in arms["mix"])
    assert "not equal" in verdict({**arms, "mix": slow}, Judged(2000)).text
    assert "at equal step-seconds" in verdict(arms, Judged(2000)).text


def test_several_lengths_tell_a_speedup_with_rival_clock_and_equality() -> None:
    found = make_pilot(5, gain=4.0).verdict
    assert found.speedup is not None
    assert found.speedup.value >= 1
    assert "at equal accuracy: mix reaches what ssl_sl has at T" in found.text
    assert "x (95 % interval over seeds" in found.text


def test_a_speedup_that_is_not_reached_is_not_told() -> None:
    found = make_pilot(5, gain=-9.0).verdict
    assert found.speedup is None
    assert "No speed-up told" in found.text


def test_a_verdict_that_is_another_one_at_another_length_says_so() -> None:
    at_t, short = make_arms({"sl": 20, "ssl_sl": 30, "mix": 40}), make_arms({"sl": 20, "ssl_sl": 40, "mix": 30})
    arms = {
        name: runs + tuple(run.model_copy(update={"length": 0.5}) for run in short[name]) for name, runs in at_t.items()
    }
    found = verdict(arms, Judged(2000))
    assert found.text.startswith("mix wins: ")
    gain = np.mean([run.top1 for run in short["mix"]]) - np.mean([run.top1 for run in short["ssl_sl"]])
    assert f"At T/2 mix has {gain:+.2f} points against ssl_sl, the best other arm there (-" in found.text
    assert "At T " not in found.text
    few = {name: runs[:5] + runs[5:9] for name, runs in arms.items()}
    assert "At T/2" not in verdict(few, Judged(2000)).text  # four seeds decide nothing


def test_cost_is_told_where_there_is_a_price() -> None:
    tables = make_arms({"ssl_sl": 30, "mix": 40})
    priced = {name: tuple(run.model_copy(update={"cost": 1.5}) for run in runs) for name, runs in tables.items()}
    text = verdict(priced, Judged(2000), unit="GPU-seconds").text
    assert "GPU-seconds" in text
    assert "a cost of 1.50 and 1.50" in text
    assert "price not set" not in text


def test_a_pair_counts_the_seeds_that_both_have_and_every_arm_needs_five() -> None:
    arms = make_arms({"sl": 20, "ssl_sl": 30, "mix": 40}, num_seeds=8)
    found = verdict({**arms, "sl": arms["sl"][:5]}, Judged(2000))
    assert found.decided
    assert "n = 8 paired seeds" in found.text
    assert found.top1_gain == verdict({"ssl_sl": arms["ssl_sl"], "mix": arms["mix"]}, Judged(2000)).top1_gain
    few = verdict({**arms, "sl": arms["sl"][:4]}, Judged(2000))
    assert not few.decided, "the best of the others is not known over four seeds"
    assert "4 seeds that all arms have" in few.text
