"""The difference of two samples: paired where seeds agree, Welch's where they do not (docs/ci.md).

Student's t at every number of seeds: sign flips of `n` seeds give no p below `2^(1-n)`, which a correction for thirty
rows lifts above 5% up to ten seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from agrbench.results.statistics import LEVEL, ROUNDING, Sample

LEAST = 1e-9  # points; what accuracies that are added in another order differ by


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
