"""Coordinate-wise median; an even number of rows averages the two middle values (Yin et al., ICML 2018)."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import between


def median(round: Round) -> Callable[[Tensor], Tensor]:
    """Share each column among its middle values: one for an odd number of rows, two for an even."""
    n = len(round.view)
    return partial(between, low=(n - 1) // 2, high=n // 2 + 1)


defense = Defense(
    median,
    family="coordinate",
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f: 4 * (1 + f / (n - 2 * f)) ** 2,
    proof="Allouah et al., AISTATS 2023",
)
