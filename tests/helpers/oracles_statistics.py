"""Tests of significance by enumeration, in exact arithmetic. Nothing here imports the package under test."""

from collections.abc import Sequence
from fractions import Fraction


def flips(values: Sequence[float]) -> float:
    """Return the share of all signs under which the sum is at least as far from 0 as it is."""
    exact = [Fraction(value) for value in values]
    sums = [Fraction(0)]
    for value in exact:
        sums = [each + sign * value for each in sums for sign in (1, -1)]
    seen = abs(sum(exact, Fraction(0)))
    return sum(abs(each) >= seen for each in sums) / len(sums)
