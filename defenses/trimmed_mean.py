"""Coordinate-wise trimmed mean: drop the `f` largest and the `f` smallest values (Yin et al., ICML 2018)."""

from agrbench.plugins import Defense
from agrbench.server.ranks import Between
from agrbench.server.rounds import Round


def trimmed_mean(round: Round) -> Between:
    """Average the middle `n - 2f` values of each column."""
    n, f = round.n, round.byzantine
    return Between(f, n - f)


defense = Defense(
    trimmed_mean,
    family="coordinate",
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f: 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)),
    proof="Allouah et al., AISTATS 2023",
)
