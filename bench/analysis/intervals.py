"""Intervals and paired comparisons, always over pictures.

Summaries, comparisons and claims call it. The repetitions of one picture are averaged first, because a second draw of
the noise for the same photograph says nothing about other photographs.

Bootstrap intervals are percentile intervals with the small-sample correction of Hesterberg, "What Teachers Should Know
About the Bootstrap" (The American Statistician, 2015). On normal data with 7 pictures, the plain percentile interval of
a mean contains the true mean in 89 % of cases, and this one in 95 %. But no resample leaves the range of the pictures.
Half of the time the true mean lies outside the range of two pictures. So if the pictures are `few`, fewer than 7, the
interval is Student's. The results are fixed by `seed`. NaN means "not simulated" and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit  # importing scipy.stats would take a second

from bench.measure.metrics.segmentation import mean_iou, mean_iou_of_resample

LEVEL = 0.95
LEVEL_TEXT = f"{100 * LEVEL:g} %"  # as tables and figures name it
RESAMPLES = 2000
DECIMALS = 12  # differences are rounded to this many decimals; smaller ones are rounding errors
_CHUNK = 2_000_000  # resampled indices in memory at a time
_TOGETHER = 16  # columns of one matrix product


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval over `n` pictures. NaN: low, high and std at n = 1, all values at n = 0."""

    mean: float
    std: float
    low: float
    high: float
    n: int

    @property
    def decision(self) -> str:
        """Of a difference: "higher", "lower", "tied" (the interval contains 0) or "undecided" (there is no interval, it
        lies on the other side of 0 than its mean, as a biased one may, or it contains 0 and the pictures are too few
        to show that two systems are alike).
        """
        if math.isnan(self.low) or math.isnan(self.high) or self.mean <= 0 < self.low or self.high < 0 <= self.mean:
            return "undecided"
        open_ = few(self.n) and self.low < self.high  # without a width, all pictures are alike
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "undecided" if open_ else "tied"

    @property
    def tied(self) -> bool:
        """Whether no difference is shown."""
        return self.decision in ("tied", "undecided")


# ---------------------------------------------------------------- bootstrap over pictures


def per_image(values: np.ndarray) -> np.ndarray:
    """Mean over the repetitions of each picture: (images,) or (images, repetitions) -> (images,). NaN if none was
    simulated.

    Raises ValueError for another shape.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        return values
    if values.ndim != 2:
        raise ValueError(f"values have shape {values.shape}, they must be (images,) or (images, repetitions)")
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def bootstrap_mean(values: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean over pictures with its interval. values: (images,) or (images, repetitions). std:
    over pictures, with n - 1.
    """
    return bootstrap_means([values], level, resamples, seed)[0]


def bootstrap_means(
    columns: Sequence[np.ndarray], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """`bootstrap_mean` of many points at once: one array (images,) or (images, repetitions) per point.

    Points with equally many pictures share their resamples. Each interval is exactly the one that the point would have
    alone.
    """
    known = [values[~np.isnan(values)] for values in map(per_image, columns)]
    found: list[Interval | None] = [None] * len(known)
    groups: dict[int, list[int]] = {}
    for index, values in enumerate(known):
        groups.setdefault(len(values), []).append(index)
    for n, members in groups.items():
        if n >= 2 and not few(n, level):
            sums = resampled_sums(np.stack([known[index] for index in members], axis=1), resamples, seed)
        for place, index in enumerate(members):
            mean = float(known[index].mean()) if n else math.nan
            if n < 2:
                found[index] = Interval(mean, math.nan, math.nan, math.nan, n)
                continue
            std = float(known[index].std(ddof=1))
            if few(n, level):  # of a mean, Student's interval is a closed form, which needs no resamples
                ends = _students(mean, std / math.sqrt(n), n, level)
            else:
                ends = percentiles(sums[:, place] / n, n, level)
            found[index] = Interval(mean, std, *ends, n)
    return [interval for interval in found if interval is not None]


def resampled_sums(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over resampled pictures, (resamples, columns), of values (images, columns).

    A resample is stored as the number of times that each picture was drawn, so that all columns become one matrix
    product. Columns are padded to blocks of equal width, so the sums of a column do not depend on the number of other
    columns.
    """
    n, count = values.shape
    padded = np.zeros((-(-count // _TOGETHER), n, _TOGETHER))
    for index in range(count):
        padded[index // _TOGETHER, :, index % _TOGETHER] = values[:, index]
    sums = np.empty((resamples, len(padded) * _TOGETHER))
    start = 0
    for picks in resample(n, resamples, seed):
        rows = len(picks)
        picks += np.arange(rows)[:, None] * n
        weights = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        for index, block in enumerate(padded):
            sums[start : start + rows, index * _TOGETHER : (index + 1) * _TOGETHER] = weights @ block
        start += rows
    return sums[:, :count]


def paired_difference(
    a: np.ndarray, b: np.ndarray, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of a - b over pictures, with its interval. `.decision` says which is ahead.

    a, b: (images,) or (images, repetitions), with the pictures in the same order. Pictures that either side lacks are
    left out. The differences are resampled, not each side alone. So what all systems share does not widen
    the interval (a difficult photograph is difficult for all). Raises ValueError for different numbers of pictures.
    """
    a, b = per_image(a), per_image(b)
    if a.shape != b.shape:
        raise ValueError(f"a paired comparison needs the same pictures, got {len(a)} and {len(b)}")
    return bootstrap_mean(a - b, level, resamples, seed)


def bootstrap_miou(
    intersections: np.ndarray,
    unions: np.ndarray,
    labelled: np.ndarray,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """mIoU of the data set with its interval, from pixels of each picture and class, (images, classes) each.

    labelled: the pixels that show the class. Repetitions are summed. Pictures are resampled, and the mIoU is computed
    for each resampled sum (`mean_iou_of_resample`). `std` is that of these values (a standard error), because a single
    picture has no mIoU of its own. The ends lie within 0 and 1. Raises ValueError for other shapes.
    """
    intersections, unions, labelled = (
        np.asarray(pixels, dtype=np.float64) for pixels in (intersections, unions, labelled)
    )
    if not intersections.shape == unions.shape == labelled.shape or intersections.ndim != 2:
        raise ValueError(
            f"intersections {intersections.shape}, unions {unions.shape} and labelled {labelled.shape} must be "
            "(images, classes)"
        )
    n = len(unions)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(mean_iou(intersections.sum(axis=0), unions.sum(axis=0)))
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1)
    sums = resampled_sums(np.concatenate([intersections, unions, labelled], axis=1), resamples, seed)
    values = mean_iou_of_resample(*np.split(sums, 3, axis=1), labelled.sum(axis=0))
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(mean, math.nan, math.nan, math.nan, n)
    return _within_0_and_1(Interval(mean, float(values.std(ddof=1)), *percentiles(values, n, level), n))


def _within_0_and_1(interval: Interval) -> Interval:
    """Student's interval of a share may leave the values that a share can have."""
    return replace(interval, low=float(np.maximum(0.0, interval.low)), high=float(np.minimum(1.0, interval.high)))


def resample(n: int, resamples: int, seed: int):
    """Indices of pictures drawn with replacement from 0..n-1: int64 (rows, n) arrays, `resamples` rows in all."""
    generator = np.random.Generator(np.random.PCG64(seed))
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        yield generator.integers(0, n, (min(step, resamples - start), n))


def few(n: int, level: float = LEVEL) -> bool:
    """Whether `n` pictures are too few for a bootstrap interval of this level: fewer than 7 at 95 %.

    The mean of a symmetric distribution lies outside the range of `n` values in 2^(1 - n) of all cases. This may be at
    most half of the cases that the level gives up. (With 6 pictures the bootstrap covered 92.4 % of 1,000 trials.)
    """
    return 2.0 ** (1 - n) > (1 - level) / 2


def method_of(n: int) -> str:
    """How an interval over `n` pictures was made, for the column `ci_method`."""
    return "Student's t over images" if few(n) else "bootstrap over images"


def percentiles(values: np.ndarray, n: int, level: float) -> tuple[float, float]:
    """(low, high) of an interval from its bootstrap values (resamples,) over `n` >= 2 pictures, in the values' unit.

    The ends are moved outwards as Student's t and the divisor n - 1 demand. For large n nothing changes. If the
    pictures are `few`, only the spread of the values is used: the interval is Student's.
    """
    if few(n, level):
        return _students(float(values.mean()), math.sqrt(n / (n - 1)) * float(values.std()), n, level)
    quantile = float(stdtrit(n - 1, (1 - level) / 2))
    tail = ndtr(math.sqrt(n / (n - 1)) * quantile)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _students(centre: float, error: float, n: int, level: float) -> tuple[float, float]:
    """(low, high) of Student's interval. error: the standard error of the estimate, in its unit."""
    half = -float(stdtrit(n - 1, (1 - level) / 2)) * error
    return centre - half, centre + half


# ---------------------------------------------------------------- rates


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """A rate with Wilson's score interval (1927). It is right near 0 and 1, where the normal interval leaves [0, 1].

    Raises ValueError unless 0 <= successes <= n.
    """
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan, 0)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is not a rate")
    p, z = successes / n, float(ndtri((1 + level) / 2))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At 0 and n the formula gives 0 and 1, but rounding could put the estimate outside its own interval.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(p, math.sqrt(p * (1 - p)), low, high, n)


def rate_over_images(lost: np.ndarray, level: float = LEVEL) -> tuple[Interval, str]:
    """The rate of an event over pictures. Values are 0 or 1, (images,) or (images, repetitions); NaN: not simulated.

    Returns the interval and its method: Wilson's if every picture's own rate is 0 or 1 (always with one repetition),
    otherwise the bootstrap over pictures.
    """
    rates = per_image(lost)
    rates = rates[~np.isnan(rates)]
    if np.isin(rates, (0.0, 1.0)).all():
        return wilson(int(rates.sum()), len(rates), level), "Wilson"
    return _within_0_and_1(bootstrap_mean(rates, level)), method_of(len(rates))


def zero_error_bound(n: int) -> float:
    """Upper 95 % bound of an error rate after `n` trials without an error: 3/n, from (1 - p)^n = 0.05. NaN at n = 0."""
    return min(1.0, 3 / n) if n else math.nan
