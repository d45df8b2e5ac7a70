"""Which defenses share a rank: those that paired tests cannot tell from the best of them (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Mapping

from agrbench.results import statistics
from agrbench.results.statistics import FEW, Sample

LEVEL = 1 - statistics.LEVEL


def standings(samples: Mapping[str, Sample]) -> dict[str, int]:
    """Rank defenses by their losses on the same seeds, of which there are two or more; the smallest loss is best.

    The best defense that has no rank yet is compared with all others that have none, by paired tests whose p-values
    are adjusted by Holm's method. It shares its rank with those that do not lose significantly more.
    """
    waiting = sorted(samples, key=lambda name: samples[name].mean)
    ranks: dict[str, int] = {}
    while waiting:
        leader, *others = waiting
        tests = [statistics.p_value(statistics.rounded(samples[name].minus(samples[leader]))) for name in others]
        adjusted = statistics.holm([1.0 if p is None else p for p in tests])
        tied = [leader, *(name for name, p in zip(others, adjusted, strict=True) if p >= LEVEL)]
        ranks |= dict.fromkeys(tied, len(ranks) + 1)
        waiting = [name for name in others if name not in ranks]
    return ranks


def powerless(defenses: int, seeds: int) -> bool:
    """Return whether no difference that varies can be significant among so many defenses, for want of seeds.

    Of `n` seeds, six or more, the sign-flip test has no p below `2^(1 - n)`, and Holm's method multiplies the smallest
    p by the number of comparisons.
    """
    return seeds >= FEW and (defenses - 1) * 2.0 ** (1 - seeds) >= LEVEL
