"""Where a difference changes its sign along a sweep, and where one curve reaches another's height: with intervals.

Seeds and val images are the same in every cell of a sweep, so all cells are resampled together: a draw of the bootstrap
is a set of seeds and a set of images, with which every cell's difference is taken anew and the crossing is found again.
Between neighbouring cells a difference is taken to be linear in the logarithm of the share; nothing is extrapolated.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from raymix.report.intervals import CHUNK, LEVEL, RESAMPLES, first_reached, standard_error, t_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Key = tuple[int, str]  # cell, arm
MIN_RESAMPLES = 200
RESAMPLED_IMAGES = 10_000_000  # over many val rows fewer resamples do


class Draw(NamedTuple):
    """A difference, in points: as it is, and with seeds and images drawn anew."""

    value: float
    drawn: Floats  # (resamples,)


class Place(NamedTuple):
    """A place on an axis with its 95 % interval; plus or minus infinity: beyond the range that was swept."""

    value: float
    low: float
    high: float


class Change(NamedTuple):
    """A change of sign: between the cells `before` and `after`, from minus to plus where it `rises`."""

    place: Place
    before: int
    after: int
    rises: bool


class Resampled:
    """Tables of right answers, one for each arm and cell, all with the same seeds and images drawn anew.

    Attributes:
        tables: by cell and arm, 1 where a run was right on a val row, else 0; each (seeds, images), of the same seeds.
        means: of each table, in percent, (resamples,).
    """

    def __init__(self, tables: Mapping[Key, Floats], resamples: int = RESAMPLES, rng_seed: int = 0) -> None:
        import numpy as np

        self.tables, self.means = dict(tables), dict[Key, "Floats"]()
        if not self.tables:
            return
        num_seeds, num_images = next(iter(self.tables.values())).shape
        resamples = min(resamples, max(MIN_RESAMPLES, RESAMPLED_IMAGES // num_images))
        rng = np.random.default_rng(rng_seed)
        seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=resamples) / num_seeds
        found = np.empty((resamples, len(self.tables)))
        columns = np.concatenate(list(self.tables.values())).T  # (images, tables * seeds)
        step = max(1, CHUNK // num_images)
        for start in range(0, resamples, step):
            num = min(step, resamples - start)
            images = rng.integers(0, num_images, (num, num_images)) + num_images * np.arange(num)[:, None]
            counts = np.bincount(images.ravel(), minlength=num * num_images).reshape(num, num_images)
            by_seed = (counts @ columns / num_images).reshape(num, len(self.tables), num_seeds)
            found[start : start + num] = np.einsum("rts,rs->rt", by_seed, seeds[start : start + num])
        self.means = dict(zip(self.tables, 100 * found.T, strict=True))

    def difference(self, a: Key, b: Key) -> Draw:
        """The mean of a table minus that of another, its draws as wide as `interval_of` makes them for few seeds."""
        d = self.tables[a] - self.tables[b]
        value, drawn = 100 * float(d.mean()), self.means[a] - self.means[b]
        error, freedom = standard_error(d)
        width = 100 * t_quantile(0.5 + LEVEL / 2, freedom) / NormalDist().inv_cdf(0.5 + LEVEL / 2) * error
        return Draw(value, value + width / (float(drawn.std()) or 1.0) * (drawn - value))


def changes(places: Sequence[float], curve: Sequence[Draw]) -> list[Change]:
    """Every change of sign of a difference along an axis, from its lowest place to its highest.

    A draw's crossing is the one of the same direction that is nearest to the one found; a draw that has none lies
    beyond the range, on the side on which its sign says that the crossing must be.

    Args:
        places: of the cells, rising; shares as logarithms.
        curve: the difference in each of these cells.
    """
    import numpy as np

    values = [draw.value for draw in curve]
    signed = [index for index, value in enumerate(values) if value]
    found = []
    for before, after in itertools.pairwise(signed):
        if values[before] * values[after] > 0:
            continue
        rises = values[after] > 0
        if after == before + 1:
            share = values[before] / (values[before] - values[after])
            at = places[before] + share * (places[after] - places[before])
        else:  # nought in the cells between
            at = float(np.mean(places[before + 1 : after]))
        drawn = np.stack([draw.drawn for draw in curve], axis=1)
        low, high = _ends(_nearest(np.array(places), drawn if rises else -drawn, at))
        found.append(Change(Place(at, min(at, low), max(at, high)), before, after, rises))
    return found


def reached(places: Sequence[float], curve: Sequence[Draw]) -> Place:
    """Where a curve first comes to nought from below; minus infinity: it is there in the lowest cell already.

    Args:
        places: of the cells, rising; numbers of labels as logarithms.
        curve: height above the target, in each of these cells.
    """
    import numpy as np

    def first(heights: Floats) -> Floats:
        at = first_reached(heights, np.zeros(len(heights)), np.array(places))
        return np.where(heights[:, 0] >= 0, -np.inf, at)

    value = float(first(np.array([[draw.value for draw in curve]]))[0])
    low, high = _ends(first(np.stack([draw.drawn for draw in curve], axis=1)))
    return Place(value, min(value, low), max(value, high))


def _nearest(places: Floats, rising: Floats, at: float) -> Floats:
    """For each draw (rows; columns are cells) the crossing from minus to plus that is nearest to `at`."""
    import numpy as np

    # without a crossing, what is minus at the end will rise beyond it; of a falling one, turned over, the same holds
    best = np.where(rising[:, -1] <= 0, np.inf, -np.inf)
    for index in range(len(places) - 1):
        before, after = rising[:, index], rising[:, index + 1]
        crosses = (before <= 0) & (after > 0)
        share = -before / np.where(crosses, after - before, 1.0)
        here = places[index] + share * (places[index + 1] - places[index])
        best = np.where(crosses & (np.abs(here - at) < np.abs(best - at)), here, best)
    return best


def _ends(drawn: Floats) -> tuple[float, float]:
    """The ends of the 95 % interval; with `nearest`, since infinities cannot be interpolated."""
    import numpy as np

    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], method="nearest")
    return float(low), float(high)
