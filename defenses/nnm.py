"""NNM: replace each update by the mean of its nearest neighbours (Allouah et al., AISTATS 2023)."""

import torch
from torch import Tensor

from agrbench.plugins import Stage
from agrbench.server.rounds import Round


def nnm(round: Round) -> Tensor:
    """Replace each row by the mean of the `n - f` rows nearest to it, itself included: `(rows, rows)`."""
    distances = round.geometry.distances.clone().fill_diagonal_(-1.0)
    count = len(distances) - round.byzantine
    nearest = distances.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(distances).scatter_(1, nearest, 1 / count)


stage = Stage(
    mix=nnm,
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f, kappa: 8 * f / (n - f) * (kappa + 1),
    proof="Allouah et al., AISTATS 2023",
)
