"""How often the intervals of a comparison hold the true difference, in simulated pilots: about 6 minutes."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from raymix.report.intervals import interval_of

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3000)]

NORMAL = NormalDist()
SIMULATIONS, RESAMPLES, NUM_VAL, TOP1 = 2000, 300, 5000, 20.0
# shares of an answer's variance: by the image for both arms, by the image for one arm; the rest is chance
IMAGE, IMAGE_ARM = 0.66, 0.03


def simulated(random: np.random.Generator, gain: float, num_seeds: int, seed_sd: float = 0.3) -> np.ndarray:
    """`d` of two arms, the second at TOP1 percent and the first `gain` points above, in expectation.

    An answer is right where image + image and arm + seed and arm + chance are above a threshold. Images and seeds are
    drawn anew each time. Answers to one image correlate by about 0.5; a seed moves the difference by `seed_sd` points
    beyond what chance does.
    """
    sd = seed_sd / 100 / math.sqrt(2) / NORMAL.pdf(NORMAL.inv_cdf(TOP1 / 100))
    image = math.sqrt(IMAGE) * random.normal(size=NUM_VAL)
    right = []
    for top1 in (TOP1 + gain, TOP1):
        middle = NORMAL.inv_cdf(top1 / 100) * math.sqrt(1 + sd**2)
        own, seed = math.sqrt(IMAGE_ARM) * random.normal(size=NUM_VAL), sd * random.normal(size=(num_seeds, 1))
        chance = math.sqrt(1 - IMAGE - IMAGE_ARM) * random.normal(size=(num_seeds, NUM_VAL))
        right.append((middle + image + own + seed + chance > 0).astype(float))
    return right[0] - right[1]


@pytest.mark.parametrize("num_seeds", [5, 8])
@pytest.mark.parametrize("gain", [0.0, 0.5, 2.0])
def test_a_95_percent_interval_holds_the_truth_95_times_in_100(num_seeds: int, gain: float) -> None:
    random = np.random.default_rng(num_seeds)
    held, widths = 0, []
    for _ in range(SIMULATIONS):
        found = interval_of(simulated(random, gain, num_seeds), RESAMPLES)
        held += found.low <= gain <= found.high
        widths.append(found.high - found.low)
    coverage = 100 * held / SIMULATIONS
    print(f"\n{num_seeds} seeds, {gain} points: {coverage:.1f} %, half {np.mean(widths) / 2:.2f} points")
    assert 93 <= coverage <= 97
