"""LoMar: keep the updates that are as dense as their neighbours, by kernel density (Li et al., IEEE TDSC 2021)."""

import torch
from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import middle
from agrbench.server.rounds import Round
from agrbench.server.scores import smallest

FARTHEST = 1e300  # the largest exponent: it keeps log densities above minus infinity


def lomar(round: Round, *, neighbours: int | None = None) -> Tensor:
    """Average the `n - f` rows with the lowest `(mean of q over i's neighbours) / q(i)`: `(rows,)`.

    `q(i)` is the mean Gaussian kernel to the `neighbours` nearest others (default `n // 2`), in logarithms; its
    bandwidth is the median distance to the last of them. From memory of the paper, which judges the parameters of each
    label separately.
    """
    distances = round.geometry.distances.clone().fill_diagonal_(float("inf"))
    n = len(distances)
    count = torch.tensor(float(max(n // 2, 1) if neighbours is None else neighbours))
    near = distances.sort(dim=1, stable=True)
    squared, who = near.values[:, : int(count)], near.indices[:, : int(count)]
    bandwidth = middle(squared[:, -1].sqrt()).square()
    exponents = torch.where(squared > 0, squared / (2 * bandwidth), 0.0).clamp(max=FARTHEST)
    density = (-exponents).logsumexp(1) - count.log()
    return smallest(density[who].logsumexp(1) - count.log() - density, n - round.byzantine)


defense = Defense(
    lomar,
    family="density",
    requires=lambda n, f, *, neighbours=None: 2 * f < n and n > 1 and (neighbours is None or 1 <= neighbours < n),
    waives={"resists": "colluding clients who send the same are the densest of all"},
)
