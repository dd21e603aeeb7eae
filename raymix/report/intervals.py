"""Intervals of a comparison: seeds and images resampled, and the smallest difference that they can tell.

`d[s, i]` is 1, 0 or -1: on val image i, with seed s, the first arm was right and the second wrong, both were alike, or
the other way round. Seeds and images are two crossed samples, so both are resampled (Owen 2007, the pigeonhole
bootstrap), images jointly over arms and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

from raymix.plan import Facts
from raymix.report.judging import Judged, expected, unpack_counts
from raymix.report.pilot import Interval, PilotRun
from raymix.spec import JobSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
POWER = 0.80
RESAMPLES = 2000
LEAST_SEEDS = 0.1  # of MS_rest that MS_seeds is taken to be at least
CHUNK = 4_000_000  # numbers held at a time while resampling


class Answers(Protocol):
    """What a run said of the val rows."""

    @property
    def correct(self) -> str:
        """As `pack_correct` has it."""

    @property
    def counts(self) -> str:
        """As `pack_counts` has it; empty where they are not graded."""


class Answered(Answers, Protocol):
    """A run that was judged on val."""

    @property
    def seed(self) -> int:
        """Of the run."""


def pack_correct(correct: Sequence[bool] | NDArray[np.bool_]) -> str:
    """A bit for each val row, in order, as hex; the last byte is filled up with zeros."""
    import numpy as np

    return np.packbits(np.asarray(correct, dtype=bool)).tobytes().hex()


def unpack_correct(text: str, num_rows: int) -> NDArray[np.bool_]:
    """The bits that `pack_correct` wrote. Shape (num_rows,).

    Raises:
        ValueError: the text is not hex, or holds another number of rows.
    """
    import numpy as np

    packed = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(packed) != (num_rows + 7) // 8:
        raise ValueError(f"{len(packed)} bytes of bits cannot be those of {num_rows} rows")
    return np.unpackbits(packed, count=num_rows).astype(bool)


def unpack(runs: Sequence[Answers], val: Judged) -> Floats:
    """What each val row counts by a run's answer: its own where it is right, else 0, or as graded. (runs, val.num)."""
    import numpy as np

    if val.graded:
        return np.stack([unpack_counts(run.counts, val.num) for run in runs])
    return val.credits(np.stack([unpack_correct(run.correct, val.num) for run in runs]))


def differences(a: Sequence[Answered], b: Sequence[Answered], val: Judged) -> Floats:
    """`d` of two arms over the seeds that both have, times what a row counts. Shape (seeds, val.num).

    Raises:
        ValueError: the arms have no seed in common.
    """
    left, right = ({run.seed: run for run in runs} for runs in (a, b))
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        raise ValueError("the arms have no seed in common, so nothing is paired")
    return unpack([left[seed] for seed in seeds], val) - unpack([right[seed] for seed in seeds], val)


def paired_interval(
    a: Sequence[Answered], b: Sequence[Answered], val: Judged, resamples: int = RESAMPLES, rng_seed: int = 0
) -> Interval:
    """95 % interval of the paired difference a minus b, in points of top-1; see `interval_of`.

    Raises:
        ValueError: the arms have no seed in common.
    """
    return interval_of(differences(a, b, val), resamples, rng_seed)


def interval_of(d: Floats, resamples: int = RESAMPLES, rng_seed: int = 0) -> Interval:
    """95 % interval of the mean of `d` (seeds, images), in points: two-level bootstrap, calibrated for few seeds.

    With 5 seeds the plain bootstrap is wrong in both directions. It knows no more than (n - 1)/n of the spread between
    seeds (it covers 88 % where seeds differ most), and counts chance within a seed and image three times (99 % and a
    quarter too wide where they differ least). So its shape is kept and its width is set to t * standard error from the
    crossed analysis of variance. In simulated pilots with 5 and 8 seeds, 5,000 images and 20 % top-1
    (tests/bench/test_coverage.py) it covers 93 to 97 %.
    One seed: the spread between seeds is unknown, and the interval is over images alone.
    """
    import numpy as np

    means = bootstrap_means(d, resamples, rng_seed)
    value, spread = float(d.mean()), float(means.std())
    error, freedom = standard_error(d)
    scale = t_quantile(0.5 + LEVEL / 2, freedom) / NormalDist().inv_cdf(0.5 + LEVEL / 2) * error / (spread or 1.0)
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    # min and max: a rounding error must not put the value outside its own interval
    return Interval(
        value=100 * value,
        low=100 * min(value, value + scale * (float(low) - value)),
        high=100 * max(value, value + scale * (float(high) - value)),
    )


def bootstrap_means(d: Floats, resamples: int, rng_seed: int) -> Floats:
    """Means of `d` (seeds, images) with both drawn anew, images jointly for all seeds. Shape (resamples,)."""
    import numpy as np

    rng = np.random.default_rng(rng_seed)
    num_seeds, num_images = d.shape
    seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, size=resamples) / num_seeds
    means = np.empty(resamples)
    step = max(1, CHUNK // num_images)
    for start in range(0, resamples, step):
        per_image = seeds[start : start + step] @ d
        images = rng.integers(0, num_images, per_image.shape)
        means[start : start + step] = np.take_along_axis(per_image, images, axis=1).mean(axis=1)
    return means


def standard_error(d: Floats) -> tuple[float, float]:
    """Standard error of the mean of `d` (seeds, images), and its degrees of freedom (Satterthwaite).

    Two-way random effects without repetition: error² = (MS_seeds + MS_images - MS_rest) / (seeds * images). MS_seeds is
    taken as it came out, below MS_rest, too: flooring it there would count that chance twice and cover 98 to 99 % where
    seeds differ little. But chance within a seed alone gives a mean square below a tenth of MS_rest once in 57 times
    with 5 seeds, so no less than that is believed. Of MS_images, with degrees of freedom in the thousands, less than
    MS_rest is chance. One seed: over images alone.
    """
    num_seeds, num_images = d.shape
    if num_seeds == 1:
        return float(d.std(ddof=1)) / math.sqrt(num_images) if num_images > 1 else 0.0, max(1.0, num_images - 1.0)
    mean, of_seed, of_image = d.mean(), d.mean(axis=1), d.mean(axis=0)
    rest = d - of_seed[:, None] - of_image[None, :] + mean
    seeds_free, images_free = num_seeds - 1, max(1, num_images - 1)
    ms_rest = float((rest**2).sum()) / (seeds_free * images_free)
    ms_seeds = max(LEAST_SEEDS * ms_rest, num_images * float(((of_seed - mean) ** 2).sum()) / seeds_free)
    ms_images = max(ms_rest, num_seeds * float(((of_image - mean) ** 2).sum()) / images_free)
    total = ms_seeds + ms_images - ms_rest
    if not total:
        return 0.0, float(seeds_free)
    spread = ms_seeds**2 / seeds_free + ms_images**2 / images_free + ms_rest**2 / (seeds_free * images_free)
    return math.sqrt(total / d.size), min(total**2 / spread, d.size - 1.0)


def own_interval(runs: Sequence[Answers], val: Judged) -> Interval:
    """95 % interval of an arm's own mean top-1, over its seeds and the images: t * standard error either way.

    One run: over images alone, as `share_interval` where answers are right or wrong.
    """
    right = unpack(runs, val)
    if len(runs) == 1 and not val.graded:
        return judged_interval(100 * float(right.mean()), val)
    error, freedom = standard_error(right)
    value, half = 100 * float(right.mean()), 100 * t_quantile(0.5 + LEVEL / 2, freedom) * error
    least = -math.inf if val.signed else 0.0
    return Interval(value=value, low=min(value, max(least, value - half)), high=max(value, min(100.0, value + half)))


def judged_interval(score: float, val: Judged) -> Interval:
    """95 % interval, over images alone, of a score in percent: Wilson's, of as many rows as count alike."""
    return share_interval(score / 100 * val.effective, val.effective)


def share_interval(right: float, num: float) -> Interval:
    """95 % interval of a share in percent, `right` of `num` images being right (Wilson 1927)."""
    z, p = NormalDist().inv_cdf(0.5 + LEVEL / 2), min(1.0, max(0.0, right / num))
    middle = (p + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * math.sqrt(p * (1 - p) / num + (z / (2 * num)) ** 2)
    # where all or none are right rounding would put the share itself outside
    low, high = max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))
    return Interval(value=100 * p, low=100 * low, high=100 * high)


def detectable_in(d: Floats) -> float:
    """Smallest difference, in points, that a comparison with the spread of `d` finds in 80 % of repetitions.

    (t_0.975 + t_0.80) * standard error, and never less than one image.
    """
    error, freedom = standard_error(d)
    told = 100 * (t_quantile(0.5 + LEVEL / 2, freedom) + t_quantile(POWER, freedom)) * error
    return max(100 / int(d.shape[1]), told)


def detectable(
    num_val: int, num_seeds: int, top1: float = 20.0, agreement: float = 0.5, shared: float = 0.1, seed_sd: float = 0.3
) -> float:
    """Smallest true difference, in points, that val rows and paired seeds tell at 95 % with 80 % power, before any run.

        (t_0.975 + t_0.80) * error,   t with num_seeds - 1 degrees of freedom
        error² = 2 p (1 - p) (1 - agreement) / num_val * (shared + (1 - shared) / num_seeds) + seed_sd² / num_seeds

    Assumed, and replaced by what was measured once there are runs: both arms near `top1` percent (p = top1 / 100);
    their answers to one image correlate by `agreement`; of what is left, the share `shared` is the same with every
    seed (images that suit one arm); a seed moves the difference by `seed_sd` points beyond that. One seed counts as
    two, though it decides nothing.
    """
    p, seeds = min(max(top1 / 100, 0.01), 0.99), max(1, num_seeds)
    images: float = 2 * p * (1 - p) * (1 - agreement) / max(1, num_val) * (shared + (1 - shared) / seeds)
    error = math.sqrt(images + (seed_sd / 100) ** 2 / seeds)
    freedom = max(1, seeds - 1)
    return 100 * (t_quantile(0.5 + LEVEL / 2, freedom) + t_quantile(POWER, freedom)) * error


def foretold(spec: JobSpec, facts: Facts, num_seeds: int) -> float:
    """`detectable` of a job by its metric: as told before a pilot begins, and kept in its report."""
    return detectable(expected(spec, facts), num_seeds)


def t_quantile(q: float, freedom: float) -> float:
    """Quantile of Student's t by the Cornish-Fisher expansion: within 0.3 % from 4 degrees of freedom on."""
    z, v = NormalDist().inv_cdf(q), max(1.0, freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


# ---- speed-up -----------------------------------------------------------------------------------------------------


def speedup(lead: Sequence[PilotRun], rival: Sequence[PilotRun], resamples: int = 10_000) -> Interval | None:
    """Rival's step-seconds at T over the lead's seconds to the rival's accuracy there, with a 95 % interval over seeds.

    Between the lead's full-length runs accuracy is interpolated in log seconds, never read off a longer run's curve;
    seconds are those of the frozen plans. None where the lead has one length only, shares no seed with the rival, or
    does not reach the rival's accuracy at any length. At or before the shortest length compared, the value is that
    length's: a lower bound. `low` is 0 where more of the resamples than the interval leaves out never reach it.
    Percentiles are widened for few seeds as Hesterberg (2015) does, since a bootstrap of 5 is too narrow.
    """
    import numpy as np

    target = {run.seed: run for run in at_length(rival, 1.0)}
    lengths = sorted({run.length for run in lead})
    by_length = [{run.seed: run for run in at_length(lead, length)} for length in lengths]
    seeds = sorted(set(target).intersection(*by_length))
    if len(lengths) < 2 or not seeds:
        return None
    accuracy = np.array([[runs[seed].top1 for runs in by_length] for seed in seeds])
    rival_accuracy = np.array([target[seed].top1 for seed in seeds])
    log_seconds = np.log([np.mean([runs[seed].planned_seconds for seed in seeds]) for runs in by_length])
    rival_seconds = float(np.mean([target[seed].planned_seconds for seed in seeds]))

    def ratio(weights: Any) -> Floats:
        reached = first_reached(weights @ accuracy, weights @ rival_accuracy, log_seconds)
        return np.where(np.isfinite(reached), rival_seconds / np.exp(reached), 0.0)

    n = len(seeds)
    value = float(ratio(np.full((1, n), 1 / n))[0])
    if not value:
        return None
    drawn = ratio(np.random.default_rng(0).multinomial(n, [1 / n] * n, size=resamples) / n)
    tail = NormalDist().cdf(-t_quantile(0.5 + LEVEL / 2, n - 1) * math.sqrt(n / max(1, n - 1)))
    low, high = np.quantile(drawn, [tail, 1 - tail], method="nearest")
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))


def at_length(runs: Sequence[PilotRun], length: float) -> tuple[PilotRun, ...]:
    """The runs of one length, a multiple of T."""
    return tuple(run for run in runs if math.isclose(run.length, length, rel_tol=1e-6))


def first_reached(curves: Floats, targets: Floats, log_seconds: Floats) -> Floats:
    """Log seconds at which each curve (rows; columns are lengths) first reaches its target; infinity where never."""
    import numpy as np

    reached = np.where(curves[:, 0] >= targets, log_seconds[0], np.inf)
    for i in range(1, curves.shape[1]):
        before, after = curves[:, i - 1], curves[:, i]
        rise = np.where(after > before, after - before, 1.0)
        crossing = log_seconds[i - 1] + (targets - before) / rise * (log_seconds[i] - log_seconds[i - 1])
        reached = np.where(np.isinf(reached) & (after >= targets), crossing, reached)
    return reached
