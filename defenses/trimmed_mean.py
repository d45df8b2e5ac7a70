"""Coordinate-wise trimmed mean: drop the `f` largest and the `f` smallest values (Yin et al., ICML 2018)."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from agrbench.plugins import Defense
from agrbench.server.rounds import Round
from agrbench.server.scores import between


def trimmed_mean(round: Round) -> Callable[[Tensor], Tensor]:
    """Share each column evenly among the `n - 2f` values of its middle."""
    n, f = len(round.view), round.byzantine
    return partial(between, low=f, high=n - f)


defense = Defense(
    trimmed_mean,
    family="coordinate",
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f: 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)),
    proof="Allouah et al., AISTATS 2023",
)
