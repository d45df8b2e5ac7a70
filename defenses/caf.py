"""CAF: down-weight updates along the direction in which they vary most (Allouah et al., ICML 2025)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.weighted_means import principal

NOTHING = 1e-9  # weights up to this are left by rounding: rows that tie for the longest projection all get 0


def caf(round: Round) -> Tensor:
    """Multiply weights by `1 - tau_i / max tau` until they sum to at most `n - 2f`; return the best seen: `(rows,)`.

    `tau_i` is the squared projection of row `i` on the top eigenvector of the weighted covariance. The best weights are
    those with the smallest top eigenvalue. With `f = 0`, all weights are equal.
    """
    distances = round.geometry.distances
    weights = torch.ones_like(distances[0])
    best, smallest = weights / len(weights), float("inf")
    while weights.sum() > (len(weights) - 2 * round.byzantine) * (1 + NOTHING):
        shares = weights / weights.sum()
        eigenvalue, projections = principal(distances, shares)
        if eigenvalue < smallest:
            best, smallest = shares, float(eigenvalue)
        largest = projections[weights > 0].max()
        if largest == 0:
            break
        weights = weights * (1 - projections / largest)
        weights = torch.where(weights > NOTHING, weights, 0.0)
    return best


defense = Defense(caf, family="spectral", requires=lambda n, f: 2 * f < n)
