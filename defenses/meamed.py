"""Meamed: per coordinate, the mean of the values nearest to the median (Xie et al., 2018)."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.ranks import nearest_to_median
from agrbench.server.rounds import Round


def meamed(round: Round) -> Callable[[Tensor], Tensor]:
    """Average, in each column, the `n - f` values nearest to its median."""
    return partial(nearest_to_median, count=round.n - round.byzantine)


defense = Defense(meamed, family="coordinate", requires=lambda n, f: 2 * f < n)
