"""Planted crossings are found where they are, with an interval that holds them; without one none is found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raymix.report.crossing import Draw, Resampled, changes, reached
from raymix.report.intervals import interval_of
from tests.report.factory import make_answers

PLACES = [math.log(share) for share in (0.1, 0.25, 0.5, 1.0)]


def curve(*values: float, sd: float = 0.3) -> list[Draw]:
    """Differences whose draws spread about their values, those of a draw alike."""
    noise = np.random.default_rng(0).normal(0, sd, 2000)
    return [Draw(value, value + noise) for value in values]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_planted_crossing_is_found_between_its_cells(turn: int) -> None:
    (found,) = changes(PLACES, curve(turn * 3, turn * 2, turn * -2, turn * -3))
    assert (found.before, found.after, found.rises) == (1, 2, turn < 0)
    assert math.exp(found.place.value) == pytest.approx(math.sqrt(0.25 * 0.5)), "halfway in the logarithm"
    assert 0.25 < math.exp(found.place.low) < math.exp(found.place.value) < math.exp(found.place.high) < 0.5


def test_a_difference_of_one_sign_has_no_crossing() -> None:
    assert changes(PLACES, curve(3, 2, 1, 0.1)) == []
    assert changes(PLACES, curve(-3, -2, 0.0, -1)) == [], "nought is no change of sign"


def test_nought_in_a_cell_is_where_it_crosses() -> None:
    (found,) = changes(PLACES, curve(-2, 0, 1, 2))
    assert math.exp(found.place.value) == pytest.approx(0.25)
    assert (found.before, found.after) == (0, 2)


def test_two_crossings_are_told_apart() -> None:
    up, down = changes(PLACES, curve(-2, 2, 2, -2))
    assert (up.rises, down.rises) == (True, False)
    assert up.place.high < PLACES[1] < PLACES[2] < down.place.low


def test_a_crossing_near_the_end_may_lie_beyond_it() -> None:
    (found,) = changes(PLACES, curve(3, 2, 1, -0.1, sd=0.5))
    assert found.place.high == math.inf
    assert math.exp(found.place.low) > 0.5
    (found,) = changes(PLACES, curve(0.1, -1, -2, -3, sd=0.5))
    assert found.place.low == -math.inf


def test_a_height_is_first_reached_or_beyond_the_range() -> None:
    place = reached(PLACES, curve(-3, -1, 1, 3))
    assert math.exp(place.value) == pytest.approx(math.sqrt(0.25 * 0.5))
    assert place.low < place.value < place.high
    assert reached(PLACES, curve(-3, -2, -2, -1)) == (math.inf, math.inf, math.inf)
    assert reached(PLACES, curve(2, 3, 4, 5)) == (-math.inf, -math.inf, -math.inf)
    assert reached(PLACES, curve(-3, -2, -1, -0.1))[1:] == (pytest.approx(place.high, abs=1), math.inf)


@pytest.mark.parametrize("num_seeds", [1, 5])
def test_draws_are_as_wide_as_the_interval_of_a_pilot(num_seeds: int) -> None:
    a, b = (table.astype(float) for table in make_answers([22, 20], num_seeds, 1000, 0.3))
    draw = Resampled({(0, "a"): a, (0, "b"): b}).difference((0, "a"), (0, "b"))
    told = interval_of(a - b)
    low, high = np.quantile(draw.drawn, [0.025, 0.975])
    assert draw.value == pytest.approx(told.value)
    assert (low, high) == pytest.approx((told.low, told.high), abs=0.15 * (told.high - told.low))


def test_cells_are_resampled_together() -> None:
    (table,) = make_answers([20], 5, 500)
    tables = {(place, "a"): table.astype(float) for place in range(2)} | {(0, "b"): 1.0 - table}
    drawn = Resampled(tables)
    assert (drawn.means[0, "a"] == drawn.means[1, "a"]).all()
    np.testing.assert_allclose(drawn.means[0, "a"] + drawn.means[0, "b"], 100)
