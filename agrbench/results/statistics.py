"""Means over seeds, their intervals and tests (docs/metrics.md), and the difference of two samples (docs/ci.md).

Two policies live here. `interval` and `p_value` describe one table: Student's t below six seeds, and from six on the
studentised bootstrap and the sign-flip test. `contrast` compares two versions of the code and uses Student's t at every
number of seeds: sign flips of `n` seeds give no p below `2^(1-n)`, which Holm's correction for thirty rows lifts above
5% up to ten seeds.
"""

from __future__ import annotations

import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
FEW = 6  # below so many seeds all values are shown and Student's t is used
RESAMPLES = 9999
LEAST = 1e-9  # points; what accuracies that are added in another order differ by
ROUNDING = 1e-12  # differences below this share of the values are those of adding in another order


class Sample(NamedTuple):
    """One number a seed, in the order of `seeds`."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Give the mean, NaN where there are no values."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def points(self) -> Sample:
        """Turn shares into points of accuracy, or percent."""
        return Sample(self.seeds, tuple(100 * value for value in self.values))

    def over(self, seeds: Container[int]) -> Sample:
        """Keep some of the seeds, in their order."""
        kept = [(seed, value) for seed, value in zip(*self, strict=True) if seed in seeds]
        return Sample(tuple(seed for seed, _ in kept), tuple(value for _, value in kept))

    def minus(self, other: Sample) -> Sample:
        """Subtract seed by seed, where both have the seed."""
        theirs = dict(zip(other.seeds, other.values, strict=True))
        pairs = [(seed, value - theirs[seed]) for seed, value in zip(*self, strict=True) if seed in theirs]
        return Sample(tuple(seed for seed, _ in pairs), tuple(value for _, value in pairs))


class Interval(NamedTuple):
    """A 95% interval of a mean; `how` says where it comes from."""

    low: float
    high: float
    how: str


def columns(within: Interval | None) -> dict[str, float | str | None]:
    """Write an interval as columns of a flat table, `None` where there is none."""
    low, high, how = within or (None, None, None)
    return {"low": low, "high": high, "interval": how}


def averaged(samples: Iterable[Sample]) -> Sample:
    """Average several samples seed by seed, over the seeds that all have."""
    tables = [dict(zip(*sample, strict=True)) for sample in samples]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    return Sample(tuple(shared), tuple(statistics.fmean(table[seed] for table in tables) for seed in shared))


def interval(sample: Sample) -> Interval | None:
    """Give a 95% interval of the mean; `None` for one seed or none.

    Below six seeds it is Student's t; from six on the studentised bootstrap. Without variance it is the point itself.
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
    """Test whether paired differences are 0 in the mean, two-sided.

    Student's t below six seeds, the sign-flip test from six on; `None` for fewer than two. Without variance
    0, or 1 where the difference is 0.
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
    """Adjust the p-values of one table's claims for their number (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def _studentised(values: NDArray[np.float64], mean: float, error: float) -> tuple[float, float]:
    """Bootstrap the t statistic with a fixed seed, so that a table prints the same numbers twice."""
    n = len(values)
    drawn = np.random.default_rng(0).choice(values, (RESAMPLES, n))
    spread = drawn.std(axis=1, ddof=1) / math.sqrt(n)
    varied = np.ptp(drawn, axis=1) > ROUNDING * np.abs(values).max()
    ratios = (drawn.mean(axis=1)[varied] - mean) / spread[varied]
    low, high = np.quantile(ratios, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    return mean - float(low) * error, mean - float(high) * error


def _sign_flip(values: NDArray[np.float64]) -> float:
    """Compare the mean with those under all flips of signs, or under many random ones beyond 12 seeds."""
    n = len(values)
    if n <= 12:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n)))
    else:
        drawn = np.random.default_rng(0).choice([1.0, -1.0], (RESAMPLES, n))
        signs = np.vstack([np.ones(n), drawn])
    means = np.abs(signs @ values)
    return float(np.mean(means >= means[0] - ROUNDING * np.abs(values).sum()))


def _constant(values: NDArray[np.float64]) -> bool:
    """Say whether values differ by no more than rounding."""
    return bool(np.ptp(values) <= ROUNDING * np.abs(values).max())


class Contrast(NamedTuple):
    """HEAD's mean less BASE's, its 95% interval and p before any correction; `how` says where they come from.

    Interval and p are `None` where a side has one seed only.
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

    Pairs are taken where two seeds or more agree, or where a side has no other; the other seeds are then left out.
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
    """Test a difference; without variance p is 0, or 1 where there is no difference."""
    if spread == 0:
        sure = 1.0 if difference == 0 else 0.0
        return Contrast(base.mean, head.mean, difference, difference, difference, sure, how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns of values that are nearly all alike
        found = test()
    within = found.confidence_interval(LEVEL)
    return Contrast(base.mean, head.mean, difference, float(within.low), float(within.high), float(found.pvalue), how)


def _spread(values: tuple[float, ...] | list[float]) -> float:
    """Give the range of values, 0 where it is no more than rounding."""
    reach = max(values) - min(values)
    return 0.0 if reach <= max(LEAST, ROUNDING * max(map(abs, values))) else reach


def _rounded(value: float) -> float:
    return 0.0 if abs(value) < LEAST else value
