"""Bits, intervals, the smallest detectable difference and the speed-up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raymix.report.compare import detectable, pack_correct, paired_interval, speedup, unpack_correct
from raymix.report.intervals import (
    bootstrap_means,
    detectable_in,
    interval_of,
    own_interval,
    share_interval,
    standard_error,
    t_quantile,
)
from raymix.report.judging import Judged
from tests.report.factory import make_answers, make_arm, make_pilot_run


@pytest.mark.parametrize("num_rows", [0, 1, 7, 8, 9, 1797])
def test_bits_come_back_as_they_were(num_rows: int) -> None:
    correct = np.random.default_rng(num_rows).random(num_rows) < 0.3
    assert np.array_equal(unpack_correct(pack_correct(correct), num_rows), correct)


def test_a_list_of_bools_packs_like_an_array() -> None:
    assert pack_correct([True, False, False, False, False, False, False, False, True]) == "8080"


@pytest.mark.parametrize("num_rows", [8, 17])
def test_bits_of_another_number_of_rows_are_refused(num_rows: int) -> None:
    with pytest.raises(ValueError, match="cannot be those of"):
        unpack_correct(pack_correct([True] * 9), num_rows)


def test_the_bootstrap_is_the_plain_difference_in_expectation() -> None:
    a, b = make_answers([40, 35], 5, 1000)
    d = a.astype(float) - b
    means = bootstrap_means(d, 20_000, 0)
    assert means.mean() == pytest.approx(d.mean(), abs=4 * means.std() / math.sqrt(len(means)))
    assert interval_of(d).value == pytest.approx(100 * d.mean())


def test_the_interval_is_the_same_each_time() -> None:
    a, b = (make_arm(table) for table in make_answers([40, 35], 5, 500))
    assert paired_interval(a, b, Judged(500)) == paired_interval(a, b, Judged(500))


def test_seeds_are_paired_whatever_their_order() -> None:
    a, b = (make_arm(table) for table in make_answers([40, 35], 5, 500))
    assert paired_interval(a, b[::-1], Judged(500)) == paired_interval(a, b, Judged(500))


def test_arms_without_a_common_seed_cannot_be_paired() -> None:
    row = np.ones(10, dtype=bool)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_interval([make_pilot_run(row, 0)], [make_pilot_run(row, 1)], Judged(10))


def test_pairing_narrows_the_interval_where_arms_agree_on_images() -> None:
    a, b = make_answers([40, 36], 5, 2000)
    paired = interval_of(a.astype(float) - b)
    shuffled = b[:, np.random.default_rng(1).permutation(2000)]  # the same accuracies, other images
    unpaired = interval_of(a.astype(float) - shuffled)
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.8 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize("seed_sd", [0.0, 4.0])
def test_the_interval_covers_a_known_difference(seed_sd: float) -> None:
    """Both arms have the same chances, so the true difference is 0. 120 repetitions: 95 % is 114, chance allows 106."""
    covered = 0
    for repetition in range(120):
        a, b = make_answers([30, 30], 5, 200, seed_sd, rng_seed=repetition)
        found = interval_of(a.astype(float) - b, resamples=400)
        covered += found.low <= 0 <= found.high
    assert covered >= 106


def test_more_seeds_and_more_images_narrow_the_interval() -> None:
    def width(num_seeds: int, num_val: int) -> float:
        a, b = make_answers([40, 36], num_seeds, num_val)
        found = interval_of(a.astype(float) - b)
        return found.high - found.low

    assert width(8, 2000) < width(3, 2000)
    assert width(5, 4000) < width(5, 500)


def test_one_seed_gives_the_interval_over_images() -> None:
    a, b = make_answers([40, 36], 1, 2000)
    d = a.astype(float) - b
    found = interval_of(d)
    expected = 2 * 1.96 * 100 * d.std(ddof=1) / math.sqrt(2000)
    assert found.high - found.low == pytest.approx(expected, rel=0.05)


def test_arms_that_are_alike_have_an_interval_of_nothing() -> None:
    found = interval_of(np.zeros((5, 100)))
    assert (found.low, found.value, found.high) == (0, 0, 0)
    assert detectable_in(np.zeros((5, 100))) == 1.0  # one image


def test_seeds_that_differ_raise_the_error_and_lower_its_freedom() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0, 1, (5, 1000))
    alone, freedom = standard_error(d)
    error, seeds_alone = standard_error(d + rng.normal(0, 1, (5, 1)))
    assert error > 5 * alone
    assert seeds_alone == pytest.approx(4, abs=0.1)
    assert freedom >= 4


@pytest.mark.parametrize(("freedom", "expected"), [(4, 2.776), (7, 2.365), (30, 2.042), (1e6, 1.960)])
def test_t_quantiles(freedom: float, expected: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(expected, rel=0.004)


def test_detectable_falls_with_seeds_and_images() -> None:
    assert detectable(5000, 8) < detectable(5000, 5) < detectable(5000, 2)
    assert detectable(10_000, 5) < detectable(1000, 5)
    assert detectable(1000, 5, top1=50) > detectable(1000, 5, top1=10)
    assert 0.5 < detectable(5000, 5) < 2


def test_detectable_answers_for_odd_questions() -> None:
    assert all(math.isfinite(detectable(rows, seeds, top1)) for rows in (0, 1) for seeds in (0, 1) for top1 in (0, 100))


def _flat(top1: float, num_seeds: int = 5) -> np.ndarray:
    """Each seed gets the same share right."""
    return np.tile(np.arange(1000) < 10 * top1, (num_seeds, 1))


def test_speedup_is_interpolated_in_log_seconds() -> None:
    rival = make_arm(_flat(20))
    lead = make_arm(_flat(18), 0.5) + make_arm(_flat(22), 1.0)
    found = speedup(lead, rival)
    assert found is not None
    assert found.value == pytest.approx(math.sqrt(2))  # half way between T/2 and T in log seconds
    assert found.low <= found.value <= found.high


def test_speedup_is_bounded_by_the_shortest_length() -> None:
    found = speedup(make_arm(_flat(25), 0.5) + make_arm(_flat(26), 1.0), make_arm(_flat(20)))
    assert found is not None
    assert found.value == found.high == pytest.approx(2.0)


def test_speedup_is_not_told_when_not_reached_or_not_comparable() -> None:
    rival = make_arm(_flat(30))
    assert speedup(make_arm(_flat(18), 0.5) + make_arm(_flat(22), 1.0), rival) is None
    assert speedup(make_arm(_flat(40)), rival) is None
    assert speedup((), rival) is None


def test_a_slower_arm_has_a_speedup_below_one() -> None:
    found = speedup(make_arm(_flat(18)) + make_arm(_flat(22), 2.0), make_arm(_flat(20)))
    assert found is not None
    assert found.value == pytest.approx(1 / math.sqrt(2))


def test_speedup_says_when_some_resamples_never_reach_the_rival() -> None:
    rows = np.stack([np.arange(1000) < 10 * top1 for top1 in (10, 10, 25, 28, 30)])
    found = speedup(make_arm(_flat(15), 0.5) + make_arm(rows), make_arm(_flat(20)))
    assert found is not None
    assert found.low == 0
    assert found.value > 0


@pytest.mark.parametrize(
    ("right", "num", "low", "high"), [(8, 10, 49.02, 94.33), (0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0)]
)
def test_the_interval_of_a_share_is_wilsons(right: int, num: int, low: float, high: float) -> None:
    found = share_interval(right, num)
    assert found.value == pytest.approx(100 * right / num)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


@pytest.mark.parametrize("share", [0, 1])
def test_the_interval_of_a_share_holds_it_where_none_or_all_are_right(share: int) -> None:
    """Rounding leaves no negative error bar, which no plot takes."""
    for num in range(1, 1000):
        run = make_arm(np.full((1, num), bool(share)))
        for found in (share_interval(share * num, num), own_interval(run, Judged(num))):
            assert found.low <= found.value <= found.high
            assert found.value == 100 * share


def test_the_interval_of_one_arm_covers_its_true_accuracy() -> None:
    """Over images alone with one seed, over both with more; answers that are all right leave no room."""
    inside, rng = 0, np.random.default_rng(0)
    for _ in range(200):
        answers = rng.random((5, 400)) < rng.beta(0.4, 0.6, 400)  # an image is hard or easy for every seed
        found = own_interval(make_arm(answers), Judged(400))
        assert found.low <= found.value <= found.high
        assert found.value == pytest.approx(100 * answers.mean())
        inside += found.low <= 40 <= found.high
    assert 180 <= inside <= 199
    assert own_interval(make_arm(answers[:1]), Judged(400)) == share_interval(answers[0].sum(), 400)
    assert own_interval(make_arm(np.ones((3, 50), dtype=bool)), Judged(50)).low == 100


def test_seeds_that_all_give_the_same_answers_leave_the_spread_over_images() -> None:
    answers = np.tile(np.random.default_rng(0).random(400) < 0.3, (3, 1))
    error, freedom = standard_error(answers.astype(float))
    assert error == pytest.approx(answers[0].std(ddof=1) / math.sqrt(400))
    assert freedom == pytest.approx(400 - 1)
