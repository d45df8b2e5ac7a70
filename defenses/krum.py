"""Krum: trust the one update closest to its neighbours (Blanchard et al., NeurIPS 2017)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.rounds import Round
from agrbench.selection import smallest


def krum(round: Round) -> Tensor:
    """Pick the row whose `n - f - 2` nearest *other* rows have the smallest sum of squared distances: `(rows,)`."""
    distances = round.geometry.distances.clone().fill_diagonal_(float("inf"))
    nearest = distances.sort(dim=1).values[:, : len(distances) - round.byzantine - 2]
    return smallest(nearest.sum(1), 1)


defense = Defense(krum, family="distance", requires=lambda n, f: 2 * f + 2 < n)
