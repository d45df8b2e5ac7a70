"""MoNNA: average the updates nearest to the server's own (Farhadkhani et al., ICML 2023)."""

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.geometry import distances_to
from agrbench.server.rounds import Round
from agrbench.server.scores import smallest


def monna(round: Round) -> Tensor:
    """Average the `n - f` rows at the smallest Euclidean distance to the server's own update: `(rows,)`.

    In the paper each worker takes its own vector as the pivot; here the server takes its update on the root set.
    """
    pivot = round.see(round.server.root[None])[0]
    return smallest(distances_to(round.view, pivot), round.n - round.byzantine)


defense = Defense(monna, family="trust", requires=lambda n, f: 2 * f < n)
