"""Coordinate-wise trimmed mean: drop the `f` largest and the `f` smallest values (Yin et al., ICML 2018)."""

from agrbench.plugins import Defense
from agrbench.server.ranks import Between, BetweenBySize
from agrbench.server.rounds import Round


def trimmed_mean(round: Round, *, weighted: bool = False) -> Between | BetweenBySize:
    """Average the middle `n - 2f` values of each column.

    Variants: `weighted=True` cuts `f / n` of all claimed examples at each end and averages the others, as
    the code of Portnoy, Tirosh and Hendler (2020) does, except that a row on the edge is cut in part. It believes the
    claims: a row that claims more than `f / n` of all examples is never cut whole.
    """
    n, f = round.n, round.byzantine
    return BetweenBySize(round.sizes, f, n - f) if weighted else Between(f, n - f)


defense = Defense(
    trimmed_mean,
    family="coordinate",
    requires=lambda n, f: 2 * f < n,
    bound=lambda n, f, *, weighted=False: None if weighted else 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)),
    proof="Allouah et al., AISTATS 2023",
)
