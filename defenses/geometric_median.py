"""Geometric median, by the smoothed Weiszfeld steps of RFA (Pillutla et al., IEEE TSP 2022)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle, middle_by_size
from agrbench.server.rounds import Round
from agrbench.server.weighted_means import between_means, from_mean

FINE = 1e-6  # times the median distance: smaller distances count as this, and smaller steps end the search
MOST = 100


def geometric_median(round: Round, *, steps: int | None = None, weighted: bool = False) -> Tensor:
    """Reweigh rows by `1 / max(|g_i - v|, nu)`, with `v` the last weighted mean, at first the plain mean: `(rows,)`.

    `nu` is 1e-6 of the median `|g_i - v|`. Stop after a step no longer than `nu`, after 100 steps, or when more than
    half of the rows equal `v`. Variants: `steps=3` is RFA as published; `steps=8` is how Karimireddy et al. (ICML 2021)
    run it. `weighted=True` multiplies each weight by the number of examples that the row claims, as RFA does, and takes
    the weighted mean, median and majority throughout. It believes the claims: whoever claims more examples than all
    others together decides the step.
    """
    distances = round.geometry.distances
    sizes = round.sizes.to(distances) if weighted else torch.ones_like(distances[0])
    weights = sizes / sizes.sum()
    for _ in range(MOST if steps is None else steps):
        away = from_mean(weights, distances).sqrt()
        least = FINE * (middle_by_size(away, sizes) if weighted else middle(away))
        if least == 0:
            break
        before, weights = weights, sizes * (1 / away.clamp(min=least))
        weights = weights / weights.sum()
        if between_means(weights - before, distances) <= least.square():
            break
    return weights


defense = Defense(
    geometric_median,
    family="distance",
    requires=lambda n, f, *, steps=None: 2 * f < n and (steps is None or steps >= 1),
    bound=lambda n, f, *, steps=None, weighted=False: (
        None if weighted or steps is not None else 4 * (1 + f / (n - 2 * f)) ** 2
    ),
    proof="Allouah et al., AISTATS 2023, of the exact median",
)
