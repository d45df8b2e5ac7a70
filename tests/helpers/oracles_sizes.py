"""Slow, obvious versions of the rules that weigh rows by claimed numbers of examples, in fractions and float64 loops.

Nothing here imports the package under test. A row is one client's update, and `sizes` are whole numbers of examples.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from tests.helpers.oracles import Array, distance


def counted(claims: Sequence[float]) -> list[Fraction]:
    """What is believed of claims: nothing of NaN, infinity and less than 0; of all nothing, that all are alike."""
    believed = [Fraction(c) if math.isfinite(c) and c > 0 else Fraction(0) for c in claims]
    return believed if any(believed) else [Fraction(1)] * len(believed)


def intervals(column: Array, sizes: Sequence[Fraction]) -> list[tuple[Fraction, Fraction]]:
    """Where each row lies if rows of these lengths are laid end to end in the order of their values, ties by id."""
    found, start = [(Fraction(0), Fraction(0))] * len(column), Fraction(0)
    for i in sorted(range(len(column)), key=lambda i: (float(column[i]), i)):
        found[i] = (start, start + sizes[i])
        start += sizes[i]
    return found


def median_weights(view: Array, sizes: Sequence[Fraction]) -> Array:
    """All weight on the row that covers the middle, or half on each of the two rows that meet there."""
    weights = np.zeros(view.shape)
    for j, column in enumerate(view.T):
        half = sum(sizes) / 2
        around = [
            i for i, (start, stop) in enumerate(intervals(column, sizes)) if start <= half <= stop and start < stop
        ]
        for i in around:
            weights[i, j] = 1 / len(around)
    return weights


def trimmed_weights(view: Array, sizes: Sequence[Fraction], f: int) -> Array:
    """The part of each row between the share `f / n` of all sizes and `1 - f / n`, over `1 - 2 f / n`."""
    n, total, weights = len(view), sum(sizes), np.zeros(view.shape)
    low, high = Fraction(f, n), 1 - Fraction(f, n)
    for j, column in enumerate(view.T):
        for i, (start, stop) in enumerate(intervals(column, sizes)):
            overlap = min(stop / total, high) - max(start / total, low)
            weights[i, j] = float(max(overlap, Fraction(0)) / (high - low))
    return weights


def median_of(values: Sequence[float], sizes: Sequence[Fraction]) -> float:
    """The weighted median of numbers."""
    column = np.array(values)
    return float(median_weights(column[:, None], sizes)[:, 0] @ column)


def rfa(view: Array, sizes: Sequence[Fraction], steps: int) -> Array:
    """The weights at the end of smoothed Weiszfeld steps from the weighted mean (RFA, Pillutla et al., 2022)."""
    alpha = np.array([float(size / sum(sizes)) for size in sizes])
    weights, moved = alpha, view - view[0]
    centre = weights @ moved
    for _ in range(steps):
        away = [distance(row, centre) for row in moved]
        typical = median_of(away, sizes)
        if typical == 0:
            break
        pulls = np.array([a / max(d, 1e-6 * typical) for a, d in zip(alpha, away, strict=True)])
        weights = pulls / pulls.sum()
        stepped, centre = distance(weights @ moved, centre), weights @ moved
        if stepped <= 1e-6 * typical:
            break
    return weights


def shares(kept: Sequence[int], sizes: Sequence[Fraction]) -> Array:
    """The kept rows by size; equal shares where none of them has any."""
    some = [size if i in kept else Fraction(0) for i, size in enumerate(sizes)]
    some = some if any(some) else [Fraction(int(i in kept)) for i in range(len(sizes))]
    return np.array([float(size / sum(some)) for size in some])
