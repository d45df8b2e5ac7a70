"""Geometric median: the point of least summed distance to the updates, or RFA's steps to it (Pillutla et al., 2022)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import distances_to
from agrbench.server.medians import minimiser
from agrbench.server.ranks import middle, middle_by_size
from agrbench.server.rounds import Round
from agrbench.server.weighted_means import between_means, from_mean

NU = 1e-6  # RFA: times the median distance; smaller distances count as this, and a smaller step is the last


def geometric_median(
    round: Round, *, steps: int | None = None, nu: float | None = None, weighted: bool = False
) -> Tensor:
    """Weigh rows so that their mean minimises `F(v) = sum_i s_i |g_i - v|`, where `s_i = 1 / n`: `(rows,)`.

    `F` is within 2e-9 of its minimum, relatively, or as low as float64 can tell. If all points of a line segment
    minimise `F`, the result is the mean of the rows at its ends.

    Variants: `steps=3` is RFA as published (Pillutla et al., IEEE TSP 2022, Algorithm 2); the authors' code takes 4 by
    default. Starting from the mean, each step weighs rows by `s_i / max(|g_i - v|, nu)`, with `v` the last weighted
    mean and `nu` 1e-6 of the median `|g_i - v|`. It stops early after a step no longer than `nu`, or when more than
    half of the rows equal `v`. If `nu` is given, the steps start from zero instead, and all are taken:
    `steps=8,nu=0.1` is the code of Karimireddy et al. (ICML 2021, ICLR 2022) on gradients, and `steps=3,nu=0.1` is
    byzfl 0.0.11. Such a `nu` depends on the unit: one step at rate 0.01 turns 0.1 on gradients into 0.001 on updates.

    `weighted=True` sets `s_i` to the share of all examples that the row claims, as RFA does, and takes the weighted
    mean, median and majority throughout. It believes the claims: whoever claims more examples than all others together
    decides the step.
    """
    distances = round.geometry.distances
    sizes = round.sizes.to(distances) if weighted else torch.ones_like(distances[0])
    if steps is None:
        return minimiser(distances, sizes / sizes.sum())
    return reweighed(distances, sizes, steps, weighted) if nu is None else from_zero(round, sizes, steps, nu)


def from_zero(round: Round, sizes: Tensor, steps: int, nu: float) -> Tensor:
    """Take smoothed Weiszfeld steps from 0; distances below `nu` count as `nu`."""
    squares = distances_to(round.view, torch.zeros_like(round.view[0]))
    for _ in range(steps):
        weights = sizes / squares.sqrt().clamp(min=nu)
        weights = weights / weights.sum()
        squares = from_mean(weights, round.geometry.distances)
    return weights


def reweighed(distances: Tensor, sizes: Tensor, steps: int, weighted: bool) -> Tensor:
    """Take RFA's smoothed Weiszfeld steps from the mean."""
    weights = sizes / sizes.sum()
    for _ in range(steps):
        away = from_mean(weights, distances).sqrt()
        least = NU * (middle_by_size(away, sizes) if weighted else middle(away))
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
    requires=lambda n, f, *, steps=None, nu=None: (
        2 * f < n and (steps is None or steps >= 1) and (nu is None or (nu > 0 and steps is not None))
    ),
    bound=lambda n, f, *, steps=None, weighted=False: (
        None if weighted or steps is not None else 4 * (1 + f / (n - 2 * f)) ** 2
    ),
    proof="Allouah et al., AISTATS 2023, of the exact median",
)
