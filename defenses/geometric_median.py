"""Geometric median, by the smoothed Weiszfeld steps of RFA (Pillutla et al., IEEE TSP 2022)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.weighted_means import between_means, from_mean

FINE = 1e-6  # times the median distance: smaller distances count as this, and smaller steps end the search
MOST = 100


def geometric_median(round: Round, *, steps: int | None = None) -> Tensor:
    """Reweigh rows by `1 / max(|g_i - v|, nu)`, with `v` the last weighted mean, at first the plain mean: `(rows,)`.

    `nu` is 1e-6 of the median `|g_i - v|`. Stop after a step no longer than `nu`, after 100 steps, or when more than
    half of the rows equal `v`. Variants: `steps=3` is RFA as published; `steps=8` is how Karimireddy et al. (ICML 2021)
    run it.
    """
    distances = round.geometry.distances
    weights = torch.full_like(distances[0], 1 / len(distances))
    for _ in range(MOST if steps is None else steps):
        away = from_mean(weights, distances).sqrt()
        least = FINE * middle(away)
        if least == 0:
            break
        before, weights = weights, 1 / away.clamp(min=least)
        weights = weights / weights.sum()
        if between_means(weights - before, distances) <= least.square():
            break
    return weights


defense = Defense(
    geometric_median,
    family="distance",
    requires=lambda n, f, *, steps=None: 2 * f < n and (steps is None or steps >= 1),
    bound=lambda n, f, *, steps=None: 4 * (1 + f / (n - 2 * f)) ** 2 if steps is None else None,
    proof="Allouah et al., AISTATS 2023, of the exact median",
)
