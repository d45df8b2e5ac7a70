"""Means over seeds, their intervals and tests (docs/metrics.md), and the difference of two samples (docs/ci.md).

There are two policies. `interval` and `p_value` describe one table: Student's t below six seeds, and from six on the
studentised bootstrap and the sign-flip test. `contrast` compares two versions of the code and uses Student's t for any
number of seeds: sign flips of `n` seeds cannot give a p below `2^(1-n)`, and Holm's correction for thirty rows raises
that above 5% for up to ten seeds.
"""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
FEW = 6  # below this many seeds, all values are shown and Student's t is used
RESAMPLES = 9999
LEAST = 1e-9  # points; adding accuracies in another order changes them by less
ROUNDING = 1e-12  # share of the values; smaller differences come from adding in another order


class Sample(NamedTuple):
    """One number per seed, in the order of `seeds`."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean, or NaN if there are no values."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def points(self) -> Sample:
        """Convert shares to points of accuracy, or percent."""
        return Sample(self.seeds, tuple(100 * value for value in self.values))

    def over(self, seeds: Container[int]) -> Sample:
        """Keep only the given seeds, in the order of the sample."""
        kept = [(seed, value) for seed, value in zip(*self, strict=True) if seed in seeds]
        return Sample(tuple(seed for seed, _ in kept), tuple(value for _, value in kept))

    def minus(self, other: Sample) -> Sample:
        """Subtract seed by seed, for the seeds that both samples have."""
        theirs = dict(zip(other.seeds, other.values, strict=True))
        pairs = [(seed, value - theirs[seed]) for seed, value in zip(*self, strict=True) if seed in theirs]
        return Sample(tuple(seed for seed, _ in pairs), tuple(value for _, value in pairs))


class Interval(NamedTuple):
    """A 95% interval of a mean; `how` names the method."""

    low: float
    high: float
    how: str


def columns(within: Interval | None) -> dict[str, float | str | None]:
    """Write an interval as columns of a flat table, each `None` if there is no interval."""
    low, high, how = within or (None, None, None)
    return {"low": low, "high": high, "interval": how}


def averaged(samples: Iterable[Sample]) -> Sample:
    """Average several samples seed by seed, over the seeds that all of them have."""
    tables = [dict(zip(*sample, strict=True)) for sample in samples]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    return Sample(tuple(shared), tuple(statistics.fmean(table[seed] for table in tables) for seed in shared))


def rounded(sample: Sample) -> Sample:
    """Set to 0 the differences, in points, that come from adding accuracies in another order."""
    return Sample(sample.seeds, tuple(map(_rounded, sample.values)))


@lru_cache(4096)  # several tables of the same records ask for the same intervals
def interval(sample: Sample) -> Interval | None:
    """Return a 95% interval of the mean; `None` for fewer than two seeds.

    Uses Student's t below six seeds and the studentised bootstrap from six on. Without variance the interval is the
    point itself.
    """
    values = np.asarray(sample.values)
    n = len(values)
    if n < 2:
        return None
    mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(n))
    if _constant(values):
        return Interval(mean, mean, "no variance")
    if n < FEW:
        from scipy.stats import t

        reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
        return Interval(mean - reach, mean + reach, f"Student's t, {n - 1} df")
    low, high = _studentised(values, mean, error)
    return Interval(low, high, f"studentised bootstrap, {n} seeds")


def p_value(sample: Sample) -> float | None:
    """Return the two-sided p-value that the mean of paired differences is 0; `None` for fewer than two seeds.

    Uses Student's t below six seeds and the sign-flip test from six on. Without variance p is 0, or 1 if the
    difference is 0.
    """
    values = np.asarray(sample.values)
    n = len(values)
    if n < 2:
        return None
    if _constant(values):
        return 1.0 if values[0] == 0 else 0.0
    if n >= FEW:
        return _sign_flip(values)
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of one table's claims for their number (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _studentised(values: NDArray[np.float64], mean: float, error: float) -> tuple[float, float]:
    """Bootstrap the t statistic, with a fixed seed: a table always prints the same numbers."""
    n = len(values)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, n))
    spread = drawn.std(axis=1, ddof=1) / math.sqrt(n)
    varied = np.ptp(drawn, axis=1) > ROUNDING * np.abs(values).max()
    ratios = (drawn.mean(axis=1)[varied] - mean) / spread[varied]
    low, high = np.quantile(ratios, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    return mean - float(low) * error, mean - float(high) * error


def _sign_flip(values: NDArray[np.float64]) -> float:
    """Compare the mean with the means under all sign flips, or under many random ones beyond 12 seeds."""
    n = len(values)
    if n <= 12:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    else:
        drawn = np.random.default_rng(0).choice([1.0, -1.0], (RESAMPLES, n))
        signs = np.vstack([np.ones(n), drawn])
    means = np.abs(signs @ values)
    return float(np.mean(means >= means[0] - ROUNDING * np.abs(values).sum()))


def _constant(values: NDArray[np.float64]) -> bool:
    """Return whether values differ by no more than rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


class Contrast(NamedTuple):
    """HEAD's mean minus BASE's, its 95% interval, and p before any correction; `how` names the test.

    Interval and p are `None` if a side has only one seed.
    """

    base: float
    head: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    how: str


def contrast(base: Sample, head: Sample) -> Contrast:
    """Compare two samples that have values.

    Seeds are paired if both sides share at least two, or share one and a side has no other. Unshared seeds are then
    left out.
    """
    shared = set(base.seeds) & set(head.seeds)
    if len(shared) > 1 or (shared and 1 in (len(base.seeds), len(head.seeds))):
        return _paired(base.over(shared), head.over(shared))
    return _unpaired(base, head)


def _paired(base: Sample, head: Sample) -> Contrast:
    from scipy.stats import ttest_1samp

    values = [_rounded(value) for value in head.minus(base).values]
    n = len(values)
    if n == 1:
        return _single(base, head, values[0], "one seed")
    known = f"paired t, {n - 1} df", _spread(values), lambda: ttest_1samp(values, 0.0)
    return _tested(base, head, math.fsum(values) / n, *known)


def _unpaired(base: Sample, head: Sample) -> Contrast:
    from scipy.stats import ttest_ind

    difference = _rounded(head.mean - base.mean)
    sizes = f"{len(base.values)} and {len(head.values)}"
    if min(len(base.values), len(head.values)) < 2:
        return _single(base, head, difference, f"unpaired, {sizes} seeds")
    spread = max(_spread(base.values), _spread(head.values))
    test = lambda: ttest_ind(head.values, base.values, equal_var=False)  # noqa: E731
    return _tested(base, head, difference, f"Welch's t, {sizes} seeds", spread, test)


def _single(base: Sample, head: Sample, difference: float, how: str) -> Contrast:
    return Contrast(base.mean, head.mean, difference, None, None, None, how)


def _tested(
    base: Sample, head: Sample, difference: float, how: str, spread: float, test: Callable[[], Any]
) -> Contrast:
    """Test a difference; without variance p is 0, or 1 if the difference is 0."""
    if spread == 0:
        sure = 1.0 if difference == 0 else 0.0
        return Contrast(base.mean, head.mean, difference, difference, difference, sure, how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns if values are nearly identical
        found = test()
    within = found.confidence_interval(LEVEL)
    return Contrast(base.mean, head.mean, difference, float(within.low), float(within.high), float(found.pvalue), how)


def _spread(values: tuple[float, ...] | list[float]) -> float:
    """Return the range of values, or 0 if it is no more than rounding."""
    reach = max(values) - min(values)
    return 0.0 if reach <= max(LEAST, ROUNDING * max(map(abs, values))) else reach


def _rounded(value: float) -> float:
    return 0.0 if abs(value) < LEAST else value
